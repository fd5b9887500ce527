from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.moments import merge, merge_by, summarise
from compute.normalisation import normalise
from compute.prefix import prefix_sums
from compute.statistics import window_statistics
from tests.compute.test_statistics import Partition
from tests.naive import Event, describe

values_lists = st.lists(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), min_size=1), min_size=1)


def summaries(lists):
    values = np.array(list(itertools.chain(*lists)))[:, None]
    sizes = np.array([len(part) for part in lists])
    return summarise(values, np.cumsum(sizes) - sizes, sizes, ~np.isnan(values))


def assert_describes(moments, row, values):
    count, mean, stddev = describe(values)
    assert moments.count[row, 0] == count
    if count:
        scale = max(abs(value) for value in values if not math.isnan(value))
        # 1e-320: some steps of the smallest numbers there are, which have no digits to round to.
        assert moments.mean[row, 0] == pytest.approx(mean, rel=1e-12, abs=max(1e-14 * scale, 1e-320))
        assert math.sqrt(moments.m2[row, 0] / count) == pytest.approx(
            stddev, rel=1e-9, abs=max(1e-8 * scale, 1e-150)
        )


@given(values_lists)
def test_each_run_is_described_as_by_the_naive_version(lists):
    moments, minimum, maximum = summaries(lists)
    for row, values in enumerate(lists):
        assert_describes(moments, row, values)
        present = [value for value in values if not math.isnan(value)]
        assert minimum[row, 0] == min(present, default=math.inf)
        assert maximum[row, 0] == max(present, default=-math.inf)


@given(values_lists, st.data())
def test_merged_parts_describe_all_their_values(lists, data):
    owner = np.array([data.draw(st.integers(0, 3)) for _ in lists])
    parts, _, _ = summaries(lists)
    merged = merge_by(parts, owner, 4)
    for row in range(4):
        mine = [values for values, of in zip(lists, owner, strict=True) if of == row]
        assert_describes(merged, row, list(itertools.chain(*mine)))
    one, other = parts.take(np.array([0])), parts.take(np.array([len(lists) - 1]))
    assert_describes(merge(one, other), 0, lists[0] + lists[-1])


@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=1), min_size=1))
def test_prefix_sums_start_anew_at_each_run(lists):
    values = np.array(list(itertools.chain(*lists)), float)[:, None]
    rank = np.concatenate([np.arange(len(part)) for part in lists])
    wanted = np.concatenate([np.cumsum(part) for part in lists])
    np.testing.assert_array_equal(prefix_sums(values, rank)[:, 0], wanted)


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_small_spread_at_a_high_level_keeps_its_digits(batch):
    random = np.random.default_rng(5)
    values = 1e9 + random.normal(0, 1e-3, 500)
    events = [Event(0, i, i // 60, (float(v),)) for i, v in enumerate(values)]
    partition = Partition(n_panes=3, n_features=1)
    stddev = np.concatenate([partition.take(events[i : i + batch]).stddev for i in range(0, 500, batch)])
    for i in range(2, 500, 23):
        window = values[max(0, (i // 60 - 2) * 60) : i].tolist()
        _, _, wanted = describe(window)
        # numpy itself is wrong in the 8th digit here; the naive version computes with fractions.
        assert stddev[i, 0] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_a_jump_of_level_leaves_no_trace_once_it_left_the_window(batch):
    random = np.random.default_rng(6)
    values = np.where(np.arange(400) < 30, 0.0, 1e9) + random.normal(0, 1e-3, 400)
    events = [Event(0, i, i // 20, (float(v),)) for i, v in enumerate(values)]
    partition = Partition(n_panes=3, n_features=1)
    stddev = np.concatenate([partition.take(events[i : i + batch]).stddev for i in range(0, 400, batch)])
    for i in range(100, 400, 17):
        _, _, wanted = describe(values[(i // 20 - 2) * 20 : i].tolist())
        assert stddev[i, 0] == pytest.approx(wanted, rel=1e-11)


def test_entities_of_different_scale_in_one_batch_do_not_touch_each_other():
    random = np.random.default_rng(7)
    slots = random.integers(0, 3, 600)
    values = random.normal(size=600) * np.array([1e-9, 1e12, 1e300])[slots]
    events = [Event(int(s), i, 0, (float(v),)) for i, (s, v) in enumerate(zip(slots, values, strict=True))]
    scored = Partition(n_panes=2, n_features=1).take(events)
    for slot in (0, 1):
        rows = np.flatnonzero(slots == slot)
        for k in range(2, len(rows), 19):
            wanted = values[rows[:k]]
            np.testing.assert_allclose(scored.mean[rows[k], 0], wanted.mean(), rtol=1e-10)
            np.testing.assert_allclose(scored.stddev[rows[k], 0], wanted.std(), rtol=1e-12)


def test_huge_values_overflow_in_their_entity_only_until_they_leave_the_window():
    partition = Partition(n_panes=2, n_features=1)
    with np.errstate(all="raise"):
        partition.take([Event(0, 0, 0, (1.7e308,)), Event(0, 1, 0, (-1.7e308,)), Event(1, 2, 0, (1.0,))])
        scored = partition.take([Event(1, 3, 0, (2.0,)), Event(0, 4, 0, (2.0,))])
        assert scored.mean[0, 0] == 1.0
        z = normalise(np.array([[2.0], [2.0]]), scored.mean, scored.stddev)
        assert z.tolist() == [[100.0], [0.0]]
        window_statistics(partition.columns, 0)
        partition.take([Event(0, 5, 1, (2.0,)), Event(0, 6, 2, (4.0,))])
        scored = partition.take([Event(0, 7, 2, (5.0,))])
    assert (scored.mean[0, 0], scored.stddev[0, 0]) == (3.0, 1.0)


def test_a_constant_feature_has_no_spread_in_any_split():
    for batch in (1, 3, 90):
        partition = Partition(n_panes=2, n_features=1)
        events = [Event(0, i, i // 20, (0.1,)) for i in range(90)]
        for i in range(0, 90, batch):
            scored = partition.take(events[i : i + batch])
            assert np.nan_to_num(scored.stddev).max() == 0.0
            assert set(np.nan_to_num(scored.mean, nan=0.1).ravel()) == {0.1}
