"""What the online learner sees of an event: its normalised features, bent and lifted.

Owns the features of the linear model: 1, the normalised features themselves, and random Fourier features of
them (Rahimi and Recht, 2007: Random features for large-scale kernel machines). A linear model of these is
nearly one with a Gaussian kernel, so it draws curved borders at the price of a straight one.

Each name has frequencies of its own, made from a hash of the name. So the order of columns does not matter,
and a name that comes later changes nothing that was learnt: it was 0 until then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

N_FREQUENCIES = 96
"""Random features. More are a little better and cost time and state with their square."""

BEND_STDDEVS = 2.0
"""Bound that bent features come near to."""

_LARGEST = 1e6
"""Features are cut here: the square of a larger one need not fit float32."""

Rows = NDArray[np.float32]


def bend(z: NDArray[np.floating]) -> Rows:
    """Return `z / sqrt(1 + (z / 2)^2)`: nearly z around 0, within 2 for an outlier, 0 where missing.

    Parameters
    ----------
    z : ndarray, shape (n, n_features), float
        Normalised features in standard deviations, NaN where missing.

    Returns
    -------
    ndarray, shape (n, n_features), float32

    Examples
    --------
    >>> bend(np.array([[1.5, 100.0, np.nan, -np.inf]])).astype(float).round(2).tolist()
    [[1.2, 2.0, 0.0, -2.0]]
    """
    with np.errstate(over="ignore"):
        bent = z.astype(np.float32)
    np.clip(bent, -_LARGEST, _LARGEST, out=bent)
    missing = np.isnan(bent)
    if missing.any():
        bent[missing] = 0.0
    length = np.square(bent * np.float32(1.0 / BEND_STDDEVS))
    length += np.float32(1.0)
    bent /= np.sqrt(length, out=length)
    return bent


def frequencies(names: Sequence[str], n_present: Sequence[int]) -> Rows:
    """Return the phases, and the frequencies of each name.

    Parameters
    ----------
    names : sequence of str, length n_features
    n_present : sequence of int, length n_features
        How many names there were when each came. The frequencies of a name have a standard deviation of
        `n_present ** -0.5`, so that an angle has one of about 1 however many features there are.

    Returns
    -------
    ndarray, shape (1 + n_features, N_FREQUENCIES), float32
        Phases in the first row; made for `lift`.

    Examples
    --------
    >>> one, two = frequencies(["a", "b"], [2, 2]), frequencies(["b", "a"], [2, 2])
    >>> one.shape, bool(np.array_equal(one[1], two[2]))
    ((3, 96), True)
    """
    made = np.empty((1 + len(names), N_FREQUENCIES))
    made[0] = 2.0 * np.pi * _uniform(b"phases")
    for row, (name, n) in enumerate(zip(names, n_present, strict=True), 1):
        made[row] = ndtri(_uniform(b"frequencies of " + name.encode())) / np.sqrt(n)
    return made.astype(np.float32)


def lift(rows: Rows, of_names: Rows) -> Rows:
    """Return the features of the linear model.

    Parameters
    ----------
    rows : ndarray, shape (n, 1 + n_features), float32
        1, then the bent features.
    of_names : ndarray, shape (1 + n_features, N_FREQUENCIES), float32
        From `frequencies`.

    Returns
    -------
    ndarray, shape (n, N_FREQUENCIES + 1 + n_features), float32
        Random features, 1, bent features.

    Examples
    --------
    >>> lift(np.ones((5, 3), np.float32), frequencies(["a", "b"], [2, 2])).shape
    (5, 99)
    """
    lifted = np.empty((len(rows), N_FREQUENCIES + rows.shape[1]), np.float32)
    angles = rows @ of_names
    np.cos(angles, out=lifted[:, :N_FREQUENCIES])
    lifted[:, N_FREQUENCIES:] = rows
    return lifted


def _uniform(text: bytes) -> NDArray[np.float64]:
    """Return numbers above 0 and below 1; numpy's generators may draw others in another version."""
    words = np.frombuffer(hashlib.shake_128(text).digest(8 * N_FREQUENCIES), "<u8")
    uniform: NDArray[np.float64] = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return uniform
