"""The window: how features are distributed now, counted by pane.

Owns the ring of panes and what it holds when a pane begins. Bins and their edges are those of the reference.
"""

from __future__ import annotations

import numpy as np

from compute.drift_bins import N_BINS
from compute.moments import Floats, Integers


class DriftWindow:
    """Counts of the newest panes, of the same features as a reference.

    Parameters
    ----------
    n_panes, n_features : int
    pane : int
        The pane in which the window begins.

    Attributes
    ----------
    since : int
        Pane from which on the window has seen events without a gap as long as itself.
    newest : int
        Pane that is being filled; pane `p` lies at position `p % n_panes`.
    counts : ndarray, shape (n_panes, n_features, N_BINS), int64
    n_events : ndarray, shape (n_panes,), int64
    sums : ndarray, shape (n_panes, 2, n_features), float64
        Sums of deviations from the reference's mean, and of their squares.
    held, n_held : ndarray, shape (n_features, N_BINS), int64, and int
        Sums of `counts` and `n_events` over all panes.

    Examples
    --------
    >>> window = DriftWindow(n_panes=2, n_features=1, pane=7)
    >>> one = np.eye(1, N_BINS, dtype=np.int64)
    >>> window.add(one, 1, np.zeros((2, 1)))
    >>> window.advance(8), window.n_held
    (False, 1)
    >>> window.begin()
    >>> window.advance(9), window.n_held
    (True, 1)
    >>> window.begin()
    >>> window.n_held
    0
    """

    def __init__(self, n_panes: int, n_features: int, pane: int) -> None:
        self.since = self.newest = pane
        self.counts: Integers = np.zeros((n_panes, n_features, N_BINS), np.int64)
        self.n_events: Integers = np.zeros(n_panes, np.int64)
        self.sums: Floats = np.zeros((n_panes, 2, n_features))
        self.held: Integers = np.zeros((n_features, N_BINS), np.int64)
        self.n_held = 0

    def advance(self, pane: int) -> bool:
        """Go on to a later pane, and tell whether the `n_panes` before it are all behind the beginning.

        The window then holds just these; `begin` makes room for the new one.
        """
        n_panes = len(self.n_events)
        # The oldest one stays until `begin`: with it the panes before the new one are n_panes.
        n_gone = min(pane - self.newest - 1, n_panes)
        for gone in range(self.newest + 1, self.newest + 1 + n_gone):
            self._forget(gone % n_panes)
        self.newest = pane
        if not self.n_held:
            self.since = pane
        return pane - self.since >= n_panes

    def begin(self) -> None:
        """Empty the newest pane's place."""
        self._forget(self.newest % len(self.n_events))

    def add(self, counts: Integers, n_events: int, sums: Floats) -> None:
        """Count events into the newest pane."""
        position = self.newest % len(self.n_events)
        self.counts[position] += counts
        self.n_events[position] += n_events
        self.sums[position] += sums
        self.held += counts
        self.n_held += n_events

    def widen(self, n_features: int) -> None:
        """Make room for features that no event had so far."""
        n_panes, n_before, _ = self.counts.shape
        n_more = n_features - n_before
        self.counts = np.concatenate([self.counts, np.zeros((n_panes, n_more, N_BINS), np.int64)], axis=1)
        self.sums = np.concatenate([self.sums, np.zeros((n_panes, 2, n_more))], axis=2)
        self.held = np.concatenate([self.held, np.zeros((n_more, N_BINS), np.int64)])

    def _forget(self, position: int) -> None:
        n_events = int(self.n_events[position])
        if n_events:
            self.held -= self.counts[position]
            self.n_held -= n_events
            self.counts[position], self.n_events[position], self.sums[position] = 0, 0, 0.0
