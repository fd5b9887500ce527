"""Answers to events of one partition as columns: what is needed to judge them once their labels come.

Owns the columns, and how runs of events are joined and parted. Their stored form is in
`compute/answered_format.py`; which label belongs to which event is known to `tables/pending.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.moments import Flags, Floats, Integers

NO_CLASS = -1
"""Index of a class where a version gave no answer."""

MAX_CLASSES = 16
"""Classes up to which probabilities are kept: a matrix of more costs more than it tells."""

Identity = tuple[str, str, str, str, tuple[str, ...], "int | None", bool]


@dataclass(frozen=True, eq=False)
class VersionAnswers:
    """What one version said of n events; it need not have answered all of them.

    Attributes
    ----------
    model, version, role, task : str
        Who answered, and as what.
    classes : tuple of str
        In canonical form; none where numbers are predicted.
    positive : int or None
        Index of the class that the score speaks of.
    scores : ndarray, shape (n,), float64
        NaN where there is no answer.
    predictions : ndarray, shape (n,), int32 or float64
        Indices into the classes, -1 where there is no answer; without classes the numbers predicted, NaN
        where there is none.
    probabilities : ndarray, shape (n, n_classes), float64, or None
        NaN where there is no answer.
    """

    model: str
    version: str
    role: str
    task: str
    classes: tuple[str, ...]
    positive: int | None
    scores: Floats
    predictions: NDArray[Any]
    probabilities: Floats | None = None

    @property
    def identity(self) -> Identity:
        """All that is not a column: answers that have it in common can be one."""
        has_probabilities = self.probabilities is not None
        return (
            *(self.model, self.version, self.role, self.task),
            *(self.classes, self.positive, has_probabilities),
        )

    @property
    def has_answer(self) -> Flags:
        """Which of the events it answered, shape (n,)."""
        found: Flags = self.predictions != NO_CLASS if self.classes else ~np.isnan(self.predictions)
        return found

    def take(self, rows: Integers | slice) -> VersionAnswers:
        """Return the answers to some of the events."""
        return VersionAnswers(
            *(self.model, self.version, self.role, self.task, self.classes, self.positive),
            self.scores[rows],
            self.predictions[rows],
            None if self.probabilities is None else self.probabilities[rows],
        )

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Answered:
    """Events of one partition with all that was answered to them.

    Attributes
    ----------
    offsets : ndarray, shape (n,), int64
        Ascending, with gaps where events were not answered.
    timestamps, record_times : ndarray, shape (n,), float64, seconds
        Event time; time of the record in Kafka.
    key_crcs : ndarray, shape (n,), uint32
        `zlib.crc32` of the entity's key.
    versions : tuple of VersionAnswers
    inputs : ndarray, shape (n, n_features), float32, or None
        What is learnt from, NaN where missing; all of a row is where its event was kept without inputs.
    feature_names : tuple of str
        Names of the inputs' columns.
    """

    offsets: Integers
    timestamps: Floats
    record_times: Floats
    key_crcs: NDArray[np.uint32]
    versions: tuple[VersionAnswers, ...] = ()
    inputs: NDArray[np.float32] | None = None
    feature_names: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def row_bytes(self) -> int:
        """Bytes that one event takes in memory, names apart."""
        n_columns = sum(2 + (0 if v.probabilities is None else len(v.classes)) for v in self.versions)
        return 28 + 8 * n_columns + (0 if self.inputs is None else 4 * self.inputs.shape[1])

    def take(self, rows: Integers | slice) -> Answered:
        """Return some of the events."""
        return Answered(
            self.offsets[rows],
            self.timestamps[rows],
            self.record_times[rows],
            self.key_crcs[rows],
            tuple([version.take(rows) for version in self.versions]),
            None if self.inputs is None else self.inputs[rows],
            self.feature_names,
        )

    def check(self) -> None:
        """Raise ValueError if the columns do not fit each other, or hold what they may not.

        Examples
        --------
        >>> two, one = np.zeros(2), np.zeros(1)
        >>> Answered(np.array([8, 7]), two, two, np.zeros(2, np.uint32)).check()
        Traceback (most recent call last):
        ValueError: offsets: must ascend from 0 or above
        >>> Answered(np.array([7, 8]), two, one, np.zeros(2, np.uint32)).check()
        Traceback (most recent call last):
        ValueError: record_times: must have the shape (2,), received (1,)
        """
        n = len(self.offsets)
        shapes: dict[str, tuple[NDArray[Any], tuple[int, ...]]]
        shapes = {name: (getattr(self, name), (n,)) for name in ("timestamps", "record_times", "key_crcs")}
        if self.inputs is not None:
            shapes["inputs"] = self.inputs, (n, len(self.feature_names))
        for version in self.versions:
            shapes[f"scores of {version.version}"] = version.scores, (n,)
            shapes[f"predictions of {version.version}"] = version.predictions, (n,)
            if version.probabilities is not None:
                columns = (n, len(version.classes))
                shapes[f"probabilities of {version.version}"] = version.probabilities, columns
        for name, (column, shape) in shapes.items():
            if column.shape != shape:
                raise ValueError(f"{name}: must have the shape {shape}, received {column.shape}")
        if n and (self.offsets[0] < 0 or (self.offsets[1:] <= self.offsets[:-1]).any()):
            raise ValueError("offsets: must ascend from 0 or above")
        if not np.isfinite(self.record_times).all():
            raise ValueError("record_times: must be finite")
        for version in self.versions:
            _check_classes(version)


def _check_classes(version: VersionAnswers) -> None:
    name, n_classes, found = version.version, len(version.classes), version.predictions
    if version.positive is not None and not 0 <= version.positive < n_classes:
        raise ValueError(
            f"positive of {name}: must be one of {n_classes} classes, received {version.positive}"
        )
    if (found.dtype.kind == "i") != bool(n_classes):
        raise ValueError(f"predictions of {name}: must be indices if there are classes, and else numbers")
    if n_classes and len(found) and not (found.min() >= NO_CLASS and found.max() < n_classes):
        raise ValueError(f"predictions of {name}: must be at least {NO_CLASS} and below {n_classes}")


def class_indices(predictions: Sequence[Any] | NDArray[Any], classes: Sequence[Any]) -> NDArray[np.int32]:
    """Return which class each prediction is, -1 where it is none of them.

    Parameters
    ----------
    predictions : sequence or ndarray, length n
        As the model gives them; None where it failed.
    classes : sequence
        Of the same form as the predictions.

    Returns
    -------
    ndarray, shape (n,), int32

    Examples
    --------
    >>> class_indices(["odd", None, "calm"], ["calm", "odd"]).tolist()
    [1, -1, 0]
    """
    found = predictions.tolist() if isinstance(predictions, np.ndarray) else predictions
    index = {name: i for i, name in enumerate(classes)}
    return np.fromiter(map(index.get, found, repeat(NO_CLASS)), np.int32, len(found))


def concat(runs: Sequence[Answered]) -> Answered:
    """Return runs of events, one after the other, as one.

    Where a version, or a feature, is not in all of them, its columns say so for the others' events.

    Examples
    --------
    >>> def answered_by(version, offset):
    ...     number, code = np.array([0.5]), np.array([7], np.uint32)
    ...     answers = VersionAnswers("m", version, "champion", "regression", (), None, number, number)
    ...     return Answered(np.array([offset]), number, number, code, (answers,))
    >>> both = concat([answered_by("a", 4), answered_by("b", 6)])
    >>> both.offsets.tolist(), [version.scores.tolist() for version in both.versions]
    ([4, 6], [[0.5, nan], [nan, 0.5]])
    """
    if len(runs) == 1:
        return runs[0]
    if not runs:
        empty = np.zeros(0)
        return Answered(np.zeros(0, np.int64), empty, empty, np.zeros(0, np.uint32))
    inputs, feature_names = _concat_inputs(runs)
    return Answered(
        np.concatenate([run.offsets for run in runs]),
        np.concatenate([run.timestamps for run in runs]),
        np.concatenate([run.record_times for run in runs]),
        np.concatenate([run.key_crcs for run in runs]),
        _concat_versions(runs),
        inputs,
        feature_names,
    )


def _concat_versions(runs: Sequence[Answered]) -> tuple[VersionAnswers, ...]:
    parts: dict[Identity, dict[int, VersionAnswers]] = {}
    for number, run in enumerate(runs):
        for version in run.versions:
            parts.setdefault(version.identity, {})[number] = version
    ends = np.cumsum([len(run) for run in runs]).tolist()
    return tuple([_concat_version(of, ends) for of in parts.values()])


def _concat_version(parts: dict[int, VersionAnswers], ends: list[int]) -> VersionAnswers:
    """Return one version's answers to runs that end at these rows; some have none of it."""
    some, n = next(iter(parts.values())), ends[-1]
    if len(parts) == len(ends):
        every = parts.values()
        return replace(
            some,
            scores=np.concatenate([part.scores for part in every]),
            predictions=np.concatenate([part.predictions for part in every]),
            probabilities=None
            if some.probabilities is None
            else np.concatenate([part.probabilities for part in every if part.probabilities is not None]),
        )
    scores = np.full(n, np.nan)
    predictions = np.full(n, NO_CLASS, np.int32) if some.classes else np.full(n, np.nan)
    probabilities = None if some.probabilities is None else np.full((n, len(some.classes)), np.nan)
    for number, part in parts.items():
        where = slice(ends[number] - len(part), ends[number])
        scores[where], predictions[where] = part.scores, part.predictions
        if probabilities is not None:
            probabilities[where] = part.probabilities
    return replace(some, scores=scores, predictions=predictions, probabilities=probabilities)


def _concat_inputs(runs: Sequence[Answered]) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    with_inputs = [run for run in runs if run.inputs is not None]
    if not with_inputs:
        return None, ()
    names = tuple(dict.fromkeys(name for run in with_inputs for name in run.feature_names))
    if len(with_inputs) == len(runs) and all(run.feature_names == names for run in runs):
        return np.concatenate([run.inputs for run in runs if run.inputs is not None]), names
    column = {name: i for i, name in enumerate(names)}
    inputs = np.full((sum(map(len, runs)), len(names)), np.nan, np.float32)
    start = 0
    for run in runs:
        end = start + len(run)
        if run.inputs is not None:
            inputs[start:end, [column[name] for name in run.feature_names]] = run.inputs
        start = end
    return inputs, names
