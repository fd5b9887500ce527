"""Errors of a regression on labelled events, as sums that merge, and the metrics that follow from them.

Owns the sums of one stretch of time. The spread of the labels, which R2 is measured by, is kept as moments
(`compute/moments.py`, Chan, Golub and LeVeque 1979), so a large common level costs no digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from compute.moments import Flags, Floats, Integers, Moments, merge, no_moments, summarise

LARGEST = 1e100
"""Larger numbers count as this one: squares of a single one would leave no metric, now and for ever."""


class NumberRows(NamedTuple):
    """Outcomes of n events.

    Attributes
    ----------
    labels, predictions : ndarray, shape (n,), float64
        Finite.
    """

    labels: Floats
    predictions: Floats

    def take(self, chosen: Flags) -> NumberRows:
        """Return the events that are chosen."""
        return NumberRows(self.labels[chosen], self.predictions[chosen])


@dataclass
class NumberTally:
    """Sums over outcomes.

    Attributes
    ----------
    absolute, squared : float
        Sums of absolute and of squared errors.
    labels : Moments of shape (1, 1)

    Examples
    --------
    >>> tally = NumberTally()
    >>> tally.add(NumberRows(np.array([3.0, -0.5, 2.0, 7.0]), np.array([2.5, 0.0, 2.0, 8.0])))
    >>> {name: round(metric, 3) for name, metric in tally.describe().items()}
    {'n_labels': 4, 'mae': 0.5, 'rmse': 0.612, 'r2': 0.949}
    """

    absolute: float = 0.0
    squared: float = 0.0
    labels: Moments = field(default_factory=lambda: no_moments(1, 1))

    @property
    def n_labels(self) -> int:
        """Labelled events."""
        return int(self.labels.count[0, 0])

    def add(self, rows: NumberRows) -> None:
        """Count events."""
        if not len(rows.labels):
            return
        labels, predictions = (np.clip(part, -LARGEST, LARGEST) for part in rows)
        errors = np.abs(predictions - labels)
        self.absolute += float(errors.sum())
        self.squared += float(np.square(errors).sum())
        found, _, _ = summarise(labels[:, None], np.zeros(1, np.int64), np.array([len(errors)]))
        self.labels = merge(self.labels, found)

    def merge(self, other: NumberTally) -> None:
        """Count all that another one counted, which stays as it is."""
        self.absolute += other.absolute
        self.squared += other.squared
        with np.errstate(over="ignore", invalid="ignore"):
            self.labels = merge(self.labels, other.labels)

    def recode(self, codes: Integers, keep_scores: bool) -> NumberTally:
        """Return the same sums; numbers have no classes to rename."""
        return NumberTally(self.absolute, self.squared, self.labels)

    def describe(self) -> dict[str, Any]:
        """Return the metrics; R2 needs two labels, and is 1 or 0 where these do not differ."""
        n_labels = self.n_labels
        spread = float(self.labels.m2[0, 0])
        metrics: dict[str, Any] = {"mae": None, "rmse": None, "r2": None}
        if n_labels:
            metrics["mae"] = self.absolute / n_labels
            metrics["rmse"] = math.sqrt(self.squared / n_labels)
        if n_labels > 1:
            alike = 1.0 if self.squared == 0 else 0.0
            metrics["r2"] = 1.0 - self.squared / spread if spread else alike
        finite = {name: metric if _is_finite(metric) else None for name, metric in metrics.items()}
        return {"n_labels": n_labels, **finite}


def _is_finite(metric: float | None) -> bool:
    return metric is not None and math.isfinite(metric)
