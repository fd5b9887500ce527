"""Features that are watched together: first their reference is gathered, then a window is compared with it.

Owns when the reference is complete and when the window can be compared. Both are functions of the stream
alone: of its events and the panes that its watermark was in.

The reference takes the panes from the first event on, until it has `reference_events` events and has lasted
as long as a window: a cycle that fits into the window is then in both. The window begins with the pane
after, and is compared each time the watermark enters a pane, once it has lasted `n_panes` panes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compute.drift_bins import count_bins, runs_at_a_time
from compute.drift_measures import (
    distance_p_value,
    largest_distance,
    stability_index,
    stability_p_value,
)
from compute.drift_reference import Reference, ReferenceSample
from compute.drift_window import DriftWindow
from compute.moments import Floats, Integers
from compute.panes import EMPTY

MIN_EVENTS = 100
"""Events that a window must hold to be compared: ten in each bin."""


@dataclass(frozen=True)
class Comparison:
    """How far features in the window are from their reference; arrays of shape (n_features,), float64.

    Attributes
    ----------
    psi, psi_missing : ndarray
        Population stability index, and what of it is due to values that are missing.
    p_value : ndarray
        How likely it is as large without a change; 1 for a feature without any value.
    ks, ks_p_value : ndarray
        Kolmogorov-Smirnov distance of the values that are present, and how likely it is.
    mean, stddev, missing : ndarray
        Of the values in the window (0 where there is none), and the share that is missing.
    has_values : ndarray of bool
        Whether reference or window have a value at all.
    """

    psi: Floats
    psi_missing: Floats
    p_value: Floats
    ks: Floats
    ks_p_value: Floats
    mean: Floats
    stddev: Floats
    missing: Floats
    has_values: np.ndarray


class Watch:
    """Reference and window of some features.

    Parameters
    ----------
    n_panes, reference_events, n_features : int

    Attributes
    ----------
    first, newest : int
        Panes of the first event and of the last; `EMPTY` before there is one.
    sample : ReferenceSample
        What the reference will be made of; empty once it is.
    reference, window : Reference and DriftWindow, or None
        None until the reference is complete.
    """

    def __init__(self, n_panes: int, reference_events: int, n_features: int) -> None:
        self.n_panes, self.reference_events, self.n_features = n_panes, reference_events, n_features
        self.first = self.newest = EMPTY
        self.sample = ReferenceSample(n_features)
        self.reference: Reference | None = None
        self.window: DriftWindow | None = None

    def widen(self, n_features: int) -> None:
        """Watch more features, which no event had so far."""
        self.n_features = n_features
        self.sample.widen(n_features)
        if self.reference is not None and self.window is not None:
            self.reference.widen(n_features)
            self.window.widen(n_features)

    def observe(self, columns: Floats, starts: Integers, panes: Integers) -> list[tuple[int, Comparison]]:
        """Take events in, and compare wherever that is due.

        Parameters
        ----------
        columns : ndarray, shape (n_features, n), float64
            Finite values; NaN is a missing value.
        starts, panes : ndarray, shape (k,), int64
            Runs of events by the watermark's pane: where each begins, and the pane, ascending and not before
            `newest`. Runs may be empty.

        Returns
        -------
        list of (int, Comparison)
            At the beginning of which runs the window was compared, and what came of it.
        """
        ends = np.r_[starts[1:], columns.shape[1]]
        run = 0
        while run < len(starts) and not self._is_complete(int(panes[run])):
            self._gather(columns[:, starts[run] : ends[run]], int(panes[run]))
            run += 1
        compared: list[tuple[int, Comparison]] = []
        n_at_a_time = runs_at_a_time(self.n_features)
        for first in range(run, len(starts), n_at_a_time):
            last = min(first + n_at_a_time, len(starts))
            part = columns[:, starts[first] : ends[last - 1]]
            compared += [
                (first + i, found)
                for i, found in self._count(part, starts[first:last] - starts[first], panes[first:last])
            ]
        return compared

    @property
    def is_full(self) -> bool:
        """Whether the window, the pane that is being filled included, has lasted as long as it should."""
        return self.window is not None and self.window.newest - self.window.since >= self.n_panes - 1

    def compare(self, min_events: int = MIN_EVENTS) -> Comparison | None:
        """Compare what the window holds now; None if that is too little."""
        reference, window = self.reference, self.window
        if reference is None or window is None or window.n_held < min_events:
            return None
        n_before, n_now = reference.n_sampled, window.n_held
        present = window.held.sum(axis=1)
        before, now = (
            np.column_stack([counts, n_events - counts.sum(axis=1)])
            for counts, n_events in ((reference.counts, n_before), (window.held, n_now))
        )
        terms, n_filled = stability_index(before, now)
        psi = terms.sum(axis=1)
        noise = 1 / n_before + 1 / n_now + reference.noise * (1 + reference.n_events / n_now)
        ks = largest_distance(reference.counts, window.held)
        shares = np.minimum(reference.counts.sum(axis=1) / n_before, present / n_now)
        with np.errstate(over="ignore", invalid="ignore"):
            sums = window.sums.sum(axis=0)
            away = sums[0] / np.maximum(present, 1)
            mean = np.where(present > 0, reference.mean + away, 0.0)
            stddev = np.sqrt(np.maximum(sums[1] / np.maximum(present, 1) - away * away, 0.0))
        return Comparison(
            psi=psi,
            psi_missing=terms[:, -1],
            p_value=stability_p_value(psi, n_filled, noise),
            ks=ks,
            ks_p_value=distance_p_value(ks, noise / np.maximum(shares, 1 / n_now)),
            mean=np.nan_to_num(mean),
            stddev=np.nan_to_num(stddev),
            missing=1 - present / n_now,
            has_values=(present > 0) | reference.counts.any(axis=1),
        )

    def _is_complete(self, pane: int) -> bool:
        """Tell whether the reference is complete, and freeze it if a pane begins that finds it so."""
        if self.reference is not None:
            return True
        lasted = self.first != EMPTY and pane - self.first >= self.n_panes
        if pane == self.newest or not lasted or self.sample.n_events < self.reference_events:
            return False
        self.reference = self.sample.freeze()
        self.window = DriftWindow(self.n_panes, self.n_features, pane)
        self.sample = ReferenceSample(self.n_features)
        return True

    def _gather(self, columns: Floats, pane: int) -> None:
        if columns.shape[1]:
            if self.first == EMPTY:
                self.first = pane
            self.sample.add(columns)
        self.newest = pane

    def _count(self, columns: Floats, starts: Integers, panes: Integers) -> list[tuple[int, Comparison]]:
        assert self.reference is not None
        assert self.window is not None
        window = self.window
        counts = count_bins(columns, self.reference.edges, starts)
        sums = _sum_deviations(columns, self.reference.mean, starts)
        n_events = np.diff(np.r_[starts, columns.shape[1]]).tolist()
        compared = []
        for run, pane in enumerate(panes.tolist()):
            if pane > window.newest:
                lasted = window.advance(pane)
                found = self.compare() if lasted else None
                if found is not None:
                    compared.append((run, found))
                window.begin()
            if n_events[run]:
                window.add(counts[run], n_events[run], sums[run])
        self.newest = window.newest
        return compared


def _sum_deviations(columns: Floats, mean: Floats, starts: Integers) -> Floats:
    """Return sums of deviations and of their squares, by run; shape (k, 2, n_features)."""
    n_features, n_events = columns.shape
    sums = np.zeros((len(starts), 2, n_features))
    filled = np.flatnonzero(np.diff(np.r_[starts, n_events]) > 0)
    if filled.size:
        with np.errstate(over="ignore", invalid="ignore"):
            deviations = columns - mean[:, None]
            deviations[np.isnan(columns)] = 0.0
            for i in range(2):
                sums[filled, i] = np.add.reduceat(deviations, starts[filled], axis=1).T
                deviations *= deviations
    return sums
