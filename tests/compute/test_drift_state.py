from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.drift import MAX_FEATURES, DriftMonitor
from compute.drift_reference import MAX_SAMPLE
from compute.drift_state import decode_state


def filled(n_events=1500, n_features=2, n_panes=4, reference_events=400, events_per_pane=100, shift=3.0):
    random = np.random.default_rng(1)
    monitor = DriftMonitor(n_panes, reference_events, 0.2)
    matrix = random.normal(size=(n_events, n_features))
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    matrix[n_events // 2 :] += shift
    names = [f"f{i}" for i in range(n_features)]
    panes = np.arange(n_events) // events_per_pane
    monitor.observe(names, matrix, random.random(n_events), panes, "v1")
    return monitor


MONITORS = {
    "new": lambda: DriftMonitor(4, 400, 0.2),
    "gathering": lambda: filled(n_events=350),
    "thinned": lambda: filled(n_events=5000, reference_events=9000),
    "comparing": lambda: filled(shift=0.0),
    "firing": lambda: filled(),
    "without features": lambda: filled(n_features=0),
    "with gaps": lambda: filled(events_per_pane=100, n_panes=8, n_events=1234),
}


@pytest.mark.parametrize("name", MONITORS)
def test_what_is_stored_is_read_back(name):
    monitor = MONITORS[name]()
    stored = monitor.encode()
    back = DriftMonitor.decode(stored)
    assert back.encode() == stored
    assert back.describe() == monitor.describe()
    assert back.has_options_of(monitor)


def test_a_stored_monitor_is_as_small_as_documented():
    for n_features, gathering, comparing in ((MAX_FEATURES, 540_000, 50_000), (9, 100_000, 8_000)):
        for n_events, bound in ((4000, gathering), (40_000, comparing)):
            monitor = filled(n_events, n_features, n_panes=12, reference_events=4001, events_per_pane=1000)
            assert 0.5 * bound < len(monitor.encode()) <= bound


def replaced(stored, at, form, value):
    return stored[:at] + struct.pack(form, value) + stored[at + struct.calcsize(form) :]


# With two features f0 and f1, and version v1.
NAMES_AT, FLAGS_AT, WATCH_AT, BODY_AT = 42, 50, 53, 77
EDGES_AT, COUNTS_AT, MOMENTS_AT, PANES_AT = 101, 245, 285, 333


@pytest.mark.parametrize(
    ("name", "at", "form", "value", "message"),
    [
        ("firing", 0, "<B", 1, "must begin with"),
        ("firing", 2, "<B", 9, "must begin with"),
        ("firing", 3, "<B", 3, "severity must be 0 to 2"),
        ("firing", 3, "<B", 0, "contradict"),
        ("firing", 4, "<H", 0, "n_panes must be 1 to"),
        ("firing", 4, "<H", 1, "ages must fall"),
        ("firing", 6, "<H", 65, "n_features must be 0 to 64"),
        ("firing", 6, "<H", 3, "feature names"),
        ("firing", 8, "<H", 65000, "bytes more"),
        ("firing", 10, "<H", 1, "must begin with"),
        ("firing", 12, "<I", 2**32 - 1, "bytes more"),
        ("firing", 16, "<Q", 0, "reference_events must be 1 to"),
        ("firing", 24, "<d", math.nan, "threshold must be above 0"),
        ("firing", 24, "<d", math.inf, "threshold must be above 0"),
        ("firing", 32, "<q", 2**60, "since must be"),
        ("firing", 32, "<q", -(2**62), "contradict"),
        ("firing", NAMES_AT + 2, "<2s", b"f1", "different names"),
        ("firing", NAMES_AT + 2, "<2s", b"\xff\xff", "utf-8"),
        ("firing", FLAGS_AT, "<B", 2, "contradict"),
        ("comparing", FLAGS_AT, "<B", 1, "contradict"),
        ("firing", WATCH_AT, "<B", 2, "stage must be 0 to 1"),
        ("firing", WATCH_AT + 1, "<B", 3, "width must be one of"),
        ("firing", WATCH_AT + 2, "<H", 60000, "bytes more"),
        ("firing", WATCH_AT + 4, "<I", 1, "zero must be 0"),
        ("firing", WATCH_AT + 8, "<q", 2**53, "first must be"),
        ("firing", WATCH_AT + 8, "<q", 100, "first must be at most newest"),
        ("firing", WATCH_AT + 8, "<q", -(2**62), "first must be"),
        ("firing", WATCH_AT + 16, "<q", -1, "first must be at most newest"),
        ("firing", BODY_AT, "<Q", 0, "n_events must be 1 to"),
        ("firing", BODY_AT + 8, "<Q", 401, "n_sampled must be 1 to"),
        ("firing", BODY_AT + 16, "<q", 99, "since must be"),
        ("firing", EDGES_AT, "<d", math.nan, "edges must ascend"),
        ("firing", EDGES_AT, "<d", 99.0, "edges must ascend"),
        ("firing", COUNTS_AT, "<H", 1000, "counts of the reference must be at most 400"),
        ("firing", MOMENTS_AT, "<d", math.inf, "must be finite"),
        ("firing", MOMENTS_AT + 16, "<d", -1.0, "must be finite, and not below 0"),
        ("firing", MOMENTS_AT + 32, "<d", -1.0, "must be finite, and not below 0"),
        ("firing", PANES_AT, "<H", 4, "ages must fall"),
        ("firing", PANES_AT, "<H", 0, "ages must fall"),
        ("firing", PANES_AT + 2, "<Q", 0, "events of a pane must be from 1"),
        ("firing", PANES_AT + 2, "<Q", 2**41, "events of a pane must be from 1"),
        ("firing", PANES_AT + 2, "<Q", 20, "no more values of a feature than events"),
        ("gathering", WATCH_AT + 1, "<B", 64, "level must be 0 to 63"),
        ("gathering", WATCH_AT + 1, "<B", 3, "positions must ascend"),
        ("gathering", WATCH_AT + 2, "<H", MAX_SAMPLE + 1, "n_rows must be 0 to 1000"),
        ("gathering", BODY_AT, "<Q", 2**60, "n_events must be 0 to"),
        ("gathering", BODY_AT, "<Q", 300, "positions must ascend below 300"),
        ("gathering", BODY_AT + 8, "<q", -1, "positions must ascend"),
        ("gathering", BODY_AT + 16, "<q", 0, "positions must ascend"),
        ("gathering", WATCH_AT + 8, "<q", -(2**62), "there must be a first pane"),
        ("gathering", BODY_AT + 8 + 350 * 8, "<d", math.inf, "no infinite value"),
    ],
)
def test_a_field_out_of_bounds_is_refused(name, at, form, value, message):
    stored = MONITORS[name]().encode()
    with pytest.raises(ValueError, match=message):
        DriftMonitor.decode(replaced(stored, at, form, value))


@pytest.mark.parametrize("name", MONITORS)
def test_bytes_too_few_or_too_many_are_refused(name):
    stored = MONITORS[name]().encode()
    for n_bytes in {*range(0, len(stored), 37), len(stored) - 1}:
        with pytest.raises(ValueError, match="stored drift"):
            DriftMonitor.decode(stored[:n_bytes])
    with pytest.raises(ValueError, match=f"must have {len(stored)} bytes, received {len(stored) + 1}"):
        DriftMonitor.decode(stored + b"\0")


STORED = {name: make().encode() for name, make in MONITORS.items()}


@settings(max_examples=400)
@given(st.data())
def test_any_bytes_are_refused_or_make_a_monitor_that_works(data):
    stored = bytearray(STORED[data.draw(st.sampled_from(sorted(STORED)))])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(stored), 1500) - 1))
        stored[at] = data.draw(st.integers(0, 255))
    try:
        monitor = DriftMonitor.decode(bytes(stored))
    except ValueError:
        return
    assert DriftMonitor.decode(monitor.encode()).encode() == monitor.encode()
    monitor.describe()
    with np.errstate(all="ignore"):  # moments that nobody has measured may overflow
        monitor.observe(["f0"], np.zeros((300, 1)), np.zeros(300), np.arange(300) // 30 + 20, "v1")
    monitor.describe()


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(stored):
    with pytest.raises(ValueError, match="stored drift"):
        decode_state(stored, MAX_FEATURES)


def test_what_the_format_does_not_take_is_refused():
    with pytest.raises(ValueError, match="version, n_panes: must be below"):
        DriftMonitor(70_000, 400, 0.2).encode()
