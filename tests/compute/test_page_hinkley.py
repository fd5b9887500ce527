from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.page_hinkley import FAR, Z_LIMIT, PageHinkley


class NaivePageHinkley:
    """One value at a time; the mean and the standard deviation from all values each time."""

    def __init__(self, delta, threshold, min_values, in_stddevs=False, target=None):
        self.options = delta, threshold, min_values, in_stddevs, target
        self.values, self.excess, self.lowest, self.n_lowest = [], 0.0, math.inf, 0

    def update(self, value):
        delta, threshold, min_values, in_stddevs, target = self.options
        if in_stddevs and target is None and len(self.values) > 1:
            level, spread = statistics.fmean(self.values), statistics.pstdev(self.values)
            limit = max(FAR, math.sqrt(len(self.values))) * spread
            value = min(max(value, level - limit), level + limit) if spread else value
        self.values.append(value)
        deviation = value - statistics.fmean(self.values)
        stddev = statistics.pstdev(self.values)
        if target is not None:
            deviation, stddev = value - target[0], target[1]
        if in_stddevs or target is not None:
            deviation = min(max(deviation / stddev, -Z_LIMIT), Z_LIMIT) if stddev else 0.0
        self.excess += deviation - delta
        if self.excess <= self.lowest:
            self.lowest, self.n_lowest = self.excess, len(self.values)
        return self.excess - self.lowest > threshold and len(self.values) >= min_values

    def levels(self):
        before, after = self.values[: self.n_lowest], self.values[self.n_lowest :]
        return [(len(part), statistics.fmean(part), statistics.pstdev(part)) for part in (before, after)]


SEQUENCES = st.builds(
    lambda seed, n, rise, kind: sequence(seed, n, rise, kind),
    st.integers(0, 2**32),
    st.integers(1, 300),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from(["normal", "zero or one", "constant", "far away", "wild"]),
)


def sequence(seed, n, rise, kind):
    random = np.random.default_rng(seed)
    level = np.where(np.arange(n) < n // 2, 0.0, rise)
    if kind == "zero or one":
        return (random.random(n) < 0.1 + 0.3 * level) * 1.0
    if kind == "constant":
        return np.where(level > 0, 1.0, 0.0)
    if kind == "wild":
        return random.normal(level, 1.0) * 10.0 ** (random.integers(1, 4, n) * (random.random(n) < 0.05))
    return random.normal(level, 1.0) + (1e6 if kind == "far away" else 0.0)


OPTIONS = st.sampled_from(
    [(0.1, 8.0, 30, True), (0.05, 4.0, 1, False), (0.0, 6.0, 1, False, (1.0, 0.5)), (0.2, 3.0, 100, True)]
)


def rises(test, values, cuts=()):
    """Return all rises, the test beginning anew after each."""
    found = []
    for start, part in zip([0, *sorted(cuts)], np.split(values, sorted(cuts)), strict=True):
        at = 0
        while (rise := test.observe(part[at:])) is not None:
            found.append(rise._replace(row=start + at + rise.row))
            at += rise.row + 1
            test.reset()
    return found


@settings(max_examples=60)
@given(SEQUENCES, OPTIONS)
def test_it_equals_the_naive_version_one_value_at_a_time(values, options):
    expected, naive = [], NaivePageHinkley(*options)
    for row, value in enumerate(values.tolist()):
        if naive.update(value):
            expected.append((row, naive.excess - naive.lowest, naive.levels()))
            naive = NaivePageHinkley(*options)
    found = rises(PageHinkley(*options), values)
    rounding = 1e-6 * max(1.0, 0.1 * np.ptp(values))  # of differences of squares
    assert [rise.row for rise in found] == [row for row, *_ in expected]
    for rise, (_, statistic, levels) in zip(found, expected, strict=True):
        assert rise.statistic == pytest.approx(statistic, rel=1e-9)
        for level, (n_values, mean, stddev) in zip((rise.before, rise.after), levels, strict=True):
            assert level.n_values == n_values
            assert (level.mean, level.stddev) == pytest.approx((mean, stddev), rel=1e-9, abs=rounding)


@given(SEQUENCES, OPTIONS, st.data())
def test_any_split_gives_the_same_to_the_last_bit(values, options, data):
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=5))
    whole, split = PageHinkley(*options), PageHinkley(*options)
    assert rises(whole, values) == rises(split, values, cuts)
    assert whole.numbers() == split.numbers()


