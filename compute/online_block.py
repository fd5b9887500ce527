"""Labelled events that wait for the end of their block.

Owns when blocks end, and what is kept until then. The first ends with the first label; each has a quarter as
many labels as were learnt before it, up to a bound. So a young learner learns often and an old one cheaply,
and weights are never far behind what is known.
"""

from __future__ import annotations

import numpy as np

from compute.moments import Floats
from compute.online_features import Rows

MAX_BLOCK = 512
"""Labels after which weights are found anew, at most."""

MAX_BLOCK_CHANGING = 128
"""Same while the world changes: learning costs twice as much, and follows it closely."""

BLOCK_SHARE = 0.25


def block_size(n_learnt: int, is_changing: bool) -> int:
    """Return how many labels the next block has.

    Examples
    --------
    >>> [block_size(n, is_changing=False) for n in (0, 1, 8, 10, 1000, 10**9)]
    [1, 1, 2, 2, 250, 512]
    >>> [block_size(n, is_changing=True) for n in (0, 1, 8, 10, 1000, 10**9)]
    [1, 1, 2, 2, 128, 128]
    """
    largest = MAX_BLOCK_CHANGING if is_changing else MAX_BLOCK
    return min(max(int(n_learnt * BLOCK_SHARE), 1), largest)


class Waiting:
    """Labelled events that are not learnt yet, in order.

    Parameters
    ----------
    rows : ndarray, shape (n, 1 + n_features), float32
    targets : ndarray, shape (n,), float64

    Attributes
    ----------
    n : int
    """

    def __init__(self, rows: Rows, targets: Floats) -> None:
        self.n = len(rows)
        self._rows = np.zeros((MAX_BLOCK, rows.shape[1]), np.float32)
        self._targets = np.zeros(MAX_BLOCK)
        self._rows[: self.n], self._targets[: self.n] = rows, targets

    @property
    def rows(self) -> Rows:
        """1 and the bent features of each event."""
        return self._rows[: self.n]

    @property
    def targets(self) -> Floats:
        """Of each event."""
        return self._targets[: self.n]

    def add(self, rows: Rows, targets: Floats) -> None:
        """Keep some more; together they are one block at most."""
        last = self.n + len(rows)
        self._rows[self.n : last], self._targets[self.n : last] = rows, targets
        self.n = last

    def widen(self, n_more: int) -> None:
        """Add features that were 0 until now."""
        if n_more:
            self._rows = np.pad(self._rows, ((0, 0), (0, n_more)))
