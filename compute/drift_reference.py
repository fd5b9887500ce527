"""The reference: how features were distributed before, frozen.

Owns which events are remembered until the reference is complete, and what is kept of them then. When it is
complete is decided in `compute/drift_watch.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.drift_bins import N_BINS, N_EDGES, count_bins, find_edges
from compute.drift_measures import N_BLOCKS, excess_noise
from compute.moments import Floats, Integers

MAX_SAMPLE = 1_000
"""Events remembered: by chance alone they move an index by 9/500, a tenth of what is taken for a drift."""

MAX_LEVEL = 63


class ReferenceSample:
    """An even sample of the events so far.

    Adaptive sampling (Flajolet 1990, "On adaptive sampling"): each event draws a number, and at level l
    those stay whose number ends with l zero bits; when they are too many, the level rises. So about half of
    `MAX_SAMPLE` or more stay, whatever the number of events. The number is a hash of the event's position
    (the finaliser of SplitMix64, Steele, Lea and Flood 2014): the sample is a function of the stream alone,
    and unlike every k-th event it does not fall into step with k sensors that take turns.

    Parameters
    ----------
    n_features : int

    Attributes
    ----------
    n_events, level : int
        Events so far; how many zero bits are asked for.
    positions : ndarray, shape (k,), int64
        Which events stayed, ascending.
    rows : ndarray, shape (k, n_features), float64
        Their values; NaN is a missing value.

    Examples
    --------
    >>> sample = ReferenceSample(n_features=1)
    >>> sample.add(np.arange(5000.0)[None, :])
    >>> sample.n_events, sample.level, len(sample.rows)
    (5000, 3, 610)
    """

    def __init__(self, n_features: int) -> None:
        self.n_events = self.level = 0
        self.positions: Integers = np.zeros(0, np.int64)
        self.rows: Floats = np.zeros((0, n_features))

    def add(self, columns: Floats) -> None:
        """Take events in; `columns` has shape (n_features, n)."""
        n_events = columns.shape[1]
        positions = np.arange(self.n_events, self.n_events + n_events)
        staying = np.flatnonzero(stays(positions, self.level))
        self.n_events += n_events
        if not staying.size:
            return
        self.positions = np.concatenate([self.positions, positions.take(staying)])
        self.rows = np.concatenate([self.rows, columns.take(staying, axis=1).T])
        while len(self.positions) > MAX_SAMPLE:
            self.level += 1
            kept = stays(self.positions, self.level)
            self.positions, self.rows = self.positions[kept], self.rows[kept]

    def widen(self, n_features: int) -> None:
        """Make room for features that nobody had so far."""
        missing = np.full((len(self.rows), n_features - self.rows.shape[1]), np.nan)
        self.rows = np.hstack([self.rows, missing])

    def freeze(self) -> Reference:
        """Return the reference that these events make."""
        columns = np.ascontiguousarray(self.rows.T)
        n_features, n_sampled = columns.shape
        edges = find_edges(columns)
        starts = n_sampled * np.arange(N_BLOCKS) // N_BLOCKS
        blocks = count_bins(columns, edges, starts)
        n_missing = np.diff(np.r_[starts, n_sampled])[:, None] - blocks.sum(axis=2)
        mean, stddev = np.zeros((2, n_features))
        for feature, values in enumerate(columns):
            present = values[~np.isnan(values)]
            if present.size:
                mean[feature], stddev[feature] = _describe(present)
        noise = excess_noise(np.concatenate([blocks, n_missing[:, :, None]], axis=2)) / N_BLOCKS
        return Reference(self.n_events, n_sampled, edges, blocks.sum(axis=0), mean, stddev, noise)


@dataclass
class Reference:
    """What is kept of the reference's events.

    Attributes
    ----------
    n_events, n_sampled : int
        Events it stands for, and those of them that were counted.
    edges : ndarray, shape (n_features, N_EDGES), float64
    counts : ndarray, shape (n_features, N_BINS), int64
    mean, stddev : ndarray, shape (n_features,), float64
        Of the values; 0 where there is none.
    noise : ndarray, shape (n_features,), float64
        What the shares of bins vary by beyond chance, since events that follow each other are alike.
    """

    n_events: int
    n_sampled: int
    edges: Floats
    counts: Integers
    mean: Floats
    stddev: Floats
    noise: Floats

    def widen(self, n_features: int) -> None:
        """Add features that no event of the reference had."""
        n_more = n_features - len(self.edges)
        self.edges = np.concatenate([self.edges, np.full((n_more, N_EDGES), np.inf)])
        self.counts = np.concatenate([self.counts, np.zeros((n_more, N_BINS), np.int64)])
        self.mean, self.stddev, self.noise = (
            np.concatenate([part, np.zeros(n_more)]) for part in (self.mean, self.stddev, self.noise)
        )


def _describe(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation, the largest number where they overflow."""
    scale = float(np.abs(values).max())
    if scale < 1e150:
        return float(values.mean()), float(values.std())
    scaled = values / scale
    return float(scaled.mean() * scale), float(scaled.std() * scale)


def stays(positions: Integers, level: int) -> NDArray[np.bool_]:
    """Return which positions belong to a sample of this level: one of 2**level.

    Examples
    --------
    >>> [int(stays(np.arange(1000), level).sum()) for level in range(4)]
    [1000, 461, 246, 134]
    """
    if not level:
        return np.ones(len(positions), np.bool_)
    bits = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # modulo 2**64, as meant
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return np.asarray(bits & np.uint64((1 << level) - 1) == 0)
