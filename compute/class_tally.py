"""Outcomes of a classifier on labelled events, as counts that merge, and the metrics that follow from them.

Owns confusion matrix, sum of losses and counts by score of one stretch of time, and the definitions of the
metrics: those of scikit-learn, and None where it raises or answers no number. (Precision, recall and F1 are
0 where nothing was predicted or labelled, as with its `zero_division=0`.)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from compute.class_names import STRIDE
from compute.moments import Flags, Floats, Integers
from compute.score_counts import Keys, ScoreCounts


class ClassRows(NamedTuple):
    """Outcomes of n events.

    Attributes
    ----------
    cells : ndarray, shape (n,), int64
        `STRIDE` times the code of the label, plus that of the prediction.
    losses : ndarray, shape (n,), float64
        Logarithmic losses; NaN where there was no probability.
    ranked : ndarray, shape (n,), bool
        Which events have scores.
    owners : ndarray, shape (k,), int64
        Classes that the columns of `keys` are of.
    keys : ndarray, shape (n, k), uint64
        Scores for these classes, as `score_keys` gives them.
    """

    cells: Integers
    losses: Floats
    ranked: Flags
    owners: Integers
    keys: Keys

    def take(self, chosen: Flags) -> ClassRows:
        """Return the events that are chosen."""
        return ClassRows(
            self.cells[chosen], self.losses[chosen], self.ranked[chosen], self.owners, self.keys[chosen]
        )


@dataclass
class ClassTally:
    """Counts of outcomes.

    Attributes
    ----------
    scores : ScoreCounts
    cells : Counter of int
        Events by `STRIDE` times the code of the label, plus that of the prediction.
    loss_sum : float
    n_losses : int
        Events that had probabilities.
    """

    scores: ScoreCounts
    cells: Counter[int] = field(default_factory=Counter)
    loss_sum: float = 0.0
    n_losses: int = 0

    @property
    def n_labels(self) -> int:
        """Labelled events."""
        return self.cells.total()

    def add(self, rows: ClassRows) -> None:
        """Count events."""
        cells = np.bincount(rows.cells, minlength=0)
        there = np.flatnonzero(cells)
        for cell, n_events in zip(there.tolist(), cells[there].tolist(), strict=True):
            self.cells[cell] += n_events
        has_loss = ~np.isnan(rows.losses)
        self.loss_sum += float(rows.losses[has_loss].sum())
        self.n_losses += int(has_loss.sum())
        if len(rows.owners):
            labels = rows.cells[rows.ranked] // STRIDE
            self.scores.add(rows.keys[rows.ranked], rows.owners, labels[:, None] == rows.owners)

    def merge(self, other: ClassTally) -> None:
        """Count all that another one counted, which stays as it is."""
        self.cells.update(other.cells)
        self.loss_sum += other.loss_sum
        self.n_losses += other.n_losses
        self.scores.merge(other.scores)

    def recode(self, codes: Integers, keep_scores: bool) -> ClassTally:
        """Return the same counts with class `i` called `codes[i]`.

        Several classes may become one; then there are no counts by score to keep.
        """
        cells: Counter[int] = Counter()
        for cell, n_events in self.cells.items():
            cells[int(codes[cell // STRIDE]) * STRIDE + int(codes[cell % STRIDE])] += n_events
        scores = self.scores.recode(codes) if keep_scores else ScoreCounts(self.scores.bound)
        return ClassTally(scores, cells, self.loss_sum, self.n_losses)

    def describe(
        self, names: list[str], positive: int | None, ranked: int | None, n_model: int
    ) -> dict[str, Any]:
        """Return the metrics.

        Parameters
        ----------
        names : list of str
            Classes by code.
        positive : int or None
            Class that precision, recall and F1 are of; None: their mean over the classes, where there are
            more than two.
        ranked : int or None
            Class that the scores are of; None: each class has scores, of which the mean is taken.
        n_model : int
            The first so many classes are the model's, which need labels for that mean to be defined.
        """
        matrix = np.zeros((len(names), len(names)), np.int64)
        for cell, n_events in self.cells.items():
            matrix[cell // STRIDE, cell % STRIDE] = n_events
        return {
            "n_labels": self.n_labels,
            **_of_matrix(matrix, positive),
            "log_loss": _finite(self.loss_sum / self.n_losses) if self.n_losses and len(names) > 1 else None,
            **self._ranking(matrix, ranked, n_model),
            "classes": list(names),
            "positive": None if positive is None else names[positive],
            "per_class": _per_class(matrix, names),
            "confusion_matrix": matrix.tolist(),
        }

    def _ranking(self, matrix: Integers, ranked: int | None, n_model: int) -> dict[str, float | None]:
        """Return the area under the ROC curve, and by how much it may be off."""
        if ranked is None:
            present = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
            present[:n_model] = True
            wanted = np.flatnonzero(present)
        else:
            wanted = np.array([ranked])
        areas = self.scores.areas()
        chosen = np.isin(areas.owners, wanted)
        if not len(wanted) or chosen.sum() < len(wanted) or np.isnan(areas.area[chosen]).any():
            return {"roc_auc": None, "roc_auc_resolution": None}
        return {
            "roc_auc": float(areas.area[chosen].mean()),
            "roc_auc_resolution": float(areas.error[chosen].mean()),
        }


def _of_matrix(matrix: Integers, positive: int | None) -> dict[str, float | None]:
    """Return what follows from labels (rows) and predictions (columns) alone."""
    names = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")
    n_events = int(matrix.sum())
    if not n_events:
        return dict.fromkeys(names)
    n_labelled, n_predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    right = np.diagonal(matrix)
    labelled = n_labelled > 0
    present = labelled | (n_predicted > 0)
    ratios = _ratios(right, n_labelled, n_predicted)
    means: list[float | None]
    if positive is not None:
        means = [float(ratio[positive]) for ratio in ratios]
    elif len(matrix) > 2:
        means = [float(ratio[present].mean()) for ratio in ratios]
    else:
        means = [None, None, None]  # one class so far: nothing says whether it is the positive one
    balanced = float((right[labelled] / n_labelled[labelled]).mean())
    return dict(zip(names, (float(right.sum() / n_events), balanced, *means), strict=True))


def _per_class(matrix: Integers, names: list[str]) -> dict[str, dict[str, float | int]]:
    n_labelled = matrix.sum(axis=1)
    columns = _ratios(np.diagonal(matrix), n_labelled, matrix.sum(axis=0))
    rows = zip(names, *(ratio.tolist() for ratio in columns), n_labelled.tolist(), strict=True)
    return {
        name: {"precision": precision, "recall": recall, "f1": f1, "n_labels": n_labels}
        for name, precision, recall, f1, n_labels in rows
    }


def _ratios(right: Integers, n_labelled: Integers, n_predicted: Integers) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1 of each class, 0 where they are not defined."""
    return (
        right / np.maximum(n_predicted, 1),
        right / np.maximum(n_labelled, 1),
        2.0 * right / np.maximum(n_labelled + n_predicted, 1),
    )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
