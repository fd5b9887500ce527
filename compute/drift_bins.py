"""Bins: how the values of a feature are counted, so that two distributions can be compared.

Owns where bins begin and end, and counting. What is compared with what is in `compute/drift_watch.py`.

Bins lie between deciles of the reference: 10 of them, of equal weight where values differ. Where values
repeat, deciles fall together, and the value they fall on is given a bin of its own; so a constant has one
bin for itself and one on each side, and a constant that changes leaves its bin whichever way it goes.
"""

from __future__ import annotations

import numpy as np

from compute.moments import Floats, Integers

N_BINS = 10
"""Bins of a feature, those without values included."""

N_EDGES = N_BINS - 1

_MAX_CELLS = 1_000_000
"""Counts held at a time, where nearly every event opens a new pane."""


def find_edges(columns: Floats) -> Floats:
    """Return the edges between the bins of each feature.

    Parameters
    ----------
    columns : ndarray, shape (n_features, n), float64
        Values of the reference; NaN is a missing value.

    Returns
    -------
    ndarray, shape (n_features, N_EDGES), float64
        Ascending; infinity stands for edges that a feature does not need. A value lies in the bin below an
        edge if it is at most the edge.

    Examples
    --------
    >>> find_edges(np.array([np.arange(100.0)])).tolist()
    [[9.0, 19.0, 29.0, 39.0, 49.0, 59.0, 69.0, 79.0, 89.0]]
    >>> edges = find_edges(np.array([[7.0, 7.0, 7.0, np.nan]]))
    >>> count_bins(np.array([[6.9, 7.0, 7.0, 7.1]]), edges, np.array([0])).tolist()
    [[[1, 2, 1, 0, 0, 0, 0, 0, 0, 0]]]
    """
    edges = np.full((len(columns), N_EDGES), np.inf)
    for row, values in zip(edges, np.sort(columns, axis=1), strict=True):
        n_values = len(values) - int(np.isnan(values).sum())
        if not n_values:
            continue
        deciles = values[-(-n_values * np.arange(1, N_BINS) // N_BINS) - 1]
        distinct, n_times = np.unique(deciles, return_counts=True)
        with np.errstate(over="ignore"):
            own = np.nextafter(distinct[n_times > 1], -np.inf)
        row[: len(distinct) + len(own)] = np.sort(np.r_[distinct, own])
    return edges


def count_bins(columns: Floats, edges: Floats, starts: Integers) -> Integers:
    """Return how many values of each run of events fall into each bin.

    Parameters
    ----------
    columns : ndarray, shape (n_features, n), float64
        Finite values; NaN is a missing value, which no bin counts.
    edges : ndarray, shape (n_features, N_EDGES), float64
    starts : ndarray, shape (k,), int64
        First event of each run, ascending from 0; a run may be empty.

    Returns
    -------
    ndarray, shape (k, n_features, N_BINS), int64

    Examples
    --------
    >>> edges = find_edges(np.array([np.arange(100.0)]))
    >>> count_bins(np.array([[5.0, np.nan, 9.0, 9.5]]), edges, np.array([0, 2]))[:, 0, :2].tolist()
    [[1, 0], [1, 1]]
    """
    n_runs, (n_features, n_events) = len(starts), columns.shape
    counts = np.zeros((n_runs, n_features, N_BINS), np.int64)
    run = None
    if n_runs > 1:
        run = np.repeat(np.arange(n_runs) * N_BINS, np.diff(np.r_[starts, n_events]))
    for feature, values in enumerate(columns):
        present = ~np.isnan(values)
        every = present.all()
        bins = np.searchsorted(edges[feature], values if every else values[present])
        if run is not None:
            bins += run if every else run[present]
        counts[:, feature] = np.bincount(bins, minlength=n_runs * N_BINS).reshape(n_runs, N_BINS)
    return counts


def runs_at_a_time(n_features: int) -> int:
    """Return how many runs `count_bins` should be given, so that its counts stay small.

    Examples
    --------
    >>> runs_at_a_time(64)
    1562
    """
    return max(_MAX_CELLS // (N_BINS * max(n_features, 1)), 1)
