from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.error_drift import THRESHOLD, ErrorMonitor


def errors_of(*worlds, seed=1):
    random = np.random.default_rng(seed)
    return np.concatenate([(random.random(n) < share) * 1.0 for n, share in worlds])


def told(findings):
    return [(finding.state, finding.severity) for finding in findings]


def test_errors_that_rise_and_fall_fire_and_are_resolved():
    monitor = ErrorMonitor()
    errors = errors_of((1000, 0.1), (500, 0.5), (1000, 0.1))
    fired, resolved = monitor.observe(errors, "1")
    assert told([fired, resolved]) == [("firing", "critical"), ("resolved", "critical")]
    assert 1000 < fired.row < 1100
    assert 1500 < resolved.row < 1750
    (shift,) = fired.shifts
    assert (fired.rule, fired.threshold, shift.feature, shift.share) == (
        "error-drift",
        THRESHOLD,
        "error",
        1.0,
    )
    assert fired.score > THRESHOLD
    assert shift.mean == pytest.approx(0.1, abs=0.03)
    assert shift.stddev == pytest.approx(0.3, abs=0.05)
    assert shift.value == pytest.approx(0.5, abs=0.15)
    (shift,) = resolved.shifts
    assert shift.mean == fired.shifts[0].mean
    assert shift.value == pytest.approx(0.1, abs=0.05)


def test_errors_that_stay_high_are_one_alert():
    findings = ErrorMonitor().observe(errors_of((1000, 0.1), (20_000, 0.4)), "1")
    assert [finding.state for finding in findings] == ["firing"]


def test_a_rise_by_less_than_a_standard_deviation_is_a_warning():
    findings = ErrorMonitor().observe(errors_of((2000, 0.3), (2000, 0.5)), "1")
    assert told(findings) == [("firing", "warning")]


def test_errors_that_fall_are_no_drift():
    assert ErrorMonitor().observe(errors_of((1000, 0.5), (5000, 0.1)), "1") == []


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_model_that_is_always_right_or_always_wrong_raises_no_alert(share):
    assert ErrorMonitor().observe(errors_of((20_000, share)), "1") == []


def test_errors_that_do_not_change_raise_about_one_alert_in_100_000_labels():
    alerts = [
        finding
        for seed, share in enumerate([0.001, 0.01, 0.03, 0.1, 0.3, 0.5])
        for finding in ErrorMonitor().observe(errors_of((100_000, share), seed=seed), "1")
        if finding.state == "firing"
    ]
    assert len(alerts) <= 6


def test_a_model_without_errors_is_not_blamed_for_a_few():
    assert ErrorMonitor().observe(errors_of((2000, 0.0), (2000, 0.005)), "1") == []
    findings = ErrorMonitor().observe(errors_of((2000, 0.0), (500, 0.5)), "1")
    assert findings[0].row < 2050


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_scale_of_errors_does_not_matter(scale):
    random = np.random.default_rng(3)
    errors = np.abs(random.normal(size=3000)) * np.repeat([1.0, 2.0], [2000, 1000])
    (finding,) = ErrorMonitor().observe(errors * scale, "1")
    assert 2000 < finding.row < 2100


@pytest.mark.parametrize("wild", [30.0, 1e3, 1e9, 1e300])
@pytest.mark.parametrize("rows", [[2], [40], [5000], [1000, 2000, 5000]])
def test_a_few_wild_errors_do_not_hide_a_rise(wild, rows):
    random = np.random.default_rng(4)
    errors = np.abs(0.1 * random.normal(size=12_000)) * np.repeat([1.0, 5.0], [10_000, 2_000])
    errors[rows] = wild
    (finding,) = ErrorMonitor().observe(errors, "1")
    assert (finding.state, finding.severity) == ("firing", "critical")
    assert 10_000 < finding.row < 10_050


def test_another_version_resolves_the_alert_and_begins_anew():
    monitor = ErrorMonitor()
    monitor.observe(errors_of((1000, 0.1), (200, 0.6)), "1")
    assert monitor.describe()["state"] == "firing"
    findings = monitor.observe(errors_of((500, 0.6), seed=2), "2")
    assert [(finding.row, finding.state) for finding in findings] == [(0, "resolved")]
    assert monitor.describe()["state"] == "quiet"
    assert monitor.describe()["n_errors"] == 500


def test_errors_that_are_not_known_are_passed_over():
    errors = errors_of((1000, 0.1), (500, 0.6))
    with_gaps = np.full(3000, np.nan)
    with_gaps[::2] = errors
    (finding,), (other,) = ErrorMonitor().observe(errors, "1"), ErrorMonitor().observe(with_gaps, "1")
    assert other == finding._replace(row=2 * finding.row)
    assert ErrorMonitor().observe(np.array([np.nan, np.inf]), "1") == []


