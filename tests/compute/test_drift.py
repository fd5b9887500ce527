from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from compute import drift_reference
from compute.drift import (
    CRITICAL_FACTOR,
    MAX_FEATURES,
    SIGNIFICANCE,
    SIGNIFICANCE_GONE,
    DriftMonitor,
)
from compute.drift_measures import N_BLOCKS
from compute.drift_watch import MIN_EVENTS

N_PANES, REFERENCE_EVENTS, THRESHOLD = 3, 150, 0.2


@dataclass
class NaiveColumn:
    """One feature, or the score: all its values, by the position among the events that count."""

    values: dict[int, float] = field(default_factory=dict)
    drifting: bool = False


@dataclass
class NaiveWatch:
    """Keeps every event; the columns share which events count, and in which pane each was."""

    columns: dict[str, NaiveColumn] = field(default_factory=dict)
    panes: list[int] = field(default_factory=list)
    n_reference: int | None = None
    began: int = 0

    def sample(self) -> list[int]:
        def drawn(position: int) -> int:
            bits = position * 0x9E3779B97F4A7C15 % 2**64
            bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
            return bits ^ (bits >> 31)

        level = 0
        while True:
            kept = [i for i in range(self.n_reference) if drawn(i) % 2**level == 0]
            if len(kept) <= drift_reference.MAX_SAMPLE:
                return kept
            level += 1

    def enter(self, pane: int) -> bool:
        """Tell whether the window that ends before this pane is to be compared."""
        if self.n_reference is None:
            if len(self.panes) >= REFERENCE_EVENTS and pane - self.panes[0] >= N_PANES:
                self.n_reference, self.began = len(self.panes), pane
            return False
        if not self.window(pane):
            self.began = pane
        return pane - self.began >= N_PANES and len(self.window(pane)) >= MIN_EVENTS

    def window(self, pane: int) -> list[int]:
        return [i for i in range(self.n_reference, len(self.panes)) if pane - N_PANES <= self.panes[i] < pane]

    def compare(self, column: NaiveColumn, window: list[int]) -> tuple[float, float, float, bool]:
        """Return the index, its part due to missing values, its p-value, and whether there are values."""
        sample = self.sample()
        before = [column.values.get(i, math.nan) for i in sample]
        now = [column.values.get(i, math.nan) for i in window]
        present = sorted(value for value in before if not math.isnan(value))
        edges: list[float] = []
        if present:
            deciles = [present[math.ceil(len(present) * k / 10) - 1] for k in range(1, 10)]
            for value in sorted(set(deciles)):
                if deciles.count(value) > 1:
                    edges.append(math.nextafter(value, -math.inf))
                edges.append(value)

        def bin_of(value: float) -> int:
            return -1 if math.isnan(value) else sum(edge < value for edge in edges)

        before_bins, now_bins = [bin_of(value) for value in before], [bin_of(value) for value in now]
        filled = sorted({*before_bins, *now_bins})
        terms = {}
        for each in filled:
            p = (before_bins.count(each) + 0.5) / (len(before) + 0.5 * len(filled))
            q = (now_bins.count(each) + 0.5) / (len(now) + 0.5 * len(filled))
            terms[each] = (q - p) * math.log(q / p)
        index = sum(terms.values())
        # Differences of successive blocks against what independent events would differ by.
        bounds = [len(before) * k // N_BLOCKS for k in range(N_BLOCKS + 1)]
        blocks = [before_bins[start:end] for start, end in pairwise(bounds)]
        kinds = set(before_bins)
        chi_squared = sum(
            (one.count(kind) - other.count(kind)) ** 2 / 2 / (before_bins.count(kind) / N_BLOCKS)
            for one, other in pairwise(blocks)
            for kind in kinds
        )
        degrees = (N_BLOCKS - 1) * (len(kinds) - 1)
        excess = max(chi_squared / degrees - 1, 0) / (len(before) / N_BLOCKS) if degrees else 0.0
        noise = 1 / len(before) + 1 / len(now) + excess / N_BLOCKS * (1 + self.n_reference / len(now))
        p_value = stats.chi2.sf(index / noise, len(filled) - 1) if len(filled) > 1 else 1.0
        return index, terms.get(-1, 0.0), p_value, filled != [-1]


class NaiveMonitor:
    """One event at a time, everything from the raw events each time."""

    def __init__(self) -> None:
        self.version: str | None = None

    def observe(self, event: dict[str, float], score: float, pane: int, version: str):
        found = []
        if version != self.version:
            if self.version is not None and self.severity:
                found.append(("resolved", self.severity, None))
            self.version, self.severity, self.pane = version, 0, None
            self.watches = [NaiveWatch(), NaiveWatch(columns={"score": NaiveColumn()})]
        pane = pane if self.pane is None else max(pane, self.pane)
        if self.pane is not None and pane > self.pane:
            found += self.enter(pane)
        self.pane = pane
        features, scores = self.watches
        for name in sorted(event):
            if math.isfinite(event[name]) and len(features.columns) < MAX_FEATURES:
                features.columns.setdefault(name, NaiveColumn())
        for name, column in features.columns.items():
            if math.isfinite(event.get(name, math.nan)):
                column.values[len(features.panes)] = event[name]
        features.panes.append(pane)
        if math.isfinite(score):
            scores.columns["score"].values[len(scores.panes)] = score
            scores.panes.append(pane)
        return found

    def enter(self, pane: int):
        measured = {}
        for watch in self.watches:
            if watch.enter(pane):
                window = watch.window(pane)
                for name, column in watch.columns.items():
                    is_feature_score = watch is self.watches[0] and name == "score"
                    told = "score (feature)" if is_feature_score else name
                    measured[told] = (watch, column, *watch.compare(column, window))
        n_judged = sum(has_values for *_, has_values in measured.values())
        before = {key: column.drifting for key, (_, column, *_) in measured.items()}
        for _, column, index, _, p_value, _ in measured.values():
            begins = index >= THRESHOLD and p_value <= SIGNIFICANCE / n_judged
            stays = index >= THRESHOLD / 2 and p_value <= SIGNIFICANCE_GONE
            column.drifting = begins or (column.drifting and stays)
        everything = [column for watch in self.watches for column in watch.columns.values()]
        if not any(column.drifting for column in everything):
            if not self.severity:
                return []
            severity, self.severity = self.severity, 0
            return [("resolved", severity, self.tell(measured, before, pane))]
        drifting = {key: column.drifting for key, (_, column, *_) in measured.items()}
        largest = max((measured[key][2] for key in drifting if drifting[key]), default=0.0)
        reached = 2 if largest >= CRITICAL_FACTOR * THRESHOLD else 1
        if reached <= self.severity:
            return []
        self.severity = reached
        return [("firing", reached, self.tell(measured, drifting, pane))]

    def tell(self, measured, chosen, pane):
        told = {}
        for key, (watch, column, index, missing_part, _, _) in measured.items():
            if not chosen[key]:
                continue
            sample, window = watch.sample(), watch.window(pane)
            before, now = (
                [column.values[i] for i in part if i in column.values] for part in (sample, window)
            )
            if not before or not now or 2 * missing_part > index:
                share, now_share = 1 - len(before) / len(sample), 1 - len(now) / len(window)
                numbers = (now_share, share, math.sqrt(share * (1 - share)))
                told[f"{key} (missing)"] = (index, *numbers)
            else:
                told[key] = (
                    index,
                    statistics.fmean(now),
                    statistics.fmean(before),
                    statistics.pstdev(before),
                )
        return told


@dataclass
class Stream:
    names: list[str]
    matrix: np.ndarray
    scores: np.ndarray
    panes: np.ndarray
    versions: list[str]

    def part(self, start, end):
        chosen = slice(start, end)
        return self.names, self.matrix[chosen], self.scores[chosen], self.panes[chosen]


@st.composite
def streams(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_events = draw(st.sampled_from([300, 1500, 2400]))
    change, back = n_events // 2, draw(st.sampled_from([n_events, n_events * 3 // 4]))
    columns = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(
            st.sampled_from(["same", "shift", "constant", "missing", "category", "late", "gone", "odd"])
        )
        values = random.normal(5.0, 2.0, n_events)
        world = slice(change, back)
        if kind == "shift":
            values[world] += draw(st.sampled_from([1.0, 4.0]))
        elif kind == "constant":
            values[:] = 3.0
            values[world] = draw(st.sampled_from([2.0, 3.0, 4.0]))
        elif kind == "missing":
            values[random.random(n_events) < 0.3] = np.nan
            values[world][random.random(back - change) < 0.8] = np.nan
        elif kind == "category":
            values = random.integers(0, 3, n_events) * 1.0
            values[world] = random.integers(0, 5, back - change)
        elif kind == "late":
            values[:change] = np.nan
        elif kind == "gone":
            values[world] = np.nan
        elif kind == "odd":
            values = np.exp(30 * values) * random.choice([1.0, -1.0, np.inf], n_events)
        columns.append(values)
    scores = random.random(n_events)
    scores[random.random(n_events) < draw(st.sampled_from([0.0, 0.5]))] = np.nan
    steps = random.random(n_events) < draw(st.sampled_from([0.01, 0.02]))
    steps = steps * random.choice(
        [1, 2, N_PANES + 2], n_events, p=draw(st.sampled_from([[1, 0, 0], [0.9, 0.06, 0.04]]))
    )
    panes = np.cumsum(steps) - 7
    panes[random.random(n_events) < 0.01] -= 1  # a watermark that forgot
    versions = np.where(np.arange(n_events) < draw(st.sampled_from([0, n_events // 3])), "1", "2")
    names = draw(st.permutations(["score", "b", "a"]))[: len(columns)]
    matrix = np.array(columns).reshape(len(columns), n_events).T
    return Stream(names, matrix, scores, panes, versions.tolist())


def batches(stream, cuts):
    """Cut where told and where the version changes, which is only ever between batches."""
    changes = [i for i in range(1, len(stream.panes)) if stream.versions[i] != stream.versions[i - 1]]
    bounds = sorted({0, len(stream.panes), *changes, *cuts})
    return list(pairwise(bounds))


def observed(stream, cuts=(), crash=lambda monitor: monitor):
    monitor, findings = DriftMonitor(N_PANES, REFERENCE_EVENTS, THRESHOLD), []
    for start, end in batches(stream, cuts):
        monitor = crash(monitor)
        for finding in monitor.observe(*stream.part(start, end), stream.versions[start]):
            findings.append(finding._replace(row=start + finding.row))
    return monitor, findings


@pytest.mark.parametrize("max_sample", [80, 1000])
@settings(max_examples=25)
@given(stream=streams())
def test_findings_are_those_of_the_naive_version(max_sample, stream):
    with mock.patch.object(drift_reference, "MAX_SAMPLE", max_sample):
        compare_with_naive(stream)


def compare_with_naive(stream):
    naive, expected = NaiveMonitor(), []
    for i, (pane, version) in enumerate(zip(stream.panes.tolist(), stream.versions, strict=True)):
        event = dict(zip(stream.names, stream.matrix[i].tolist(), strict=True))
        expected += [(i, *found) for found in naive.observe(event, float(stream.scores[i]), pane, version)]
    _, findings = observed(stream)
    severities = {"warning": 1, "critical": 2}
    assert [(f.row, f.state, severities[f.severity]) for f in findings] == [found[:3] for found in expected]
    for finding, (*_, told) in zip(findings, expected, strict=True):
        if told is None:
            continue
        assert {shift.feature for shift in finding.shifts} == told.keys()
        indices = sorted((numbers[0] for numbers in told.values()), reverse=True)
        np.testing.assert_allclose([shift.psi for shift in finding.shifts], indices, atol=1e-12)
        assert finding.score == finding.shifts[0].psi
        assert sum(shift.share for shift in finding.shifts) == pytest.approx(1.0)
        for shift in finding.shifts:
            index, value, mean, stddev = told[shift.feature]
            assert shift.psi == pytest.approx(index, abs=1e-12)
            assert (shift.value, shift.mean, shift.stddev) == pytest.approx((value, mean, stddev), rel=1e-9)


def comparable(findings):
    """Means are sums of floats: those of a feature differ by the order in which they were added."""
    exact = [(*f[:-1], [(s.feature, s.share, s.psi, s.ks, s.p_value) for s in f.shifts]) for f in findings]
    numbers = [[*shift[2:6]] for finding in findings for shift in finding.shifts]
    return exact, np.array(numbers)


@settings(max_examples=60)
@given(streams(), st.data())
def test_any_split_and_any_crash_between_give_the_same(stream, data):
    cuts = data.draw(st.lists(st.integers(0, len(stream.panes)), max_size=8))
    whole, findings = observed(stream)
    split, others = observed(stream, cuts)
    revived, after_crashes = observed(stream, cuts, crash=lambda each: DriftMonitor.decode(each.encode()))
    assert split.encode() == revived.encode()
    assert others == after_crashes
    (exact, numbers), (exact_too, numbers_too) = comparable(findings), comparable(others)
    assert exact == exact_too
    if numbers.size:
        np.testing.assert_allclose(numbers, numbers_too, rtol=1e-9, atol=1e-9)
    assert whole.describe() == split.describe()


def run(values, events_per_pane=100, monitor=None, scores=None, names=("flow",), version="1", first_pane=0):
    """Return the findings of a stream, each with its pane."""
    matrix = np.asarray(values, float).reshape(len(values), -1)
    panes = first_pane + np.arange(len(matrix)) // events_per_pane
    monitor = monitor or DriftMonitor(n_panes=4, reference_events=400, threshold=THRESHOLD)
    scores = np.full(len(matrix), np.nan) if scores is None else scores
    found = monitor.observe(list(names), matrix, scores, panes, version)
    return [(int(panes[finding.row]), finding) for finding in found], monitor


def normal(n, mean=0.0, stddev=1.0, seed=1):
    return np.random.default_rng(seed).normal(mean, stddev, n)


def states(findings):
    return [(pane, finding.state, finding.severity) for pane, finding in findings]


def test_a_drift_fires_worsens_and_is_resolved_once():
    findings, monitor = run(np.r_[normal(1200), normal(1200, 3.0, seed=2), normal(1200, seed=3)])
    assert states(findings) == [
        (13, "firing", "warning"),
        (14, "firing", "critical"),
        (28, "resolved", "critical"),
    ]
    assert monitor.describe()["state"] == "quiet"


def test_nothing_is_found_before_reference_and_window_have_lasted_a_window_each():
    # The reference takes panes 0 to 3, the window 4 to 7; from 2 on all is different.
    _, monitor = run(np.r_[normal(200), normal(500, 9.0)])
    assert monitor.describe()["state"] == "collecting"
    findings, _ = run(np.r_[normal(400), normal(450, 9.0)])
    assert states(findings) == [(8, "firing", "critical")]


def test_a_reference_of_few_events_a_pane_waits_for_enough():
    _, monitor = run(normal(350), events_per_pane=10)
    assert monitor.describe() == {
        "state": "collecting",
        "since": None,
        "n_reference": 350,
        "n_window": 0,
        "features": [],
    }


def test_half_the_threshold_lies_between_beginning_and_end():
    # Shifts by 0.6 and 0.37 standard deviations have indices of about 0.36 and 0.14.
    worlds = [normal(4000), normal(2000, 0.6, seed=2), normal(4000, 0.37, seed=3), normal(2000, 0.1, seed=4)]
    monitor = DriftMonitor(n_panes=4, reference_events=2000, threshold=THRESHOLD)
    findings, _ = run(np.concatenate(worlds), events_per_pane=500, monitor=monitor)
    assert [state[1:] for state in states(findings)] == [("firing", "warning"), ("resolved", "warning")]
    assert findings[1][0] > 20  # only in the last world
    findings, _ = run(np.concatenate([worlds[0], worlds[2]]), events_per_pane=500)
    assert findings == []


def test_few_events_prove_nothing():
    values = np.r_[normal(400), normal(400, 3.0)]
    panes = np.r_[np.arange(400) // 100, 4 + np.arange(400) // 20]  # 80 in a window of 4 panes
    monitor = DriftMonitor(n_panes=4, reference_events=400, threshold=THRESHOLD)
    assert monitor.observe(["flow"], values[:, None], np.full(800, np.nan), panes, "1") == []
    assert monitor.describe()["features"] == []


def test_the_finding_tells_what_changed():
    heat = np.r_[normal(1200, 20.0, 2.0), normal(1200, 24.0, 1.0, seed=2)]
    flow = normal(2400, 7.0, seed=3)
    findings, monitor = run(np.column_stack([flow, heat]), names=("flow", "heat"))
    last = findings[-1][1]
    (shift,) = last.shifts
    assert (last.rule, last.threshold, shift.feature, shift.share) == ("drift", THRESHOLD, "heat", 1.0)
    assert last.score == shift.psi >= CRITICAL_FACTOR * THRESHOLD
    assert shift.mean == pytest.approx(20.0, abs=0.3)
    assert shift.stddev == pytest.approx(2.0, abs=0.2)
    assert shift.mean < shift.value < 24.1
    described = monitor.describe()
    assert (described["state"], described["since"]) == ("firing", findings[0][0])
    assert [(each["feature"], each["drifting"]) for each in described["features"]] == [
        ("flow", False),
        ("heat", True),
    ]
    assert described["features"][1]["psi"] > described["features"][0]["psi"]
    assert (described["n_reference"], described["n_window"]) == (400, 400)


def test_features_share_a_drift_by_their_indices():
    matrix = np.column_stack([normal(2400), normal(2400, seed=2)])
    matrix[1200:] += [1.0, 4.0]
    findings, _ = run(matrix, names=("a", "b"))
    finding = findings[-1][1]
    assert [shift.feature for shift in finding.shifts] == ["b", "a"]
    one, other = finding.shifts
    assert one.share / other.share == pytest.approx(one.psi / other.psi)


@pytest.mark.parametrize("new", [6.0, 8.0, np.nextafter(7.0, 8.0), np.nextafter(7.0, 6.0)])
def test_a_constant_that_changes_is_a_drift(new):
    findings, _ = run(np.repeat([7.0, new], 1200))
    pane, finding = findings[0]
    (shift,) = finding.shifts
    assert (pane, finding.state) == (13, "firing")
    assert (shift.feature, shift.mean, shift.stddev) == ("flow", 7.0, 0.0)


def test_values_that_go_missing_are_a_drift_of_that():
    values = normal(2400)
    values[1200:][np.random.default_rng(2).random(1200) < 0.5] = np.nan
    findings, _ = run(values)
    finding = findings[-1][1]
    (shift,) = finding.shifts
    assert (finding.state, shift.feature, shift.mean) == ("firing", "flow (missing)", 0.0)
    assert 0.1 < shift.value < 0.6


def test_a_feature_that_comes_or_goes_is_a_drift():
    values = np.column_stack([normal(2400), normal(2400, seed=2)])
    values[:1200, 0], values[1200:, 1] = np.nan, np.nan
    findings, monitor = run(values, names=("new", "old"))
    finding = findings[-1][1]
    assert {shift.feature for shift in finding.shifts} == {"new (missing)", "old (missing)"}
    assert {each["feature"] for each in monitor.describe()["features"]} == {"new", "old"}


def test_a_feature_of_another_batch_is_missing_in_this_one():
    _, monitor = run(normal(800))
    findings, _ = run(normal(800, seed=2), names=("other",), monitor=monitor, first_pane=8)
    assert {shift.feature for _, f in findings for shift in f.shifts} == {"flow (missing)", "other (missing)"}


def test_the_order_of_the_columns_does_not_matter():
    matrix = np.column_stack([normal(2400), normal(2400, seed=2)])
    matrix[1200:, 1] += 2.0
    one, _ = run(matrix, names=("a", "b"))
    other, _ = run(matrix[:, ::-1], names=("b", "a"))
    assert one == other


def test_a_new_category_is_a_drift():
    random = np.random.default_rng(1)
    values = random.integers(0, 3, 2400) * 1.0
    values[1200:][random.random(1200) < 0.2] = 3.0
    findings, _ = run(values)
    assert findings[0][1].state == "firing"


def test_the_score_is_watched_and_never_taken_for_a_feature():
    scores = np.r_[normal(1200), normal(1200, 3.0)]
    findings, _ = run(normal(2400), scores=scores)
    assert [shift.feature for shift in findings[-1][1].shifts] == ["score"]
    findings, monitor = run(normal(2400), scores=scores, names=("score",))
    assert [shift.feature for shift in findings[-1][1].shifts] == ["score"]
    assert [each["feature"] for each in monitor.describe()["features"]] == ["score (feature)", "score"]


def test_events_without_a_score_do_not_count_for_it():
    # Entities warm up, so that there are scores from the middle on only: no drift.
    scores = np.where(np.arange(2400) < 1200, np.nan, normal(2400, 5.0))
    findings, monitor = run(normal(2400), scores=scores)
    assert findings == []
    assert monitor.describe()["features"][1]["psi"] < THRESHOLD / 2


def test_another_version_resolves_the_alert_and_begins_anew():
    findings, monitor = run(np.r_[normal(1200), normal(1200, 3.0)])
    assert findings[-1][1].state == "firing"
    findings, _ = run(normal(1200, 3.0, seed=2), monitor=monitor, version="2", first_pane=24)
    assert states(findings) == [(24, "resolved", "critical")]
    assert findings[0][1].row == 0
    assert [shift.feature for shift in findings[0][1].shifts] == ["flow"]
    assert monitor.describe()["state"] == "quiet"


def test_a_version_that_changes_after_a_silence_still_tells_what_is_resolved():
    _, monitor = run(np.r_[normal(1200), normal(1200, 3.0)])
    run(normal(10, 3.0), monitor=monitor, first_pane=1000)
    findings, _ = run(normal(10, 3.0), monitor=monitor, version="2", first_pane=1000)
    assert [shift.feature for shift in findings[0][1].shifts] == ["flow"]
    assert sum(shift.share for shift in findings[0][1].shifts) == 1.0


def test_a_silence_longer_than_the_window_empties_it():
    _, monitor = run(normal(1200))
    after, _ = run(normal(300, 3.0), monitor=monitor, first_pane=1000)
    assert after == []
    assert monitor.describe()["state"] == "collecting"
    after, _ = run(normal(300, 3.0), monitor=monitor, first_pane=1003)
    assert states(after) == [(1004, "firing", "critical")]


def test_a_watermark_that_comes_back_lower_counts_as_it_was():
    # Complete from the end of pane 5 on, and 4 is not a pane after that.
    monitor, n_events = DriftMonitor(4, 800, THRESHOLD), []
    for first_pane in (0, 5, 4, 6):
        run(normal(500), monitor=monitor, events_per_pane=500, first_pane=first_pane)
        n_events.append(monitor.describe()["n_reference"])
    assert n_events == [500, 1000, 1500, 1500]
    assert monitor.describe()["n_window"] == 500


def test_at_most_64_features_are_watched_the_first_to_come():
    n_features = MAX_FEATURES + 6
    names = [f"f{i:02d}" for i in range(n_features)]
    matrix = np.full((20, n_features), np.nan)
    matrix[10:] = 1.0
    matrix[0, -1] = 1.0  # comes first, with the last name
    monitor = DriftMonitor(n_panes=4, reference_events=400, threshold=THRESHOLD)
    monitor.observe(names, matrix, np.zeros(20), np.zeros(20, np.int64), "1")
    panes = np.arange(1200) // 100
    monitor.observe(names, np.tile(matrix[-1], (1200, 1)), np.zeros(1200), panes, "1")
    watched = [each["feature"] for each in monitor.describe()["features"]]
    assert watched == [names[-1], *names[: MAX_FEATURES - 1], "score"]


@pytest.mark.filterwarnings("error")
def test_values_that_overflow_leave_finite_numbers():
    huge = np.finfo(float).max
    values = np.tile([huge, -huge, np.inf, -np.inf, np.nan, 1.0], 400)
    values[1200:] = -huge
    findings, _ = run(values)
    numbers = [
        number
        for _, finding in findings
        for shift in finding.shifts
        for number in (finding.score, *shift[1:])
    ]
    assert numbers
    assert np.isfinite(numbers).all()


def test_the_arrays_of_the_caller_stay_as_they_are():
    matrix = np.column_stack([normal(900), np.full(900, np.inf)])
    panes, scores = np.arange(900)[::-1] // 50, normal(900)
    before = [part.copy() for part in (matrix, scores, panes)]
    DriftMonitor(4, 400, THRESHOLD).observe(["a", "b"], matrix, scores, panes, "1")
    for part, old in zip((matrix, scores, panes), before, strict=True):
        np.testing.assert_array_equal(part, old)


def test_nothing_comes_of_nothing():
    monitor = DriftMonitor(4, 400, THRESHOLD)
    none = np.zeros(0)
    assert monitor.observe(["a"], none.reshape(0, 1), none, none.astype(np.int64), "1") == []
    assert run(np.zeros((2000, 0)), monitor=monitor, names=())[0] == []
    assert monitor.describe()["features"] == []


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"must be above 0, received 0, 400, 0\.2"):
        DriftMonitor(0, 400, THRESHOLD)
    with pytest.raises(ValueError, match="must be above 0"):
        DriftMonitor(4, 400, math.nan)
    with pytest.raises(ValueError, match=r"must have shapes \(2, 1\) and \(2,\), received \(2, 2\)"):
        DriftMonitor(4, 400, 0.2).observe(["a"], np.zeros((2, 2)), np.zeros(2), np.zeros(2, np.int64), "1")


def test_only_a_monitor_with_the_same_numbers_has_the_same_options():
    monitor = DriftMonitor(4, 400, THRESHOLD)
    assert DriftMonitor.decode(monitor.encode()).has_options_of(monitor)
    for other in (DriftMonitor(5, 400, 0.2), DriftMonitor(4, 401, 0.2), DriftMonitor(4, 400, 0.3)):
        assert not other.has_options_of(monitor)
