"""How often drift is found where there is none, and how soon where there is.

Run with `python -m benchmarks.drift`; it takes about a minute and writes `results/drift.json`. Features are
watched 9 at a time, of which at most one changes. Errors are also shown to the detectors of River, with the
settings that it ships.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
from river.drift import ADWIN, KSWIN, PageHinkley

from benchmarks.drift_streams import (
    CHANGES,
    FIRST_COMPARED,
    N_PANES,
    PER_PANE,
    REFERENCE_EVENTS,
    STEADY,
    WANDERING,
    Draw,
    Floats,
    Random,
    compared,
    normal,
)
from benchmarks.report import RESULTS, describe_machine
from compute.drift import SIGNIFICANCE, DriftMonitor
from compute.drift_watch import Comparison
from compute.error_drift import ErrorMonitor

N_FEATURES = 9
THRESHOLD = 0.2
N_STEADY, N_CHANGED = 40, 60
"""Streams of each kind."""

STEADY_PANES = 10 * N_PANES
"""Panes that are compared in a stream without a change: they begin 10 windows that do not overlap."""

SMALL_PER_PANE = 10
SMALL = ("normal", "Cauchy", "Poisson, mean 1", "10 entities, AR(1) 0.9", "1 entity, AR(1) 0.9")
"""Streams that are also shown in windows of 120 events."""

WAITED_PANES = 4 * N_PANES
"""Panes after a change, in which it is found or missed."""

N_ERRORS = 200_000
N_ERRORS_KSWIN = 5_000
"""KSWIN takes long."""

WAITED_ERRORS = 3_000
ERRORS_BEFORE = 1_000

CRITERIA: dict[str, Callable[[Comparison], Any]] = {
    "psi": lambda found: (found.psi >= THRESHOLD).any(),
    "ks": lambda found: (found.ks_p_value <= SIGNIFICANCE / N_FEATURES).any(),
    "rule": lambda found: (
        (found.psi >= THRESHOLD) & (found.p_value <= SIGNIFICANCE / found.has_values.sum())
    ).any(),
}
"""An index that is large, a distance that is no chance, and what Nowcast goes by: an index that is both."""


def watch_steady(random: Random, draw: Draw, per_pane: int = PER_PANE) -> dict[str, float]:
    """Return how many of 100 comparisons raise a false alarm, and how many alerts come in 100 windows."""
    n_events = REFERENCE_EVENTS + (N_PANES + STEADY_PANES) * per_pane
    alarms: dict[str, list[bool]] = {name: [] for name in CRITERIA}
    n_alerts = 0
    for _ in range(N_STEADY):
        columns = np.array([draw(random, n_events) for _ in range(N_FEATURES)])
        for _, found in compared(columns, per_pane):
            for name, criterion in CRITERIA.items():
                alarms[name].append(bool(criterion(found)))
        n_alerts += sum(finding.state == "firing" for finding in observed(columns, per_pane))
    n_windows = N_STEADY * STEADY_PANES / N_PANES
    shares = {name: 100 * float(np.mean(found)) for name, found in alarms.items()}
    return {**shares, "alerts_per_100_windows": 100 * n_alerts / n_windows}


def watch_change(random: Random, change: Callable[[Random, int, int], Floats]) -> dict[str, Any]:
    """Return how many panes and events after a change it is found, and how often it is not."""
    at = (FIRST_COMPARED + 2) * PER_PANE
    n_events = at + WAITED_PANES * PER_PANE
    panes: dict[str, list[float]] = {name: [] for name in CRITERIA}
    for _ in range(N_CHANGED):
        columns = np.array(
            [change(random, n_events, at), *(normal(random, n_events) for _ in range(N_FEATURES - 1))]
        )
        found = [(pane - at // PER_PANE, each) for pane, each in compared(columns) if pane * PER_PANE > at]
        for name, criterion in CRITERIA.items():
            panes[name].append(min((pane for pane, each in found if criterion(each)), default=np.inf))
    return {name: describe_delays(delays, PER_PANE) for name, delays in panes.items()}


def describe_delays(delays: Iterable[float], n_events: int = 1) -> dict[str, Any]:
    every = np.array(list(delays), float)
    found = every[np.isfinite(every)]
    told: dict[str, Any] = {"missed_percent": 100 * float(np.mean(~np.isfinite(every)))}
    if found.size:
        middle, late = (float(np.percentile(found, q, method="higher")) for q in (50, 90))
        told |= {"median_events": middle * n_events, "p90_events": late * n_events}
        if n_events > 1:
            told |= {"median_panes": middle, "p90_panes": late}
    return told


def observed(columns: Floats, per_pane: int) -> list[Any]:
    monitor = DriftMonitor(N_PANES, REFERENCE_EVENTS, THRESHOLD)
    n_events = columns.shape[1]
    names = [f"f{i}" for i in range(len(columns))]
    panes = np.arange(n_events) // per_pane
    return monitor.observe(names, columns.T, np.full(n_events, np.nan), panes, "1")


def wrong(share: float) -> Draw:
    return lambda random, n: (random.random(n) < share) * 1.0


def in_runs(random: Random, n: int) -> Floats:
    """Return errors that come in runs: entities are right or wrong for some time."""
    state = random.random(n // 5 + 1) < 0.2
    return np.repeat(state, 5)[:n] * 1.0


ERRORS: dict[str, Draw] = {
    "2% wrong": wrong(0.02),
    "10% wrong": wrong(0.1),
    "30% wrong": wrong(0.3),
    "20% wrong, in runs of 5": in_runs,
    "distance of a regression": lambda random, n: np.abs(random.normal(size=n)),
    "distance, heavy tails": lambda random, n: np.abs(random.standard_t(2, n)),
}

RISES: dict[str, tuple[Draw, Draw]] = {
    "2% to 10% wrong": (wrong(0.02), wrong(0.1)),
    "10% to 20% wrong": (wrong(0.1), wrong(0.2)),
    "10% to 30% wrong": (wrong(0.1), wrong(0.3)),
    "30% to 50% wrong": (wrong(0.3), wrong(0.5)),
    "distance x 1.5": (
        ERRORS["distance of a regression"],
        lambda random, n: 1.5 * np.abs(random.normal(size=n)),
    ),
}


def fired_by_nowcast(errors: Floats) -> list[int]:
    """Return where an alert begins; one that goes on is not counted again, as those of River are."""
    return [finding.row for finding in ErrorMonitor().observe(errors, "1") if finding.state == "firing"]


def fired_by_river(make: Callable[[], Any]) -> Callable[[Floats], list[int]]:
    def fired(errors: Floats) -> list[int]:
        detector, rows = make(), []
        for row, error in enumerate(errors.tolist()):
            detector.update(error)
            if detector.drift_detected:
                rows.append(row)
        return rows

    return fired


DETECTORS: dict[str, Callable[[Floats], list[int]]] = {
    "Nowcast": fired_by_nowcast,
    "River PageHinkley": fired_by_river(PageHinkley),
    "River ADWIN": fired_by_river(ADWIN),
    "River KSWIN": fired_by_river(lambda: KSWIN(seed=1)),
}


def watch_errors(seed: int) -> dict[str, Any]:
    """Return false alarms, delays and costs of those that watch errors, on the same errors."""
    told: dict[str, Any] = {name: {"false_alarms_per_100000": {}, "rises": {}} for name in DETECTORS}
    seconds, n_shown = dict.fromkeys(DETECTORS, 0.0), dict.fromkeys(DETECTORS, 0)

    def show(name: str, errors: Floats) -> list[int]:
        start = time.perf_counter()
        rows = DETECTORS[name](errors)
        seconds[name] += time.perf_counter() - start
        n_shown[name] += len(errors)
        return rows

    for kind, draw in ERRORS.items():
        errors = draw(np.random.default_rng(seed), N_ERRORS)
        for name in DETECTORS:
            part = errors[: N_ERRORS_KSWIN if "KSWIN" in name else N_ERRORS]
            told[name]["false_alarms_per_100000"][kind] = 1e5 * len(show(name, part)) / len(part)
    for kind, (before, after) in RISES.items():
        random = np.random.default_rng(seed)
        streams = [
            np.r_[before(random, ERRORS_BEFORE), after(random, WAITED_ERRORS)] for _ in range(N_CHANGED)
        ]
        for name in DETECTORS:
            delays = []
            for errors in streams[: 5 if "KSWIN" in name else N_CHANGED]:
                rows = [row for row in show(name, errors) if row >= ERRORS_BEFORE]
                delays.append(rows[0] - ERRORS_BEFORE + 1 if rows else np.inf)
            told[name]["rises"][kind] = describe_delays(delays)
    for name in DETECTORS:
        told[name]["us_per_error"] = 1e6 * seconds[name] / n_shown[name]
    return told


def measure_cost() -> dict[str, float]:
    """Return what it takes to watch batches of 4,000 events, us an event and feature."""
    random, n_events = np.random.default_rng(1), 4_000
    names = [f"f{i}" for i in range(N_FEATURES)]
    matrix, scores = random.normal(size=(n_events, N_FEATURES)), random.random(n_events)
    told = {}
    for name, panes_a_batch in (("a pane in 5 batches", 0.2), ("a pane each batch", 1.0), ("40 panes", 40.0)):
        monitor, spent = DriftMonitor(N_PANES, REFERENCE_EVENTS, THRESHOLD), []
        for i in range(200):
            panes = ((i + np.arange(n_events) / n_events) * panes_a_batch).astype(np.int64)
            start = time.perf_counter()
            monitor.observe(names, matrix, scores, panes, "1")
            spent.append(time.perf_counter() - start)
        best = np.array(spent[100:]).reshape(-1, 5).mean(axis=1).min()  # 5 batches: each has its new panes
        told[name] = 1e6 * float(best) / n_events / N_FEATURES
    return told


def main() -> int:
    """Measure, print and write."""
    random = np.random.default_rng(20261122)
    document: dict[str, Any] = describe_machine()
    document["cost_us_per_event_and_feature"] = measure_cost()
    for name, cost in document["cost_us_per_event_and_feature"].items():
        print(f"{name:20} {cost:.3f} us an event and feature")
    title = "false alarms in 100 comparisons"
    print(f"\n{title:48} {'psi':>6} {'ks':>6} {'rule':>6} {'alerts/100 windows':>19}")
    document["steady"] = {}
    kinds = [(name, draw, PER_PANE) for name, draw in {**STEADY, **WANDERING}.items()]
    kinds += [(f"{name}, small windows", STEADY[name], SMALL_PER_PANE) for name in SMALL]
    for name, draw, per_pane in kinds:
        told = document["steady"][name] = watch_steady(random, draw, per_pane)
        shares = " ".join(f"{told[each]:6.1f}" for each in CRITERIA)
        print(f"{name:48} {shares} {told['alerts_per_100_windows']:19.1f}")
    print(f"\n{'panes to a change: median, p90 (missed)':48} {'psi':>16} {'ks':>16} {'rule':>16}")
    document["changes"] = {}
    for name, change in CHANGES.items():
        delays = document["changes"][name] = watch_change(random, change)
        print(f"{name:48} " + " ".join(f"{_show(delays[each], 'panes'):>16}" for each in CRITERIA))
    document["errors"] = errors = watch_errors(1)
    print(f"\n{'errors':32} " + " ".join(f"{name:>22}" for name in errors))
    for kind in ERRORS:
        alarms = [told["false_alarms_per_100000"][kind] for told in errors.values()]
        print(f"{kind + ', alarms per 100,000':32.32} " + " ".join(f"{alarm:22.0f}" for alarm in alarms))
    for kind in RISES:
        shown = [_show(told["rises"][kind], "events") for told in errors.values()]
        print(f"{kind:32} " + " ".join(f"{delay:>22}" for delay in shown))
    print(f"{'us an error':32} " + " ".join(f"{told['us_per_error']:22.2f}" for told in errors.values()))
    path = RESULTS.with_name("drift.json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    return 0


def _show(told: dict[str, Any], unit: str) -> str:
    missed = f" ({told['missed_percent']:.0f}%)" if told["missed_percent"] else ""
    if f"median_{unit}" not in told:
        return f"-{missed}"
    return f"{told[f'median_{unit}']:.0f}, {told[f'p90_{unit}']:.0f}{missed}"


if __name__ == "__main__":
    sys.exit(main())