def test_a_description_tells_since_when_and_by_how_much():
    monitor = ErrorMonitor()
    assert monitor.describe() == {
        "state": "collecting",
        "since": None,
        "n_errors": 0,
        "error": 0.0,
        "reference": None,
    }
    errors = errors_of((1000, 0.1), (500, 0.6))
    times = np.arange(1500) * 2.0
    (finding,) = monitor.observe(errors, "1", times)
    described = monitor.describe()
    assert (described["state"], described["since"]) == ("firing", times[finding.row])
    assert described["n_errors"] == 1499 - finding.row
    assert described["error"] == pytest.approx(errors[finding.row + 1 :].mean())
    assert described["reference"] == finding.shifts[0].mean


def distances_of(*worlds, seed):
    """Return the errors of a regression, one in 100 of them wild."""
    random = np.random.default_rng(seed)
    errors = np.concatenate([np.abs(random.normal(size=n)) * scale for n, scale in worlds])
    return errors * 10.0 ** (random.integers(1, 9, len(errors)) * (random.random(len(errors)) < 0.01))


STREAMS = st.builds(
    lambda seed, shares, draw: draw(*((400, share) for share in shares), seed=seed),
    st.integers(0, 2**32),
    st.lists(st.sampled_from([0.05, 0.1, 0.5, 0.9]), min_size=1, max_size=5),
    st.sampled_from([errors_of, distances_of]),
)


@settings(max_examples=50)
@given(STREAMS, st.data())
def test_any_split_and_any_crash_between_give_the_same_to_the_last_bit(errors, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(errors)), max_size=6)))
    whole, split = ErrorMonitor(), ErrorMonitor()
    expected, found = whole.observe(errors, "1"), []
    for start, part in zip([0, *cuts], np.split(errors, cuts), strict=True):
        split = ErrorMonitor.decode(split.encode())
        for finding in split.observe(part, "1"):
            found.append(finding._replace(row=start + finding.row))
    assert found == expected
    if len(errors):
        assert split.encode() == whole.encode()


@pytest.mark.filterwarnings("error")
def test_huge_errors_leave_a_state_that_can_be_stored():
    monitor = ErrorMonitor()
    monitor.observe(np.tile([1e308, 0.0, 5e-324, -1e308], 100), "1")
    assert ErrorMonitor.decode(monitor.encode()).encode() == monitor.encode()


def firing():
    monitor = ErrorMonitor()
    monitor.observe(errors_of((1000, 0.1), (200, 0.6)), "v1")
    return monitor.encode()


@pytest.mark.parametrize(
    ("at", "form", "value", "message"),
    [
        (0, "<B", 1, "must begin with"),
        (2, "<B", 2, "must begin with"),
        (3, "<B", 3, "severity must be 0 to 2"),
        (4, "<H", 3, "as many bytes as it says"),
        (4, "<H", 65535, "as many bytes as it says"),
        (14, "<d", math.nan, "levels must be finite"),
        (30, "<d", -1.0, "standard deviations at least 0"),
        (86, "<d", math.nan, "Page-Hinkley test"),
        (158, "<2s", b"\xff\xff", "utf-8"),
    ],
)
def test_a_field_out_of_bounds_is_refused(at, form, value, message):
    stored = firing()
    assert len(stored) == 160
    with pytest.raises(ValueError, match=message):
        ErrorMonitor.decode(stored[:at] + struct.pack(form, value) + stored[at + struct.calcsize(form) :])


@settings(max_examples=300)
@given(st.data())
def test_any_bytes_are_refused_or_make_a_monitor_that_works(data):
    stored = bytearray(data.draw(st.sampled_from([firing(), ErrorMonitor().encode()])))
    for _ in range(data.draw(st.integers(1, 4))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    stored = stored[: data.draw(st.sampled_from([len(stored), len(stored) - 1, 40]))]
    try:
        monitor = ErrorMonitor.decode(bytes(stored))
    except ValueError:
        return
    assert monitor.encode() == ErrorMonitor.decode(monitor.encode()).encode()
    with np.errstate(all="ignore"):
        monitor.observe(errors_of((200, 0.2)), "v1")
    monitor.describe()


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(stored):
    with pytest.raises(ValueError, match="stored errors"):
        ErrorMonitor.decode(stored)


def test_nothing_comes_of_nothing():
    assert ErrorMonitor().observe(np.zeros(0), "1") == []
