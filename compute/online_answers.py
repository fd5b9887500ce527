"""What the online learner answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compute.moments import Flags, Floats


@dataclass(frozen=True)
class OnlineScores:
    """Answers about n events, each from the labels before it.

    Attributes
    ----------
    scores : ndarray, shape (n,), float64
        Of a classification the probability of the class that is named as positive, if it was learnt by then;
        else of the last class in sorted order among those that were, which is "1" of "0" and "1"; 0.5 until
        there are two. Of a regression the value; 0 before the first label.
    predictions : sequence of str, float or None, length n
        The class, None before the first label; or the value.
    probabilities : ndarray, shape (n, n_classes), float64, or None
        Of a classification: rows sum to 1; 0 for a class that was not learnt yet, so a row before the first
        label is all 0.
    classes : tuple of str
        Columns of the probabilities, in the order in which labels came.
    positive : int or None
        The one that scores are of once all are learnt.
    silent : ndarray, shape (n,), bool, or None
        Which of these are no answers, since nothing was learnt yet; None: all are.
    """

    scores: Floats
    predictions: Sequence[str | float | None]
    probabilities: Floats | None
    classes: tuple[str, ...]
    positive: int | None = None
    silent: Flags | None = None
