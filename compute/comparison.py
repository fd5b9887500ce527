"""Champion and challenger on the same labelled events: who is right where the other is not.

Owns the paired tally of two versions in one partition, how tallies of several become one, and the verdict on
them. The tests behind it are in `compute/evidence.py`; who is promoted, and when, is left to others.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.evaluation_head import TASKS, Task
from compute.evidence import LARGEST_LOG, log_e_value, mcnemar_p_value, needed_e_value
from compute.labels import finite_numbers
from compute.moments import Flags, Floats

Column = Sequence[Any] | NDArray[Any]

MAGIC, VERSION = b"NC", 1

MAX_COUNT = 2**53

_LAYOUT = struct.Struct("<2sBBQQQQdddd")


class Comparison:
    """Paired outcomes of two versions.

    For classes a pair speaks for the one that is right where the other is wrong. For numbers it speaks for
    the one whose absolute error is smaller; pairs of equal errors are even (`both_right` where both are 0,
    else `both_wrong`).

    Parameters
    ----------
    task : {"classification", "regression"}

    Examples
    --------
    >>> comparison = Comparison("classification")
    >>> comparison.add(["a", "b", "b", "a"], ["a", "a", "a", "a"], ["a", "b", "b", "b"])
    >>> described = comparison.describe()
    >>> [described[name] for name in ("both_right", "champion_only", "challenger_only", "both_wrong")]
    [1, 1, 2, 0]
    >>> described["difference"], described["p_value"]
    (0.25, 1.0)
    """

    def __init__(self, task: Task):
        if task not in TASKS:
            raise ValueError(f"task: must be one of {TASKS}, received {task!r}")
        self.task = task
        self.both_right = self.champion_only = self.challenger_only = self.both_wrong = 0
        self.champion_absolute = self.champion_squared = 0.0
        self.challenger_absolute = self.challenger_squared = 0.0

    @property
    def n_labels(self) -> int:
        """Labelled events that both versions predicted."""
        return self.both_right + self.champion_only + self.challenger_only + self.both_wrong

    def add(self, labels: Column, champion_predictions: Column, challenger_predictions: Column) -> None:
        """Count events that both versions predicted.

        Parameters
        ----------
        labels, champion_predictions, challenger_predictions : sequences of length n
            Classes in canonical form (`compute/labels.py`), or finite numbers.

        Raises
        ------
        ValueError
            If the columns differ in length, or a number is not finite. Nothing was counted then.
        """
        for name, column in (
            ("champion_predictions", champion_predictions),
            ("challenger_predictions", challenger_predictions),
        ):
            if len(column) != len(labels):
                raise ValueError(f"{name}: {len(labels)} needed, one for each label, received {len(column)}")
        if not len(labels):
            return
        if self.task == "regression":
            right, champion_wins, challenger_wins = self._add_errors(
                finite_numbers("labels", labels),
                finite_numbers("champion_predictions", champion_predictions),
                finite_numbers("challenger_predictions", challenger_predictions),
            )
        else:
            champion = _equal(labels, champion_predictions)
            challenger = _equal(labels, challenger_predictions)
            right, champion_wins, challenger_wins = (
                champion & challenger,
                champion & ~challenger,
                challenger & ~champion,
            )
        n_right, n_champion, n_challenger = (
            int(np.count_nonzero(flags)) for flags in (right, champion_wins, challenger_wins)
        )
        self.both_right += n_right
        self.champion_only += n_champion
        self.challenger_only += n_challenger
        self.both_wrong += len(labels) - n_right - n_champion - n_challenger

    def merge(self, other: Comparison) -> None:
        """Count all that another comparison of the same versions counted, which stays as it is.

        Raises
        ------
        ValueError
            If it is of another task.
        """
        if self.task != other.task:
            raise ValueError(f"task: must be equal to be merged, received {self.task!r} and {other.task!r}")
        for name in _COUNTS + _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def describe(self) -> dict[str, Any]:
        """Return counts, metrics and evidence as plain values; None is one that is not defined.

        Returns
        -------
        dict
            `task`, `n_labels`, `both_right`, `champion_only`, `challenger_only`, `both_wrong`; `champion` and
            `challenger`, each with `accuracy`, or `mae` and `rmse`; `difference`, by which the challenger is
            better: in accuracy, or the part of the champion's RMSE that it saves; `p_value` of a look at a
            number of labels fixed before, and `e_value`, which may be looked at at any time: both of
            `compute/evidence.py`.
        """
        champion = self._metrics("champion")
        challenger = self._metrics("challenger")
        log_evidence = log_e_value(self.challenger_only, self.champion_only)
        return {
            "task": self.task,
            "n_labels": self.n_labels,
            **{name: getattr(self, name) for name in _COUNTS},
            "champion": champion,
            "challenger": challenger,
            "difference": self._difference(champion, challenger),
            "p_value": mcnemar_p_value(self.challenger_only, self.champion_only),
            "e_value": math.exp(min(log_evidence, LARGEST_LOG)),
        }

    def verdict(
        self, margin: float, significance: float, min_labels: int, number: int = 1
    ) -> tuple[bool, dict[str, Any]]:
        """Tell whether the challenger is better, and why.

        It may be asked as often as one likes: that it ever says yes to any of a champion's challengers that
        does not win more pairs than it loses has a probability of at most `significance`, however many there
        are, as long as each has a number of its own.

        Parameters
        ----------
        margin : float
            Least difference: of accuracies, or the part of the champion's RMSE that is saved. It must be
            above 0 in any case.
        significance : float
            In (0, 1).
        min_labels : int
            Fewer are not enough, whatever they say.
        number : int
            Of this challenger among all of the champion (`compute/challenges.py`).

        Returns
        -------
        better : bool
        evidence : dict
            `describe()`, the arguments (`number` as `challenger_number`), `e_value_needed`, `better`, and
            `reason`, a sentence.

        Examples
        --------
        >>> comparison = Comparison("classification")
        >>> comparison.add(["a"] * 50, ["b"] * 20 + ["a"] * 30, ["a"] * 50)
        >>> better, evidence = comparison.verdict(margin=0.01, significance=0.01, min_labels=50)
        >>> better, evidence["difference"], evidence["e_value"] > evidence["e_value_needed"]
        (True, 0.4, True)
        """
        needed = needed_e_value(significance, number)
        evidence = self.describe()
        difference = evidence["difference"]
        if self.n_labels < min_labels:
            reason = f"{self.n_labels} labels, {min_labels} needed"
        elif difference is None or difference <= 0 or difference < margin:
            shown = "undefined" if difference is None else f"{difference:.4g}"
            reason = f"the difference is {shown}, at least {margin:g} and above 0 needed"
        elif evidence["e_value"] < needed:
            reason = f"the evidence is {evidence['e_value']:.4g}, {needed:.4g} needed"
        else:
            reason = ""
        better = not reason
        given = {"margin": margin, "significance": significance, "min_labels": min_labels}
        test = {"challenger_number": number, "e_value_needed": needed}
        reason = reason or "better, with evidence"
        return better, {**evidence, **given, **test, "better": better, "reason": reason}

    def encode(self) -> bytes:
        """Return the stored form: 68 bytes.

        Little endian: magic "NC", version u8, task u8, the counts `both_right`, `champion_only`,
        `challenger_only`, `both_wrong` as u64; sums of absolute and of squared errors as f64, the champion's
        first.
        """
        numbers = [getattr(self, name) for name in _COUNTS + _SUMS]
        return _LAYOUT.pack(MAGIC, VERSION, TASKS.index(self.task), *numbers)

    @classmethod
    def decode(cls, stored: bytes) -> Comparison:
        """Return what `encode` stored.

        Raises
        ------
        ValueError
            If the bytes are not a stored comparison, whatever they are.

        Examples
        --------
        >>> Comparison.decode(Comparison("regression").encode()).task
        'regression'
        >>> Comparison.decode(b"hello")
        Traceback (most recent call last):
        ValueError: stored comparison: must have 68 bytes, received 5
        """
        if len(stored) != _LAYOUT.size:
            raise ValueError(f"stored comparison: must have {_LAYOUT.size} bytes, received {len(stored)}")
        magic, version, task, *numbers = _LAYOUT.unpack(stored)
        if (magic, version) != (MAGIC, VERSION) or task >= len(TASKS):
            wanted = MAGIC + bytes([VERSION])
            raise ValueError(
                f"stored comparison: must begin with {wanted!r} and a task, received {stored[:4]!r}"
            )
        counts, sums = numbers[: len(_COUNTS)], numbers[len(_COUNTS) :]
        if sum(counts) > MAX_COUNT:
            raise ValueError(f"stored comparison: {MAX_COUNT} labels at most needed, received {sum(counts)}")
        # Squares of errors may overflow to infinity, and no further.
        if not all(number >= 0 for number in sums) or (any(sums) and not (sum(counts) and task)):
            raise ValueError(f"stored comparison: sums of {sum(counts)} errors cannot be {sums}")
        found = cls(TASKS[task])
        for name, number in zip(_COUNTS + _SUMS, numbers, strict=True):
            setattr(found, name, number)
        return found

    def _add_errors(self, labels: Floats, champion: Floats, challenger: Floats) -> tuple[Flags, Flags, Flags]:
        """Add errors; return where both are 0, where the champion's and where the challenger's is smaller."""
        with np.errstate(over="ignore"):
            of_champion, of_challenger = np.abs(champion - labels), np.abs(challenger - labels)
            self.champion_absolute += float(of_champion.sum())
            self.champion_squared += float(np.square(of_champion).sum())
            self.challenger_absolute += float(of_challenger.sum())
            self.challenger_squared += float(np.square(of_challenger).sum())
        exact = (of_champion == 0) & (of_challenger == 0)
        return exact, of_champion < of_challenger, of_challenger < of_champion

    def _metrics(self, version: str) -> dict[str, float | None]:
        n_labels = self.n_labels
        if self.task == "classification":
            n_right = self.both_right + getattr(self, f"{version}_only")
            return {"accuracy": n_right / n_labels if n_labels else None}
        if not n_labels:
            return {"mae": None, "rmse": None}
        mae = getattr(self, f"{version}_absolute") / n_labels
        rmse = math.sqrt(getattr(self, f"{version}_squared") / n_labels)
        return {"mae": mae if mae < math.inf else None, "rmse": rmse if rmse < math.inf else None}

    def _difference(
        self, champion: dict[str, float | None], challenger: dict[str, float | None]
    ) -> float | None:
        if not self.n_labels:
            return None
        if self.task == "classification":
            return (self.challenger_only - self.champion_only) / self.n_labels
        before, after = champion["rmse"], challenger["rmse"]
        if before is None or after is None:
            return None
        if not before:  # nothing is better than no error
            return 0.0 if not after else None
        return 1.0 - after / before


_COUNTS = ("both_right", "champion_only", "challenger_only", "both_wrong")
_SUMS = ("champion_absolute", "champion_squared", "challenger_absolute", "challenger_squared")


def _equal(labels: Column, predictions: Column) -> Flags:
    pairs = zip(labels, predictions, strict=True)
    return np.fromiter((label == prediction for label, prediction in pairs), np.bool_, len(labels))
