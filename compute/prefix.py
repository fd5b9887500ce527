"""Running sums within many runs at once.

Owns the scan behind score-first statistics. What is summed, and about which shift, is the caller's business.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def prefix_sums(values: NDArray[np.float64], rank: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return inclusive running sums of each column, starting anew at each run.

    The scan of Hillis and Steele (1986), "Data parallel algorithms": after the pass with step k every row
    holds the sum of the last 2k rows of its run. One cumulative sum over all runs would be simpler and wrong:
    a run of large numbers would leave its rounding errors, or its infinity, in all runs after it. Here a run
    never touches another, and a sum of m rows is rounded log2(m) times instead of m.

    Parameters
    ----------
    values : ndarray, shape (n, k), float64
        Rows to add up; the rows of a run are consecutive.
    rank : ndarray, shape (n,), int64
        Position of each row in its run, from 0.

    Returns
    -------
    ndarray, shape (n, k), float64

    Examples
    --------
    >>> values = np.array([[1.0], [2.0], [4.0], [1e300], [1.0]])
    >>> prefix_sums(values, np.array([0, 1, 2, 0, 0])).ravel().tolist()
    [1.0, 3.0, 7.0, 1e+300, 1.0]
    """
    sums = values.copy()
    step = 1
    rows = np.flatnonzero(rank >= step)
    while rows.size:
        added = sums.take(rows, axis=0)
        added += sums.take(rows - step, axis=0)
        sums[rows] = added
        step *= 2
        rows = rows[rank.take(rows) >= step]
    return sums