@pytest.mark.parametrize("seed", range(20))
def test_as_published_it_fires_where_that_of_river_does(seed):
    river = pytest.importorskip("river.drift", reason="River is not installed")
    random = np.random.default_rng(seed)
    levels = np.repeat([0.2, 0.5, 0.2, 0.9], 1000)
    values = (random.random(4000) < levels) * 1.0 if seed % 2 else random.normal(levels, 0.5)
    # Without its fading, that is: alpha 1.
    detector = river.PageHinkley(min_instances=30, delta=0.005, threshold=20.0, alpha=1.0, mode="up")
    expected = []
    for row, value in enumerate(values.tolist()):
        detector.update(value)
        if detector.drift_detected:
            expected.append(row)
    assert expected
    assert [rise.row for rise in rises(PageHinkley(0.005, 20.0, 30), values)] == expected


def test_a_restored_test_goes_on_as_it_was():
    values = sequence(1, 300, 2.0, "normal")
    one, other = PageHinkley(0.1, 8.0, 30, True), PageHinkley(0.1, 8.0, 30, True)
    one.observe(values[:140])
    other.restore(one.numbers())
    assert one.observe(values[140:]) == other.observe(values[140:]) is not None
    other.restore(PageHinkley(0.1, 8.0, 30).numbers())
    assert other.numbers() == PageHinkley(0.1, 8.0, 30).numbers()


@pytest.mark.parametrize(
    ("position", "number"),
    [
        (0, math.nan),
        (1, math.inf),
        (2, math.inf),
        (2, 1e9),
        (3, 0.5),
        (3, -1),
        (3, 1e300),
        (5, -1.0),
        (6, 200),
        (8, 1e9),
    ],
)
def test_numbers_that_no_sequence_leads_to_are_refused(position, number):
    test = PageHinkley(0.1, 8.0, 30, True)
    test.observe(sequence(1, 100, 0.0, "normal"))
    numbers = list(test.numbers())
    numbers[position] = number
    with pytest.raises(ValueError, match="Page-Hinkley test"):
        test.restore(tuple(numbers))


def test_a_value_far_out_is_no_change_of_the_mean():
    values = np.random.default_rng(1).normal(size=2000)
    values[1000] = 1e6
    assert PageHinkley(0.1, 50.0, 30, in_stddevs=True).observe(values) is None
    assert PageHinkley(0.1, 50.0, 30).observe(values).row == 1000


@pytest.mark.parametrize("share", [0.0005, 0.003, 0.02, 0.3])
def test_rare_values_that_are_all_alike_count_as_they_are(share):
    values = (np.random.default_rng(2).random(20_000) < share) * 1.0
    test = PageHinkley(0.1, math.inf, 30, in_stddevs=True)
    test.observe(values)
    assert test.level == (20_000, pytest.approx(values.mean()), pytest.approx(values.std()))


@pytest.mark.parametrize("n_before", [5, 50, 900, 10_000])
def test_a_value_far_out_counts_for_as_much_whatever_its_size(n_before):
    values = np.random.default_rng(3).normal(size=n_before + 1)
    levels = []
    for far in (1e6, 1e100):
        test = PageHinkley(0.1, math.inf, 30, in_stddevs=True)
        test.observe(np.r_[values[:-1], far])
        levels.append(test.level)
    assert levels[0] == levels[1]
    wanted = values[:-1].std() * math.sqrt(
        n_before / (n_before + 1) + max(900, n_before) * n_before / (n_before + 1) ** 2
    )
    assert levels[0].stddev == pytest.approx(wanted)
