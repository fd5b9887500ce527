"""The built-in detector: an anomaly score from normalised features, for streams that have no model yet.

Owns the score, its prediction and the share of each feature in it. How features are normalised, and when an
entity has warmed up, is decided by the statistics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MODEL = "detector"
VERSION = "builtin-1"

HALF_SCORE_STDDEVS = 3.0
"""Distance in standard deviations that scores 0.5."""

_LARGEST = 1e150
"""Distances are cut here: the square of a larger one is infinite, and infinity over infinity is no score."""


def score_anomalies(z: NDArray[np.float64], warming_up: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how unusual each event is, from 0 (as its entity always was) towards 1.

    With ``m`` the largest ``|z|`` among the present features the score is ``m^2 / (m^2 + 9)``: 0.5 at 3
    standard deviations, 0.8 at 6, 0.9 at 9. This is heavy-tailed on purpose: a score made of a normal
    tail probability would be 1.0 for everything beyond 8 and could no longer tell bad from worse.

    Parameters
    ----------
    z : ndarray, shape (n, n_features), float64
        Normalised features in standard deviations, NaN where missing.
    warming_up : ndarray, shape (n,), bool
        Events whose entity has seen too little to be judged; they score 0.

    Returns
    -------
    ndarray, shape (n,), float64
        Scores in [0, 1]; 0 where no feature is present.

    Examples
    --------
    >>> z = np.array([[0.5, -3.0], [6.0, np.nan], [np.nan, np.nan], [9.0, 0.0]])
    >>> score_anomalies(z, np.array([False, False, False, True])).tolist()
    [0.5, 0.8, 0.0, 0.0]
    """
    furthest = np.fmax.reduce(np.abs(z), axis=1, initial=0.0)  # fmax passes over NaN
    squared = np.square(np.minimum(furthest, _LARGEST))
    return np.where(warming_up, 0.0, squared / (squared + HALF_SCORE_STDDEVS**2))


def predict_anomalies(scores: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """Return 1 for each score that reaches the threshold, else 0.

    Examples
    --------
    >>> predict_anomalies(np.array([0.2, 0.8]), threshold=0.8).tolist()
    [0, 1]
    """
    return (scores >= threshold).astype(np.int64)


def share_blame(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each feature in how unusual an event is: ``z^2 / sum of z^2``.

    Parameters
    ----------
    z : ndarray, shape (n, n_features), float64
        Normalised features in standard deviations, NaN where missing.

    Returns
    -------
    ndarray, shape (n, n_features), float64
        Shares that sum to 1 in each row; equal ones if all present features are exactly at their mean, 0 for
        missing features, all 0 where no feature is present.

    Examples
    --------
    >>> share_blame(np.array([[3.0, -4.0, np.nan], [0.0, 0.0, 0.0]])).round(2).tolist()
    [[0.36, 0.64, 0.0], [0.33, 0.33, 0.33]]
    """
    present = ~np.isnan(z)
    distances = np.where(present, np.minimum(np.abs(z), _LARGEST), 0.0)
    furthest = np.max(distances, axis=1, keepdims=True, initial=0.0)
    # Scaled by the largest first, so that neither huge nor tiny distances are lost when squared.
    scaled = np.divide(distances, furthest, out=present.astype(np.float64), where=furthest > 0)
    squared: NDArray[np.float64] = np.square(scaled)
    total = np.sum(squared, axis=1, keepdims=True)
    np.divide(squared, total, out=squared, where=total > 0)
    return squared
