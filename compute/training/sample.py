"""The sample: the newest labelled events of a stream, held in bounded memory and in order of time.

Owns which rows stay. Newest means by event time, whatever partition a row comes from and in whatever order
the partitions are read, so the same stream gives the same sample. What makes a row is decided where events
are decoded; what a missing feature becomes is decided as it is in serving, by `model_inputs`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.inputs import model_inputs
from compute.labels import find_class
from compute.metadata import Label
from compute.training.fault import TrainingError

Floats = NDArray[np.float64]

MAX_CLASSES = 50
"""Boosting fits a tree for each of them at every iteration."""

MIN_PRESENT = 0.5
"""Share of the events that must have a feature for it to be taken where nobody named the features."""

_LARGEST = float(np.finfo(np.float32).max)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Sample:
    """Labelled events as rows, in order of event time.

    Attributes
    ----------
    features : tuple of str, length k
    inputs : ndarray, shape (n, k), float64
        What a model would be given.
    targets : ndarray, shape (n,)
        float64 for a regression; classes as integers, or as strings, for a classification.
    timestamps : ndarray, shape (n,), float64, seconds
    classes : tuple of int or str
        Of a classification, sorted.
    positive : int or str or None
        Class whose probability is the score, and that alerts are about; None for a regression.
    left_out : dict of str to float
        Features that nobody named and too few events have, with the share that has them.
    n_incomplete : int
        Rows left out because a feature is missing, or too large for float32.
    """

    features: tuple[str, ...]
    inputs: Floats
    targets: NDArray[np.generic]
    timestamps: Floats
    classes: tuple[Label, ...]
    positive: Label | None
    left_out: dict[str, float]
    n_incomplete: int


class NewestRows:
    """The newest rows of a stream.

    Parameters
    ----------
    task : {"classification", "regression"}
    n_most : int
        Rows that stay; up to twice as many are held.

    Attributes
    ----------
    n_added : int
        Rows that were added so far.
    names : tuple of str
        Names of all features that were seen.

    Examples
    --------
    >>> newest = NewestRows("regression", n_most=2)
    >>> for offset, seconds in enumerate([30.0, 10.0, 20.0]):
    ...     row = np.array([[seconds]])
    ...     newest.add(["heat"], row, row, [1.5], np.array([seconds]), 0, np.array([offset]))
    >>> newest.take(normaliser="none", missing="reject").inputs.tolist()
    [[20.0], [30.0]]
    """

    def __init__(self, task: str, n_most: int) -> None:
        self._task = task
        self._n_most = n_most
        self._columns: dict[str, int] = {}
        self._classes: dict[str, int] = {}
        self._chunks: list[_Chunk] = []
        self._n_held = 0
        self.n_added = 0

    def __len__(self) -> int:
        return min(self._n_held, self._n_most)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all features that were seen."""
        return tuple(self._columns)

    def oldest_seconds(self) -> dict[int, float]:
        """Return by partition the time of the oldest row that stays."""
        self._drop_oldest()
        whole = self._join()
        partitions = whole.partitions
        return {
            number: float(whole.timestamps[partitions == number].min())
            for number in np.unique(partitions).tolist()
        }

    def add(
        self,
        names: Sequence[str],
        inputs: Floats,
        means: Floats,
        targets: Sequence[str] | Sequence[float],
        timestamps: Floats,
        partition: int,
        offsets: NDArray[np.int64],
    ) -> None:
        """Add rows of one partition.

        Parameters
        ----------
        names : sequence of str, length n_features
            Names of the columns.
        inputs, means : ndarray, shape (n, n_features), float64
            Normalised or raw features, NaN where missing, and the entities' means in the window.
        targets : sequence of str or float, length n
            Classes in canonical form, or numbers.
        timestamps : ndarray, shape (n,), float64, seconds
        partition : int
        offsets : ndarray, shape (n,), int64

        Raises
        ------
        TrainingError
            There are more than `MAX_CLASSES` classes.
        """
        for name in names:
            self._columns.setdefault(name, len(self._columns))
        where = [self._columns[name] for name in names]
        wide, wide_means = np.full((2, len(inputs), len(self._columns)), np.nan)
        wide[:, where], wide_means[:, where] = inputs, means
        numbers = np.array([self._number(target) for target in targets], np.float64)
        partitions = np.full(len(inputs), partition, np.int64)
        self._chunks.append(_Chunk(wide, wide_means, numbers, timestamps, partitions, offsets))
        self.n_added += len(inputs)
        self._n_held += len(inputs)
        if self._n_held >= 2 * self._n_most:
            self._drop_oldest()

    def take(
        self,
        *,
        normaliser: str,
        missing: str,
        features: Sequence[str] = (),
        without: str = "",
        positive: str = "",
    ) -> Sample:
        """Return the sample.

        Parameters
        ----------
        normaliser : {"window", "none"}
        missing : {"reject", "mean"}
            What a missing feature does, as in an artefact's metadata; "reject" leaves the row out.
        features : sequence of str
            Features in the order of the model's input; empty: all that at least half of the events have.
        without : str
            A feature that is not taken: the target.
        positive : str
            The positive class; empty: the last one in sorted order.

        Raises
        ------
        TrainingError
            There is no row, or no feature, or a feature or positive class that no event has.
        """
        self._drop_oldest()
        rows = self._join()
        if not len(rows.targets):
            raise TrainingError("no labelled event is left to train on")
        shares = dict(zip(self._columns, (~np.isnan(rows.inputs)).mean(axis=0).tolist(), strict=True))
        shares.pop(without, None)
        chosen = tuple(features) or tuple(n for n, share in shares.items() if share >= MIN_PRESENT)
        unknown = [name for name in chosen if not shares.get(name)]
        if unknown or not chosen:
            raise TrainingError(
                f"features: no labelled event has {', '.join(map(repr, unknown)) or 'any'}; "
                f"there are {', '.join(name for name, share in shares.items() if share) or 'none'}"
            )
        inputs, reasons = model_inputs(
            chosen,
            normaliser=normaliser,
            missing=missing,
            feature_names=self.names,
            matrix=rows.inputs,
            mean=rows.means,
            z=rows.inputs,
        )
        whole = np.all(np.abs(inputs) <= _LARGEST, axis=1)  # false for NaN as well
        whole = whole & ~np.isin(np.arange(len(inputs)), list(reasons))
        classes, targets = self._name_targets(rows.targets[whole])
        return Sample(
            features=chosen,
            inputs=inputs[whole],
            targets=targets,
            timestamps=rows.timestamps[whole],
            classes=classes,
            positive=_find_positive(classes, positive),
            left_out={} if features else {n: share for n, share in shares.items() if n not in chosen},
            n_incomplete=int((~whole).sum()),
        )

    def _number(self, target: str | float) -> float:
        if isinstance(target, float):
            return target
        number = self._classes.get(target)
        if number is None:
            if len(self._classes) == MAX_CLASSES:
                raise TrainingError(
                    f"labels: at most {MAX_CLASSES} classes, the next is {target!r}; numbers are predicted "
                    "by --task regression"
                )
            number = self._classes[target] = len(self._classes)
        return float(number)

    def _name_targets(self, numbers: Floats) -> tuple[tuple[Label, ...], NDArray[np.generic]]:
        if self._task == "regression":
            return (), numbers
        found = list(self._classes)
        present = [found[int(number)] for number in np.unique(numbers)]
        are_integers = all(_INTEGER.fullmatch(name) for name in present)
        names = np.array([int(name) if are_integers and name in present else name for name in found], object)
        targets = names[numbers.astype(np.int64)].astype(np.int64 if are_integers else np.str_)
        classes: list[Label] = [int(name) for name in present] if are_integers else list(present)
        return tuple(sorted(classes)), targets

    def _join(self) -> _Chunk:
        n_columns = len(self._columns)
        if len(self._chunks) != 1 or self._chunks[0].inputs.shape[1] < n_columns:
            self._chunks = [_joined(self._chunks, n_columns)]
        return self._chunks[0]

    def _drop_oldest(self) -> None:
        """Keep the newest rows, in order of time; ties are broken by where a row stands, not when it came."""
        rows = self._join()
        order = np.lexsort((rows.offsets, rows.partitions, rows.timestamps))[-self._n_most :]
        self._chunks = [rows.rows(order)]
        self._n_held = len(order)


