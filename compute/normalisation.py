"""Online normalisation: how far a value lies from what came before it.

Owns z and its bounds. What stands in for a missing value is decided by who feeds a model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Z_LIMIT = 100.0
"""Bound of z: a constant feature that jumps lies infinitely many standard deviations away."""

_NOISE = 4 * np.finfo(np.float64).eps
_TINY = np.finfo(np.float64).tiny


def normalise(
    matrix: NDArray[np.float64], mean: NDArray[np.float64], stddev: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return `(value - mean) / stddev`, within -100 and 100.

    A standard deviation below rounding noise, `4 * eps * |mean|`, says nothing about the feature, so that
    noise is its lower bound: a constant that is computed in another order stays near 0, one that
    really jumps goes to the limit.

    Parameters
    ----------
    matrix : ndarray, shape (n, n_features), float64
        Values; NaN is a missing value.
    mean, stddev : ndarray, shape (n, n_features), float64
        Of the values before, as in `Scored`.

    Returns
    -------
    ndarray, shape (n, n_features), float64
        NaN where the value is missing; 0 where there is nothing to compare with, be it that no value came
        before or that mean or standard deviation overflowed.

    Examples
    --------
    >>> matrix = np.array([[3.0, 5.0, np.nan, 2.0]])
    >>> normalise(matrix, np.array([[1.0, np.nan, 0.0, 1.0]]), np.array([[0.5, np.nan, 1.0, 0.0]])).tolist()
    [[4.0, 0.0, nan, 100.0]]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        z = matrix - mean
        z /= np.maximum(stddev, np.abs(mean) * _NOISE + _TINY)
    unknown = ~(np.isfinite(mean) & np.isfinite(stddev))
    if unknown.any():
        z[unknown] = 0.0
        z[np.isnan(matrix)] = np.nan
    return np.clip(z, -Z_LIMIT, Z_LIMIT, out=z)
