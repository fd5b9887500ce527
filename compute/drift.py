"""Drift: whether features and scores of a partition are still distributed as they were.

Owns the rule: when a feature drifts, when it no longer does, and what is told of it. How distributions are
compared is in `compute/drift_measures.py`, of what events in `compute/drift_watch.py`, the stored form in
`compute/drift_state.py`.

A feature drifts when its population stability index reaches the threshold and chance is no explanation: its
p-value is at most `SIGNIFICANCE`, divided by the number of features (Bonferroni). It no longer does when the
index is below half the threshold, or chance would explain it again. The Kolmogorov-Smirnov distance is told
beside it, for people who know its scale; it decides nothing, since for the changes that reach the threshold
it is the weaker test.

The score is watched as one more feature, called score; a feature of that name is told of as `score
(feature)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.alert_columns import CRITICAL, QUIET, WARNING
from compute.alerts import Severity, State
from compute.drift_findings import Finding, Shift, describe_shift, share_out
from compute.drift_state import DriftState, decode_state, encode_state
from compute.drift_watch import Comparison, Watch
from compute.moments import Floats, Integers
from compute.panes import EMPTY

RULE = "drift"

MAX_FEATURES = 64
"""Features watched: the first that have a value since the version changed; bounds state and time."""

SIGNIFICANCE = 0.001
"""How often chance may pass for a drift, in one comparison of all features."""

SIGNIFICANCE_GONE = 0.05
"""A drift that chance explains this well, for its feature alone, is over."""

CRITICAL_FACTOR = 5.0
"""An index this many times the threshold is critical: with 0.2, a shift by a standard deviation."""

_SEVERITIES: dict[int, Severity] = {WARNING: "warning", CRITICAL: "critical"}


class DriftMonitor:
    """Watches the distributions of one partition's features and scores.

    Parameters
    ----------
    n_panes : int
        Panes in the window, and the least that the reference lasts.
    reference_events : int
        Events of the reference, at least.
    threshold : float
        Population stability index from which on a feature drifts.

    Examples
    --------
    >>> random = np.random.default_rng(1)
    >>> monitor = DriftMonitor(n_panes=4, reference_events=400, threshold=0.2)
    >>> level = np.repeat([20.0, 23.0], 1200)
    >>> flow = random.normal(level, 3.0)[:, None]
    >>> panes = np.arange(2400) // 100
    >>> for finding in monitor.observe(["flow"], flow, np.zeros(2400), panes, version="1"):
    ...     shift = finding.shifts[0]
    ...     print(panes[finding.row], finding.state, finding.severity, shift.feature, round(shift.psi, 2))
    14 firing warning flow 0.44
    16 firing critical flow 1.21
    """

    def __init__(self, n_panes: int, reference_events: int, threshold: float) -> None:
        if n_panes < 1 or reference_events < 1 or not 0 < threshold < np.inf:
            raise ValueError(
                "n_panes, reference_events, threshold: must be above 0, received "
                f"{n_panes}, {reference_events}, {threshold}"
            )
        self.n_panes, self.reference_events, self.threshold = n_panes, reference_events, threshold
        self._begin(None)

    def observe(
        self, names: Sequence[str], matrix: Floats, scores: Floats, panes: Integers, version: str
    ) -> list[Finding]:
        """Take in the events of a batch and return the drifts that begin, get worse or end with them.

        Any split of the events into batches gives the same findings. A version other than the last one's
        begins anew, with a reference of its own: its scores are not to be compared with another model's.

        Parameters
        ----------
        names : sequence of str, length n_features
            Names of the features, in any order; those that are absent are missing.
        matrix : ndarray, shape (n, n_features), float64
            Raw values in the order of the events; what is not finite is missing.
        scores : ndarray, shape (n,), float64
            NaN for events without one that counts, as those of entities that warm up.
        panes : ndarray, shape (n,), int64
            The partition's watermark at each event; one before the last counts as the last.
        version : str
            Of the model that serves.

        Returns
        -------
        list of Finding
        """
        n_events = len(panes)
        if matrix.shape != (n_events, len(names)) or len(scores) != n_events:
            raise ValueError(
                f"matrix, scores: must have shapes ({n_events}, {len(names)}) and ({n_events},), received "
                f"{matrix.shape} and {scores.shape}"
            )
        if not n_events:
            return []
        findings = []
        if version != self._state.version:
            findings += self._end(row=0)
            self._begin(version)
        state = self._state
        self._find_new_names(names, matrix)
        panes = np.maximum.accumulate(np.maximum(panes, state.watches[0].newest))
        starts = np.flatnonzero(np.r_[True, panes[1:] != panes[:-1]])
        entered = panes.take(starts)
        columns = _select(names, matrix, state.names)
        compared = [dict(state.watches[0].observe(columns, starts, entered))]
        scored = np.flatnonzero(np.isfinite(scores))
        column = scores.take(scored)[None, :]
        compared.append(dict(state.watches[1].observe(column, np.searchsorted(scored, starts), entered)))
        for run in sorted(set().union(*compared)):
            found = [of_watch.get(run) for of_watch in compared]
            findings += self._judge(int(starts[run]), int(entered[run]), found)
        return findings

    def describe(self) -> dict[str, Any]:
        """Return what people want to see.

        `state` is "collecting" until reference and window are complete, then "quiet" or "firing", `since`
        the watermark's pane at which the drift began (None without one), `n_reference` and `n_window` how
        many events are compared, and `features` how far each is from its reference by now, the pane that is
        being filled included.
        """
        state, (watch, _) = self._state, self._state.watches
        features = []
        for each, names, drifting in zip(state.watches, self._names(), state.drifting, strict=True):
            comparison = each.compare() if each.is_full else None
            if comparison is None:
                continue
            for i in np.flatnonzero(comparison.has_values).tolist():
                features.append(
                    {
                        "feature": names[i],
                        "psi": float(comparison.psi[i]),
                        "ks": float(comparison.ks[i]),
                        "p_value": float(comparison.p_value[i]),
                        "drifting": bool(drifting[i]),
                    }
                )
        quiet = "quiet" if watch.is_full else "collecting"
        return {
            "state": "firing" if state.severity else quiet,
            "since": state.since if state.severity else None,
            "n_reference": watch.reference.n_events if watch.reference else watch.sample.n_events,
            "n_window": watch.window.n_held if watch.window else 0,
            "features": features,
        }

    def encode(self) -> bytes:
        """Return the stored form."""
        return encode_state(self._state, self.threshold)

    @classmethod
    def decode(cls, stored: bytes) -> DriftMonitor:
        """Return the monitor that `encode` stored.

        Raises
        ------
        ValueError
            If the bytes are no stored monitor, whatever they are.

        Examples
        --------
        >>> monitor = DriftMonitor(n_panes=4, reference_events=400, threshold=0.2)
        >>> DriftMonitor.decode(monitor.encode()).has_options_of(monitor)
        True
        """
        state, threshold = decode_state(stored, MAX_FEATURES)
        watch = state.watches[0]
        monitor = cls(watch.n_panes, watch.reference_events, threshold)
        monitor._state = state
        return monitor

    def has_options_of(self, other: DriftMonitor) -> bool:
        """Tell whether another monitor was given the same numbers."""
        mine, others = ((each.n_panes, each.reference_events, each.threshold) for each in (self, other))
        return mine == others

    def _begin(self, version: str | None) -> None:
        watches = [Watch(self.n_panes, self.reference_events, n_features) for n_features in (0, 1)]
        self._state = DriftState(version, [], watches, [np.zeros(0, np.bool_), np.zeros(1, np.bool_)])

    def _end(self, row: int) -> list[Finding]:
        """Resolve what is firing: what comes is compared with something else."""
        state = self._state
        if not state.severity:
            return []
        compared = [watch.compare(min_events=1) for watch in state.watches]
        return [self._tell(row, "resolved", compared, state.drifting)]

    def _find_new_names(self, names: Sequence[str], matrix: Floats) -> None:
        """Watch the features that have their first value in this batch, in the order of these values."""
        state = self._state
        if len(state.names) == MAX_FEATURES:
            return
        known, found = set(state.names), []
        for column, name in enumerate(names):
            if name not in known:
                present = np.isfinite(matrix[:, column])
                if present.any():
                    found.append((int(present.argmax()), name))
        if found:
            # By name within an event: the order of the columns depends on what else the worker has seen.
            state.names += [name for _, name in sorted(found)][: MAX_FEATURES - len(state.names)]
            n_features = len(state.names)
            state.watches[0].widen(n_features)
            state.drifting[0] = np.r_[
                state.drifting[0], np.zeros(n_features - len(state.drifting[0]), np.bool_)
            ]

    def _judge(self, row: int, pane: int, compared: list[Comparison | None]) -> list[Finding]:
        state = self._state
        n_judged = sum(int(each.has_values.sum()) for each in compared if each is not None)
        before = [drifting.copy() for drifting in state.drifting]
        for drifting, each in zip(state.drifting, compared, strict=True):
            if each is not None:
                stays = (each.psi >= self.threshold / 2) & (each.p_value <= SIGNIFICANCE_GONE)
                begins = (each.psi >= self.threshold) & (each.p_value <= SIGNIFICANCE / max(n_judged, 1))
                drifting[:] = (drifting & stays) | begins
        if not any(drifting.any() for drifting in state.drifting):
            if not state.severity:
                return []
            finding = self._tell(row, "resolved", compared, before)
            state.severity, state.since = QUIET, EMPTY
            return [finding]
        largest = max(
            float(each.psi[drifting].max(initial=0.0))
            for drifting, each in zip(state.drifting, compared, strict=True)
            if each is not None
        )
        reached = CRITICAL if largest >= CRITICAL_FACTOR * self.threshold else WARNING
        if reached <= state.severity:
            return []
        if not state.severity:
            state.since = pane
        state.severity = reached
        return [self._tell(row, "firing", compared, state.drifting)]

    def _tell(
        self, row: int, what: State, compared: list[Comparison | None], drifting: list[NDArray[np.bool_]]
    ) -> Finding:
        shifts: list[Shift] = []
        parts = zip(self._state.watches, self._names(), compared, drifting, strict=True)
        for watch, names, each, chosen in parts:
            if each is not None and watch.reference is not None:
                for i in np.flatnonzero(chosen).tolist():
                    shifts.append(describe_shift(names[i], watch.reference, each, i))
        return Finding(
            row=row,
            rule=RULE,
            state=what,
            severity=_SEVERITIES[self._state.severity],
            score=max((shift.psi for shift in shifts), default=0.0),
            threshold=self.threshold,
            shifts=share_out(shifts),
        )

    def _names(self) -> tuple[list[str], list[str]]:
        """Return what the features of each watch are called; none must be taken for the score."""
        return ["score (feature)" if name == "score" else name for name in self._state.names], ["score"]


def _select(names: Sequence[str], matrix: Floats, wanted: Sequence[str]) -> Floats:
    """Return the columns of the wanted features as rows; NaN is a missing value, and infinity is none."""
    column_of = {name: column for column, name in enumerate(names)}
    columns = np.full((len(wanted), len(matrix)), np.nan)
    for row, name in zip(columns, wanted, strict=True):
        if name in column_of:
            row[:] = matrix[:, column_of[name]]
    columns[np.isinf(columns)] = np.nan
    return columns
