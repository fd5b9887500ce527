"""Events that wait for labels: what becomes of each label, and of all of them when a worker dies."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.answered_format import encode_answered
from compute.label_marks import MAX_SPAN
from compute.own_values import seen_of
from tables import early_labels, pending_blocks
from tables.early_labels import EarlyLabel
from tables.owner import Owner
from tables.pending import CONTRADICTING, JOINED, LATE, OUTCOMES, REPEATED, UNKNOWN, Pending
from tables.pending_blocks import EVENTS, MARKS
from tables.reserved import PARTITION_KEY, PREFIX
from tables.restoring import Restorer
from tables.stores import Item
from tests.fuzz.mutations import mutated
from tests.tables.test_restoring import Reader, log_of
from tests.tables.test_stores import make_store
from tests.tables.waiting import DELAY, KEYS, DictStore, Worker, answered


def test_outcomes_have_names_in_the_order_of_their_codes() -> None:
    assert [OUTCOMES[code] for code in (JOINED, REPEATED, CONTRADICTING, LATE, UNKNOWN)] == list(OUTCOMES)


def test_the_first_label_of_an_event_is_joined_and_those_after_repeat_or_contradict_it() -> None:
    worker = Worker()
    worker.add(answered([5, 6]))
    assert worker.label([5], ["spam"]) == ["joined"]
    assert worker.label([5], ["spam"]) == ["repeated"]
    assert worker.label([5], ["ham"]) == ["contradicting"]
    assert worker.label([6], ["ham"]) == ["joined"]
    worker.checkpoint()
    worker = Worker(log=worker.log)
    assert worker.label([5, 5, 6], ["spam", "ham", "ham"]) == ["repeated", "contradicting", "repeated"]


def test_within_one_batch_the_first_label_counts_too() -> None:
    worker = Worker()
    worker.add(answered([5, 6]))
    outcomes = worker.label([6, 5, 6, 6, 5], ["a", "b", "c", "a", "b"])
    assert outcomes == ["joined", "joined", "contradicting", "repeated", "repeated"]


def test_a_label_that_the_event_brought_itself_is_its_first() -> None:
    worker = Worker()
    worker.add(answered([5, 6, 8]), own_labels={0: "spam", 2: "1"})
    outcomes = worker.label([5, 6, 8, 8], ["spam", "spam", "0", "1"])
    assert outcomes == ["repeated", "joined", "contradicting", "repeated"]
    worker.checkpoint()
    assert Worker(log=worker.log).label([5, 6, 8], ["ham"] * 3) == ["contradicting"] * 3


def test_a_label_is_late_once_its_record_is_later_than_its_event_by_more_than_the_delay() -> None:
    worker = Worker()
    worker.add(answered([5, 6], times=[1000.0, 1000.0]))
    assert worker.label([5, 6], ["a", "a"], times=[1100.0, 1100.001]) == ["joined", "late"]
    assert worker.label([5], ["a"], times=[2000.0]) == ["late"]  # whatever it says
    assert worker.label([6], ["a"], times=[900.0]) == ["joined"]  # clocks differ


def test_a_late_label_is_nobodys_first() -> None:
    worker = Worker()
    worker.add(answered([5]))
    assert worker.label([5, 5], ["a", "b"], times=[500.0, 50.0]) == ["late", "joined"]


def test_what_was_never_answered_is_unknown_and_what_has_expired_is_late() -> None:
    worker = Worker()
    worker.add(answered([5, 7]))
    worker.checkpoint()
    worker.add(answered([200, 203]))
    worker.checkpoint()
    assert worker.label([4, 6, 201], ["a"] * 3) == ["unknown"] * 3
    assert worker.pending.expire(5 + DELAY) == 0
    assert worker.pending.expire(8 + DELAY) == 1
    for _ in range(2):
        assert worker.label([4, 5, 6, 7, 8, 201], ["a"] * 6) == ["late"] * 4 + ["unknown"] * 2
        assert worker.pending.n_blocks == 1
        worker.checkpoint()
        worker = Worker(log=worker.log)


def test_the_id_of_another_entitys_event_is_unknown() -> None:
    worker = Worker()
    worker.add(answered([4, 5]))
    assert worker.label([4, 4, 5], ["a"] * 3, keys=[KEYS[1], KEYS[0], KEYS[0]]) == [
        "unknown",
        "joined",
        "unknown",
    ]


def test_early_labels_wait_until_their_event_was_scored_in_the_order_in_which_they_came() -> None:
    worker = Worker()
    early = [EarlyLabel(at, source, 1.0, b"k", b"%d" % source, []) for source, at in enumerate([9, 5, 7, 5])]
    assert all(map(worker.pending.hold_early, early))
    assert worker.pending.take_early(5) == []
    assert worker.pending.take_early(8) == early[1:]
    assert worker.pending.take_early(8) == []
    worker.next_label = 4
    worker.checkpoint()
    worker = Worker(log=worker.log)
    assert worker.pending.n_early == 1
    assert worker.pending.take_early(10) == early[:1]


def test_early_labels_keep_all_that_their_record_had() -> None:
    worker = Worker()
    headers: list[tuple[str, bytes | None]] = [("trace", b"\xff"), ("é", None)]
    label = EarlyLabel(9, 2**40, 1.79e9, b"\xff\x00", b'{"id": "\xc3\xa9"}', headers)
    assert worker.pending.hold_early(label)
    worker.next_label = 2**40 + 1
    worker.checkpoint()
    assert Worker(log=worker.log).pending.take_early(10) == [label]


def test_early_labels_that_wait_for_longer_than_the_delay_are_given_back_once() -> None:
    worker = Worker()
    old, new = (EarlyLabel(9, source, time, b"k", b"v", []) for source, time in enumerate([10.0, 11.0]))
    worker.pending.hold_early(old)
    worker.pending.hold_early(new)
    worker.next_label = 2
    worker.checkpoint()
    assert worker.pending.drop_early(10 + DELAY) == []
    assert worker.pending.drop_early(10.5 + DELAY) == [old]
    assert worker.pending.drop_early(10.5 + DELAY) == []
    worker.next_label = 3
    for _ in range(3):
        worker.checkpoint()
        worker = Worker(log=worker.log)
        assert worker.pending.drop_early(10.5 + DELAY) == []
        assert worker.pending.n_early == 1
    assert worker.pending.take_early(10) == [new]


def test_an_early_label_that_was_dropped_in_vain_waits_after_further_checkpoints_and_crashes_too() -> None:
    worker = Worker()
    early = EarlyLabel(9, 0, 10.0, b"k", b"v", [])
    worker.pending.hold_early(early)
    worker.next_label = 1
    worker.checkpoint()
    assert worker.pending.drop_early(11 + DELAY) == [early]
    worker.next_label = 2
    worker = Worker(log=[*worker.log, *worker.take()[:-1]])
    worker.next_label = 3
    worker.checkpoint()
    assert Worker(log=worker.log).pending.take_early(10) == [early]


def test_early_labels_are_bounded_in_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_labels, "MAX_LABELS", 3)
    monkeypatch.setattr(early_labels, "MAX_BYTES", 2_000)
    pending = Worker().pending
    few = [EarlyLabel(9, source, 0.0, b"k", b"v", []) for source in range(5)]
    assert [pending.hold_early(label) for label in few] == [True] * 3 + [False] * 2
    assert pending.drop_early(1 + DELAY) == few[:3]
    large = [EarlyLabel(9, source, 0.0, b"k", b"v" * 700, []) for source in range(5, 8)]
    assert [pending.hold_early(label) for label in large] == [True, False, False]
    assert pending.take_early(10) == large[:1]
    assert pending.hold_early(large[1])


def test_an_early_label_that_no_record_of_the_changelog_could_hold_is_not_kept() -> None:
    huge = EarlyLabel(9, 0, 0.0, b"k", b"v" * early_labels.MAX_LABEL_BYTES, [])
    assert not Worker().pending.hold_early(huge)


def test_events_must_follow_each_other() -> None:
    worker = Worker()
    worker.add(answered([5, 6]))
    with pytest.raises(ValueError, match="offsets: must be above 6, received 6"):
        worker.pending.add(answered([6, 7]))
    worker.checkpoint()
    with pytest.raises(ValueError, match="offsets: must be above 6, received 3"):
        Worker(log=worker.log).pending.add(answered([3]))
    with pytest.raises(ValueError, match="timestamps: must have the shape"):
        worker.pending.add(replace(answered([7]), timestamps=np.zeros(2)))


def test_what_is_found_is_ascending_each_once_wherever_it_is() -> None:
    worker = Worker()
    worker.add(answered([1, 3]))
    worker.checkpoint()
    worker.add(answered([4, 8]))
    taken = worker.take()
    worker.add(answered([9], version="w"))
    worker.add(answered([11, 12]))
    found = worker.pending.find(np.array([12, 3, 9, 3, 2, 8, 100, 10, 1]))
    assert found.answered.offsets.tolist() == [1, 3, 8, 9, 12]
    assert found.rows.tolist() == [4, 1, 3, 1, -1, 2, -1, -1, 0]
    assert not found.expired.any()
    assert [version.version for version in found.answered.versions] == ["v", "w"]
    np.testing.assert_array_equal(found.answered.versions[0].scores, [1.0, 3.0, 8.0, math.nan, 12.0])
    worker.finish(taken)
    assert worker.scores([8, 12]) == [8.0, 12.0]


def test_nothing_is_found_for_nothing() -> None:
    worker = Worker()
    worker.pending.add(answered([]))
    for _ in range(2):
        assert worker.label([], []) == []
        assert worker.label([7], ["a"]) == ["unknown"]
        if worker.pending.last_offset < 0:
            worker.add(answered([5]))
    assert worker.pending.last_offset == 5


def test_a_checkpoint_holds_what_changed_since_the_last_and_no_more() -> None:
    worker = Worker()
    worker.add(answered([5, 6]))
    worker.add(answered([8]))
    written = worker.checkpoint()
    assert [key[: key.index(b"/") + 1] for key in written] == [MARKS, EVENTS]
    assert worker.checkpoint() == {}
    worker.label([6], ["a"])
    assert [key[:15] for key in worker.checkpoint()] == [MARKS]
    worker.label([6, 7], ["b", "b"])  # contradicting, unknown
    assert worker.checkpoint() == {}
    worker.pending.expire(9 + DELAY)
    assert list(worker.checkpoint()) == [PREFIX + b"expired"]
    assert list(worker.checkpoint().values()) == [None, None]
    assert worker.checkpoint() == {}


def test_every_value_says_how_much_was_seen() -> None:
    worker = Worker()
    worker.add(answered([5, 6]))
    worker.pending.hold_early(EarlyLabel(9, 0, 0.0, b"k", b"v", []))
    worker.next_label = 4
    written = worker.checkpoint()
    worker.pending.expire(7 + DELAY)
    written.update(worker.checkpoint())
    assert len(written) == 4
    assert {seen_of(value) for value in written.values() if value} == {7 + 4}


def test_blocks_are_bounded_in_rows_bytes_and_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_blocks, "MAX_BLOCK_ROWS", 100)
    far = 10_010 + MAX_SPAN
    offsets = [*range(250), *range(10_000, 10_010), far - 1, far, far + 1, 2**61]
    worker = Worker()
    worker.add(answered(offsets), own_labels={len(offsets) - 1: "a"})
    worker.checkpoint()
    assert worker.pending.n_blocks == 6
    assert worker.scores(offsets) == [float(offset) for offset in offsets]
    assert worker.label([249, 2**61], ["a", "b"]) == ["joined", "contradicting"]
    inputs, names = np.zeros((100, 1000), np.float32), ("x",) * 1000
    wide = replace(answered(list(range(100))), inputs=inputs, feature_names=names)
    worker = Worker()
    worker.add(wide)
    written = worker.checkpoint()
    assert max(len(value) for value in written.values() if value) < 260_000
    assert worker.pending.n_blocks == 2


def test_blocks_in_memory_are_bounded_and_those_used_last_stay() -> None:
    worker = Worker()
    bytes_of_a_block = len(encode_answered(answered(list(range(100)))))
    for first in range(0, 2_000, 100):
        worker.add(answered(list(range(first, first + 100))))
        worker.checkpoint()
    n_read = 0
    read = worker.store.get_many

    def get_many(partition: int, keys: list[bytes]) -> list[bytes | None]:
        nonlocal n_read
        n_read += sum(key.startswith(EVENTS) for key in keys)
        return read(partition, keys)

    worker.store.get_many = get_many
    pending = Pending(0, worker.store, DELAY, cache_bytes=5 * bytes_of_a_block)
    everything = np.arange(2_000)
    assert pending.find(everything).answered.versions[0].scores.tolist() == everything.tolist()
    assert n_read == 20
    assert pending._blocks.n_cached_bytes == 5 * bytes_of_a_block
    for _ in range(3):
        pending.find(np.array([1999, 1850, 1600]))
    assert n_read == 20
    pending.find(np.array([1, 1600]))
    assert n_read == 21
    pending.find(np.array([1850, 1600, 1550]))
    assert n_read == 22
    pending.find(np.array([1999, 1850]))
    assert n_read == 22


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_the_store_holds_a_partition_goes_on(data: st.DataObject) -> None:
    worker = Worker()
    for first in (0, 10, 20):
        worker.add(answered([first, first + 1]), own_labels={0: "a"})
        worker.pending.hold_early(EarlyLabel(first + 50, worker.next_label, 1.0, b"k", b"v", []))
        worker.next_label += 1
        worker.checkpoint()
    worker.pending.expire(2.0 + DELAY)
    worker.checkpoint()
    values = worker.store.values
    for key in data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=4, unique=True)):
        value = values.pop(key)
        if key != PARTITION_KEY:
            key = data.draw(st.one_of(st.just(key), mutated(key)))
            value = data.draw(mutated(value))
        values[key] = value
    for _ in range(2):
        worker = Worker(worker.store)
        worker.scores(list(range(30)))
        assert set(worker.label(list(range(30)), ["b"] * 30)) <= set(OUTCOMES)
        next_offset = max(worker.next_offset, 30) + 5
        worker.add(answered([next_offset]))
        assert worker.label([next_offset], ["b"]) == ["joined"]
        worker.pending.take_early(worker.next_offset)
        worker.pending.expire(200.0)
        worker.pending.drop_early(1e9)
        worker.checkpoint()


def test_unreadable_values_cost_their_block_alone(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    for first in (0, 10, 20, 30):
        worker.add(answered([first, first + 1]), own_labels={0: "a"})
        worker.checkpoint()
    worker.pending.hold_early(EarlyLabel(99, 0, 0.0, b"k", b"v", []))
    worker.next_label = 1
    worker.checkpoint()
    values = worker.store.values
    events = [key for key in values if key.startswith(EVENTS)]
    marks = [key for key in values if key.startswith(MARKS)]
    values[events[0]] = values[events[0]][:-1]
    del values[events[1]]
    values[events[2]] = values[events[3]]
    values[marks[3]] = values[marks[3]][:-1]
    values[next(key for key in values if key.startswith(early_labels.EARLY))] = b"x"
    values[MARKS + b"odd"] = values[marks[0]]
    worker = Worker(worker.store)
    assert worker.pending.n_early == 0
    for _ in range(2):
        assert worker.scores([0, 1, 10, 11, 20, 21, 30, 31]) == [None] * 6 + [30.0, 31.0]
    assert worker.label([0, 30], ["b", "b"]) == ["unknown", "joined"]
    assert caplog.text.count("blocks of events cannot be read") == 1
    assert "3 blocks" in caplog.text
    worker.checkpoint()
    assert MARKS + b"odd" not in values
    assert Worker(worker.store).label([30], ["a"]) == ["contradicting"]


@pytest.fixture(params=["rocksdb", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    return make_store(request.param, tmp_path)


def restored(store: Any, log: list[Item]) -> Any:
    """Read a log into a store as a recovery does."""
    store.empty(0)
    records = [
        SimpleNamespace(key=key, value=value, offset=i, headers=()) for i, (key, value) in enumerate(log)
    ]
    Restorer(0, store).apply(records)
    store.settle(0)
    return store


def test_a_crash_at_any_point_of_a_checkpoint_changes_no_outcome(store: Any) -> None:
    def until_the_first_checkpoint() -> Worker:
        worker = Worker()
        worker.add(answered([0, 1, 2, 3]), own_labels={3: "own"})
        worker.checkpoint()
        worker.add(answered([200, 201]))
        for source, offset in enumerate([300, 301, 999]):
            early = EarlyLabel(offset, source, 250.0 if offset < 999 else 150.0, KEYS[offset % 2], b"a", [])
            assert worker.pending.hold_early(early)
        worker.next_label += 3
        worker.label([0], ["first"])
        worker.checkpoint()
        return worker

    def go_on(worker: Worker) -> list[Any]:
        told = [worker.label([0, 1, 200], ["first", "second", "second"])]
        worker.add(answered([300, 305]))
        told.append([early.offset for early in worker.pending.take_early(worker.next_offset)])
        told.append(worker.label([300, 200, 301], ["early", "third", "a"], times=[300.0] * 3))
        told.append([early.offset for early in worker.pending.drop_early(151 + DELAY)])
        early = EarlyLabel(400, worker.next_label, 310.0, KEYS[0], b"b", [])
        assert worker.pending.hold_early(early)
        worker.next_label += 1
        told.append(worker.pending.expire(4 + DELAY))
        told.append(worker.label([2, 3, 4, 199, 305], ["x"] * 5, times=[3.0] * 5))
        return told

    def at_the_end(worker: Worker) -> list[Any]:
        told: list[Any] = [worker.label([0, 1, 2, 3, 200, 300, 305, 201], ["z"] * 8)]
        worker.add(answered([500]))
        told.append([early.offset for early in worker.pending.take_early(worker.next_offset)])
        told.append([worker.pending.n_blocks, worker.pending.n_early, worker.scores([0, 200, 305, 500])])
        return told

    worker = until_the_first_checkpoint()
    expected = go_on(worker)
    assert expected[0] == ["repeated", "joined", "joined"]
    assert expected[2:4] == [["joined", "contradicting", "unknown"], [999]]
    items = worker.take()
    worker.finish(items)
    expected_end = at_the_end(worker)
    n_items = len(items)
    assert n_items == 7
    for n_arrived in range(n_items + 1):
        for n_again in (0, n_arrived // 2, None):
            worker = until_the_first_checkpoint()
            go_on(worker)
            log = [*worker.log, *worker.take()[:n_arrived]]
            worker = Worker(restored(store, log))
            worker.log = log
            if n_arrived == n_items:
                assert at_the_end(worker) == expected_end
                continue
            if n_again is not None:  # the next one dies as well
                go_on(worker)
                log = [*log, *worker.take()[:n_again]]
                worker = Worker(restored(store, log))
                worker.log = log
            assert go_on(worker) == expected, n_arrived
            worker.finish(worker.take())
            assert at_the_end(worker) == expected_end, n_arrived
            worker = Worker(restored(store, worker.log))
            assert at_the_end(worker) == expected_end, n_arrived


def test_nothing_is_left_in_the_store_that_nobody_waits_for(store: Any) -> None:
    worker = Worker(store)
    for i in range(20):
        worker.add(answered([3 * i, 3 * i + 1], times=[10.0 * i, 10.0 * i]))
        worker.pending.hold_early(EarlyLabel(3 * i + 3, worker.next_label, 10.0 * i, b"k", b"v", []))
        worker.next_label += 1
        worker.label([3 * i], ["a"], times=[10.0 * i])
        worker.pending.take_early(worker.next_offset)
        worker.pending.expire(10.0 * i)
        worker.pending.drop_early(10.0 * i)
        if i % 3 == 2:
            worker = Worker(store, worker.log)
        worker.checkpoint()
    worker.pending.expire(1e9)
    worker.pending.drop_early(1e9)
    worker.checkpoint()
    worker.checkpoint()
    assert sorted(key for key, _ in store.items_from(0, PREFIX)) == [PREFIX + b"expired", PARTITION_KEY]


def test_a_stale_writers_blocks_do_no_harm() -> None:
    owner = Worker()
    owner.add(answered([0, 1]))
    owner.checkpoint()
    taken = len(owner.log)
    sleeper = Worker(log=list(owner.log))
    sleeper.add(answered([10, 11, 14, 15]))
    late = sleeper.take()
    owner.add(answered([10, 11]))
    owner.label([10], ["a"])
    owner.checkpoint()
    owner.add(answered([14, 15, 20]))
    owner.label([15], ["a"])
    owner.checkpoint()
    first, second = Owner(1, 0), Owner(2, taken)
    for place in range(taken, len(owner.log) + 1):
        log = log_of(
            (first, owner.log[:taken]),
            (second, owner.log[taken:place]),
            (first, late),
            (second, owner.log[place:]),
        )
        reader = Reader(chunk=3)
        reader.read(log)
        store = DictStore()
        store.values = reader.store.partitions[0]
        worker = Worker(store)
        assert worker.next_offset == 21
        assert worker.scores([0, 1, 10, 11, 14, 15, 20]) == [0.0, 1.0, 10.0, 11.0, 14.0, 15.0, 20.0]
        worker.add(answered([30]))
        assert worker.label([11, 14, 20, 30], ["a"] * 4) == ["joined"] * 4
        worker.checkpoint()
        worker = Worker(store)
        assert worker.label([11, 14, 20, 30], ["b"] * 4) == ["contradicting"] * 4
