"""What the online learner answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compute.moments import Floats


@dataclass(frozen=True)
class OnlineScores:
    """Answers about n events, each from the labels before it.

    Attributes
    ----------
    scores : ndarray, shape (n,), float64
        Of a classification the probability of the last class in sorted order among those that were learnt by
        then, which is "1" of "0" and "1"; 0.5 until there are two. Of a regression the value; 0 before the
        first label.
    predictions : sequence of str, float or None, length n
        The class, None before the first label; or the value.
    probabilities : ndarray, shape (n, n_classes), float64, or None
        Of a classification: rows sum to 1; 0 for a class that was not learnt yet, so a row before the first
        label is all 0.
    classes : tuple of str
        Columns of the probabilities, in the order in which labels came.
    """

    scores: Floats
    predictions: Sequence[str | float | None]
    probabilities: Floats | None
    classes: tuple[str, ...]
