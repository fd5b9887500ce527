"""Whether drift is found where there is one, soon, and not where there is none.

The figures of `benchmarks/drift.py` in small, with bounds: a change that spoils them fails here.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.drift_streams import (
    CHANGES,
    FIRST_COMPARED,
    N_PANES,
    PER_PANE,
    REFERENCE_EVENTS,
    STEADY,
    compared,
    normal,
)
from compute.drift import DriftMonitor

N_FEATURES, N_STREAMS = 9, 8
STEADY_PANES, WAITED_PANES = 5 * N_PANES, 3 * N_PANES
AT = (FIRST_COMPARED + 2) * PER_PANE


def findings_of(columns):
    monitor = DriftMonitor(N_PANES, REFERENCE_EVENTS, threshold=0.2)
    names = [f"f{i}" for i in range(len(columns))]
    panes = np.arange(columns.shape[1]) // PER_PANE
    return monitor.observe(names, columns.T, np.full(len(panes), np.nan), panes, "1")


WITH_A_MEMORY = [name for name in STEADY if "AR(1)" in name]


@pytest.mark.parametrize("kind", [kind for kind in STEADY if kind not in WITH_A_MEMORY])
def test_a_stream_that_does_not_change_raises_no_alert(kind):
    random = np.random.default_rng(1)
    for _ in range(N_STREAMS):
        n_events = (FIRST_COMPARED + STEADY_PANES) * PER_PANE
        assert findings_of(np.array([STEADY[kind](random, n_events) for _ in range(N_FEATURES)])) == []


@pytest.mark.parametrize("kind", WITH_A_MEMORY)
def test_entities_with_a_memory_raise_few_alerts(kind):
    random = np.random.default_rng(2)
    n_alerts = 0
    for _ in range(N_STREAMS):
        n_events = (FIRST_COMPARED + STEADY_PANES) * PER_PANE
        columns = np.array([STEADY[kind](random, n_events) for _ in range(N_FEATURES)])
        n_alerts += sum(finding.state == "firing" for finding in findings_of(columns))
    assert n_alerts <= 0.4 * N_STREAMS * STEADY_PANES / N_PANES


def test_chance_alone_is_not_taken_for_a_drift_by_any_of_the_tests():
    random = np.random.default_rng(3)
    n_events = (FIRST_COMPARED + 20 * N_PANES) * PER_PANE
    found = [each for _, each in compared(random.normal(size=(20, n_events)))]
    assert np.mean([each.p_value <= 0.01 for each in found]) <= 0.02
    assert np.mean([each.ks_p_value <= 0.01 for each in found]) <= 0.02
    assert max(each.psi.max() for each in found) < 0.1


@pytest.mark.parametrize(
    ("kind", "panes"),
    [
        ("mean + 0.5 sd", 14),
        ("mean + 1 sd", 9),
        ("mean + 2 sd", 5),
        ("mean + 1 sd, over 2 windows", 22),
        ("mean + 1 sd, on a cycle as long as the window", 13),
        ("mean + 1 sd, 10 entities, AR(1) 0.9", 12),
        ("stddev x 2", 11),
        ("20% go missing", 6),
        ("50% go missing", 3),
        ("10% are of a new category", 10),
    ],
)
def test_a_change_of_one_feature_among_nine_is_found_in_time(kind, panes):
    random = np.random.default_rng(4)
    n_events = AT + WAITED_PANES * PER_PANE
    for _ in range(N_STREAMS):
        others = [normal(random, n_events) for _ in range(N_FEATURES - 1)]
        first, *_ = findings_of(np.array([*others, CHANGES[kind](random, n_events, AT)]))
        assert first.state == "firing"
        assert first.shifts[0].feature.startswith(f"f{N_FEATURES - 1}")
        assert AT < first.row <= AT + panes * PER_PANE


def test_a_change_too_small_for_the_threshold_is_left_alone():
    random = np.random.default_rng(5)
    n_events = AT + WAITED_PANES * PER_PANE
    assert findings_of(np.array([CHANGES["mean + 0.25 sd"](random, n_events, AT)])) == []
