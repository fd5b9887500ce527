"""Panes: which slice of event time an event falls into, and which slices a window still covers.

Owns the arithmetic of pane indices. What is counted in a pane is in `compute/moments.py`, and which events
come too late for one in `compute/arrival.py`.

A pane covers `[index * pane_seconds, (index + 1) * pane_seconds)`. The ring of an entity holds its newest
pane and the `n_panes - 1` before it; pane `p` lies at position `p % n_panes`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EMPTY = -(2**62)
"""The newest pane of an entity that has none, and the watermark of a partition that saw no event.

Far below every pane, and far enough from the end of int64 for differences with one.
"""

MAX_PANE = 2**53
"""Panes lie strictly between -MAX_PANE and MAX_PANE: beyond it float64 no longer tells two panes apart."""


def pane_index(timestamps: NDArray[np.float64], pane_seconds: float) -> NDArray[np.int64]:
    """Return the pane of each time.

    Parameters
    ----------
    timestamps : ndarray, shape (n,), float64, seconds
        Event times since the epoch.
    pane_seconds : float
        Length of a pane, above 0.

    Returns
    -------
    ndarray, shape (n,), int64

    Raises
    ------
    ValueError
        If a time is not finite, or so far out that its pane has no exact index.

    Examples
    --------
    >>> pane_index(np.array([0.0, 299.9, 300.0, -0.5]), pane_seconds=300.0).tolist()
    [0, 0, 1, -1]
    """
    panes = np.floor(timestamps / pane_seconds)
    if not (np.abs(panes) < MAX_PANE).all():  # false for NaN as well
        wrong = timestamps[~(np.abs(panes) < MAX_PANE)][0]
        bound = MAX_PANE * pane_seconds
        raise ValueError(
            f"timestamp: must lie within {bound:g} seconds of the epoch, received {float(wrong)}"
        )
    return panes.astype(np.int64)


def panes_in_ring(newest: NDArray[np.int64], n_panes: int) -> NDArray[np.int64]:
    """Return which pane each position of a ring stands for.

    Parameters
    ----------
    newest : ndarray, shape (k,), int64
        Newest pane of each entity.
    n_panes : int
        Positions in a ring.

    Returns
    -------
    ndarray, shape (k, n_panes), int64

    Examples
    --------
    >>> panes_in_ring(np.array([7]), n_panes=4).tolist()
    [[4, 5, 6, 7]]
    >>> panes_in_ring(np.array([5]), n_panes=4).tolist()
    [[4, 5, 2, 3]]
    """
    ages = (newest[:, None] - np.arange(n_panes)) % n_panes
    return newest[:, None] - ages


def silent(seen: NDArray[np.int64], watermark: int, n_panes: int) -> NDArray[np.bool_]:
    """Tell which entities were silent for longer than the window, so that nothing of theirs is left to keep.

    `score_and_learn` starts such an entity anew at its next event, so the moment at which it is removed
    cannot be seen in any result.

    Parameters
    ----------
    seen : ndarray, shape (k,), int64
        The partition's watermark at each entity's last accepted event.
    watermark : int
        The partition's watermark now: the highest pane of all its events so far.
    n_panes : int
        Panes in the window.

    Returns
    -------
    ndarray, shape (k,), bool

    Examples
    --------
    >>> silent(np.array([10, 9, 8]), watermark=20, n_panes=12).tolist()
    [False, False, True]
    """
    return np.asarray(watermark - seen >= n_panes)


def window_bounds(newest: int, n_panes: int, pane_seconds: float) -> tuple[float, float]:
    """Return start and end, in epoch seconds, of the window that ends with pane `newest`.

    Examples
    --------
    >>> window_bounds(newest=11, n_panes=12, pane_seconds=300.0)
    (0.0, 3600.0)
    """
    return (newest - n_panes + 1) * pane_seconds, (newest + 1) * pane_seconds
