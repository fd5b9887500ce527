from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.statistics import (
    EMPTY,
    EntityColumns,
    score_and_learn,
    silent,
    window_statistics,
)
from tests.naive import Event, NaivePartition, describe

N_SLOTS = 4


class Partition:
    """Columns and watermark, as the table keeps them."""

    def __init__(self, n_panes: int, n_features: int, n_slots: int = N_SLOTS):
        names = [f"f{i}" for i in range(n_features)]
        self.columns = EntityColumns(n_panes, 60.0, names, n_slots)
        self.watermark = EMPTY

    def take(self, events: list[Event]):
        n_features = self.columns.n_features
        learnt, scored = score_and_learn(
            self.columns,
            np.array([e.slot for e in events], np.int64),
            np.array([e.offset for e in events], np.int64),
            np.array([e.pane for e in events], np.int64),
            np.array([e.values for e in events], np.float64).reshape(len(events), n_features),
            self.watermark,
        )
        self.columns.assign(learnt)
        self.watermark = scored.watermark
        return scored


def split(events, cuts):
    edges = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
    return [events[a:b] for a, b in itertools.pairwise(edges)]


def assert_same(scored, mets, n_features, rtol=1e-9):
    assert scored.late.tolist() == [met.late for met in mets]
    assert scored.replayed.tolist() == [met.replayed for met in mets]
    assert scored.n_events.tolist() == [met.n_events for met in mets]
    nothing = (math.nan,) * n_features
    count = np.array([met.count or (0,) * n_features for met in mets], float).reshape(len(mets), n_features)
    mean = np.array([met.mean or nothing for met in mets], float).reshape(len(mets), n_features)
    stddev = np.array([met.stddev or nothing for met in mets], float).reshape(len(mets), n_features)
    np.testing.assert_array_equal(scored.count, count)
    np.testing.assert_allclose(scored.mean, mean, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(scored.stddev, stddev, rtol=rtol, atol=1e-7)


def assert_windows(partition, naive):
    for slot, entity in naive.entities.items():
        held = [] if entity.newest is None else naive.window(slot)
        found = window_statistics(partition.columns, slot)
        assert found["n_events"] == len(held)
        assert partition.columns.window_events[slot] == len(held)
        assert partition.columns.last_offset[slot] == entity.last_offset
        assert partition.columns.newest[slot] == (EMPTY if entity.newest is None else entity.newest)
        assert partition.columns.seen[slot] == (EMPTY if entity.seen is None else entity.seen)
        for i, name in enumerate(partition.columns.features):
            values = [event.values[i] for event in held]
            count, mean, stddev = describe(values)
            assert partition.columns.window.count[slot, i] == count
            assert (name in found["features"]) == (count > 0)
            if count:
                feature = found["features"][name]
                assert feature["count"] == count
                present = [value for value in values if not math.isnan(value)]
                assert (feature["min"], feature["max"]) == (min(present), max(present))
                for got in (feature["mean"], partition.columns.window.mean[slot, i]):
                    assert got == pytest.approx(mean, rel=1e-9, abs=1e-12)
                assert feature["stddev"] == pytest.approx(stddev, rel=1e-9, abs=1e-7)


@st.composite
def streams(draw, max_events=50):
    n_features = draw(st.integers(0, 2))
    n_panes = draw(st.integers(1, 5))
    value = st.one_of(st.floats(-1e3, 1e3), st.just(math.nan), st.sampled_from([0.0, 1.0]))
    events, time, offset = [], draw(st.integers(-20, 20)), 0
    for _ in range(draw(st.integers(0, max_events))):
        time += draw(st.sampled_from([0, 0, 0, 0, 1, 1, 2, n_panes, 9]))
        back = draw(st.sampled_from([0, 0, 0, 0, 1, 2, n_panes, 7]))
        offset += draw(st.sampled_from([1, 1, 1, 1, 2, 0, -3]))
        values = tuple(draw(value) for _ in range(n_features))
        events.append(Event(draw(st.integers(0, N_SLOTS - 1)), offset, time - back, values))
    return n_panes, n_features, events


@settings(max_examples=400, deadline=None)
@given(streams(), st.lists(st.integers(0, 1000), max_size=4))
def test_any_split_into_batches_equals_the_naive_version_at_every_event(stream, cuts):
    n_panes, n_features, events = stream
    naive, partition = NaivePartition(n_panes, n_features), Partition(n_panes, n_features)
    for batch in split(events, cuts):
        assert_same(partition.take(batch), [naive.take(event) for event in batch], n_features)
        assert_windows(partition, naive)


@settings(max_examples=100, deadline=None)
@given(streams())
def test_one_by_one_equals_all_at_once(stream):
    n_panes, n_features, events = stream
    whole, single = Partition(n_panes, n_features), Partition(n_panes, n_features)
    scored = whole.take(events)
    for i, event in enumerate(events):
        one = single.take([event])
        assert one.late[0] == scored.late[i]
        np.testing.assert_allclose(one.mean[0], scored.mean[i], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(one.stddev[0], scored.stddev[i], rtol=1e-9, atol=1e-7)
    assert whole.watermark == single.watermark
    for name in ("newest", "seen", "last_offset", "n_events", "minimum", "maximum"):
        np.testing.assert_array_equal(getattr(whole.columns, name), getattr(single.columns, name))


@settings(max_examples=60, deadline=None)
@given(streams(), st.integers(0, 50))
def test_a_replayed_batch_changes_nothing(stream, cut):
    n_panes, n_features, events = stream
    events = [Event(e.slot, i, e.pane, e.values) for i, e in enumerate(events)]
    partition = Partition(n_panes, n_features)
    partition.take(events)
    before = {name: np.copy(value) for name, value in arrays(partition.columns).items()}
    scored = partition.take(events[: cut % (len(events) + 1)])
    assert scored.replayed.all()
    for name, value in arrays(partition.columns).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def arrays(columns):
    named = {name: value for name, value in vars(columns).items() if isinstance(value, np.ndarray)}
    named |= {f"pane_{name}": value for name, value in columns.moments._asdict().items()}
    return named | {f"window_{name}": value for name, value in columns.window._asdict().items()}


@settings(max_examples=60, deadline=None)
@given(streams(), st.data())
def test_removing_silent_entities_at_any_moment_cannot_be_seen(stream, data):
    n_panes, n_features, events = stream
    events = [Event(e.slot, i, e.pane, e.values) for i, e in enumerate(events)]
    kept, swept = Partition(n_panes, n_features), Partition(n_panes, n_features)
    for event in events:
        one, other = kept.take([event]), swept.take([event])
        np.testing.assert_array_equal(one.late, other.late)
        np.testing.assert_array_equal(one.mean, other.mean)
        np.testing.assert_array_equal(one.n_events, other.n_events)
        if data.draw(st.booleans()):
            gone = np.flatnonzero(silent(swept.columns.seen, swept.watermark, n_panes))
            swept.columns.clear(gone)


def test_large_batches_of_many_entities_equal_numpy_over_the_window():
    random = np.random.default_rng(3)
    n, n_panes = 3000, 6
    slots = random.integers(0, 40, n)
    panes = np.arange(n) // 150 - random.integers(0, 4, n)
    matrix = random.normal(size=(n, 3)) * [1e-9, 1.0, 1e12]
    matrix[random.random((n, 3)) < 0.1] = np.nan
    partition = Partition(n_panes, 3, n_slots=40)
    events = [Event(*map(int, row), tuple(values)) for *row, values in zip(slots, range(n), panes, matrix)]  # noqa: B905
    scored = [partition.take(events[i : i + 1000]) for i in range(0, n, 1000)]
    mean, stddev = (np.concatenate([getattr(s, name) for s in scored]) for name in ("mean", "stddev"))
    assert not np.concatenate([s.late for s in scored]).any()
    for i in random.integers(0, n, 300):
        earlier = np.flatnonzero(slots[:i] == slots[i])
        newest = max(panes[earlier].max(initial=EMPTY), panes[i])
        window = matrix[earlier[panes[earlier] > newest - n_panes]]
        for k in range(3):
            present = window[:, k][~np.isnan(window[:, k])]
            if present.size:
                scale = 10.0 ** (-9, 0, 12)[k]
                assert mean[i, k] == pytest.approx(present.mean(), rel=1e-12, abs=1e-13 * scale)
                assert stddev[i, k] == pytest.approx(present.std(), rel=1e-11, abs=1e-15 * scale)


def test_a_feature_that_appears_later_starts_with_no_values():
    partition = Partition(n_panes=2, n_features=1)
    partition.take([Event(0, 0, 0, (1.0,)), Event(0, 1, 0, (3.0,))])
    partition.columns.add_features(["new"])
    partition.columns.grow(100)
    scored = partition.take(
        [Event(0, 2, 0, (5.0, 7.0)), Event(0, 3, 0, (5.0, 9.0)), Event(99, 4, 0, (1.0, 1.0))]
    )
    assert scored.count.tolist() == [[2, 0], [3, 1], [0, 0]]
    assert scored.mean[:2, 0].tolist() == [2.0, 3.0]
    assert scored.mean[1, 1] == 7.0
    assert scored.n_events.tolist() == [2, 3, 0]


def test_a_late_event_does_not_end_a_silence():
    naive, partition = NaivePartition(3, 1), Partition(3, 1)
    # The watermark is 12 at the late event and 13 at the last: 3 beyond the last one that was accepted.
    panes = [(0, 10), (1, 12), (0, 7), (1, 13), (0, 11)]
    events = [Event(slot, i, pane, (float(i),)) for i, (slot, pane) in enumerate(panes)]
    mets = [naive.take(event) for event in events]
    assert [met.late for met in mets] == [False, False, True, False, False]
    assert mets[-1].n_events == 0
    assert_same(partition.take(events[:3]), mets[:3], 1)
    assert_same(partition.take(events[3:]), mets[3:], 1)
    assert_windows(partition, naive)


def test_an_entity_that_was_silent_starts_anew_even_where_its_old_panes_would_still_be_covered():
    naive, partition = NaivePartition(5, 1), Partition(5, 1)
    panes = [(0, 10), (1, 20), (0, 11), (0, 12), (0, 12), (0, 10)]
    events = [Event(slot, i, pane, (float(i),)) for i, (slot, pane) in enumerate(panes)]
    mets = [naive.take(event) for event in events]
    assert [met.n_events for met in mets] == [0, 0, 0, 1, 2, 3]
    assert_same(partition.take(events[:1]), mets[:1], 1)
    assert_same(partition.take(events[1:]), mets[1:], 1)
    assert_windows(partition, naive)


def test_an_empty_batch_changes_nothing():
    partition = Partition(n_panes=2, n_features=2)
    scored = partition.take([])
    assert scored.mean.shape == (0, 2)
    assert scored.watermark == EMPTY


def test_scoring_without_assigning_learns_nothing():
    partition = Partition(n_panes=2, n_features=1)
    partition.take([Event(0, 0, 0, (1.0,))])
    before = {name: value.copy() for name, value in arrays(partition.columns).items()}
    score_and_learn(partition.columns, np.zeros(1, int), np.ones(1, int), np.full(1, 9), np.ones((1, 1)))
    for name, value in arrays(partition.columns).items():
        np.testing.assert_array_equal(value, before[name])


def test_the_batch_that_is_passed_in_is_not_changed():
    matrix = np.array([[1.0], [np.nan], [3.0]])
    given_arrays = [np.zeros(3, int), np.arange(3), np.array([5, 1, 9]), matrix]
    before = [array.copy() for array in given_arrays]
    score_and_learn(EntityColumns(3, 60.0, ["f"], 1), *given_arrays)
    for array, copy in zip(given_arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_feature_that_is_always_missing_counts_events_but_no_values():
    scored = Partition(n_panes=2, n_features=1).take([Event(0, i, 0, (math.nan,)) for i in range(3)])
    assert scored.n_events.tolist() == [0, 1, 2]
    assert scored.count.ravel().tolist() == [0, 0, 0]
    assert np.isnan(scored.mean).all()


def test_a_long_ring_is_put_together_piece_by_piece(monkeypatch):
    monkeypatch.setattr("compute.window_content._MAX_PARTS", 50)
    random = np.random.default_rng(8)
    events = [
        Event(int(random.integers(3)), i, i // 3 - int(random.integers(5)), (float(random.normal()),))
        for i in range(200)
    ]
    naive, partition = NaivePartition(20, 1), Partition(20, 1)
    for batch in (events[:90], events[90:]):
        assert_same(partition.take(batch), [naive.take(event) for event in batch], 1)


def test_panes_far_apart_in_one_batch_are_kept_apart():
    far = 2**53 - 1
    events = [Event(i % 3, i, (-far, 5, far)[(i // 3) % 3], (float(i),)) for i in range(60)]
    naive, partition = NaivePartition(4, 1), Partition(4, 1)
    assert_same(partition.take(events), [naive.take(event) for event in events], 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slots": np.array([4])}, "slots: must lie in 0 to 3, received 4 to 4"),
        ({"slots": np.array([-1])}, "slots: must lie in"),
        ({"panes": np.array([2**60])}, "panes: must lie within"),
        ({"offsets": np.array([1, 2])}, "offsets, panes: must have 1 items"),
        ({"matrix": np.ones((1, 2))}, r"matrix: must have shape \(1, 1\), received \(1, 2\)"),
    ],
)
def test_arguments_out_of_bounds_are_named(change, message):
    one = {
        "slots": np.array([0]),
        "offsets": np.array([0]),
        "panes": np.array([0]),
        "matrix": np.ones((1, 1)),
    }
    with pytest.raises(ValueError, match=message):
        score_and_learn(EntityColumns(2, 60.0, ["f"], 4), **(one | change))