class _Chunk(NamedTuple):
    inputs: Floats
    means: Floats
    targets: Floats
    timestamps: Floats
    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def rows(self, chosen: NDArray[np.int64]) -> _Chunk:
        columns: Any = (column.take(chosen, axis=0) for column in self)
        return _Chunk(*columns)


def _find_positive(classes: tuple[Label, ...], wanted: str) -> Label | None:
    """Return the class of this name, or the last one where nobody named one."""
    if not classes or not wanted:
        return classes[-1] if classes else None
    by_name = {str(name): name for name in classes}
    if (found := find_class(wanted, by_name)) is not None:
        return by_name[found]
    told = ", ".join(by_name)
    raise TrainingError(f"positive class: no labelled event is {wanted!r}; there are {told}")


def _joined(chunks: list[_Chunk], n_columns: int) -> _Chunk:
    """Join chunks; those from before a feature was known get columns of NaN for it."""
    blank = np.zeros((0, n_columns)), np.zeros((0, n_columns)), np.zeros(0), np.zeros(0)
    none = np.zeros(0, np.int64)
    padded = [_Chunk(*blank, none, none)]
    for chunk in chunks:
        room = ((0, 0), (0, n_columns - chunk.inputs.shape[1]))
        wide = [np.pad(part, room, constant_values=np.nan) for part in (chunk.inputs, chunk.means)]
        padded.append(chunk._replace(inputs=wide[0], means=wide[1]))
    return _Chunk(*(np.concatenate(column) for column in zip(*padded, strict=True)))
