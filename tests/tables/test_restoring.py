"""What a stale writer left behind the new owner's state does not replace it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.state_format import HEADER
from tables.partition import PARTITION_KEY
from tables.restoring import Arbiter, Restorer, StaleWriterError, read_last_offset, read_next_offset
from tables.stores import MemoryStore

SILENT = 15
"""Offsets without an event after which the writers of these tests remove an entity."""


class Writer:
    """An owner of the partition as it writes checkpoints: changed entities, tombstones, its own record."""

    def __init__(self, events: list[int], next_offset: int) -> None:
        self._events = events
        self.next_offset = next_offset
        self.last: dict[int, int] = {}
        for offset, entity in enumerate(events[:next_offset]):
            self.last[entity] = offset
        self._remove_silent()

    def checkpoint(self, next_offset: int) -> list[tuple[bytes, bytes | None]]:
        changed = {}
        for offset in range(self.next_offset, next_offset):
            changed[self._events[offset]] = self.last[self._events[offset]] = offset
        self.next_offset = next_offset
        gone = self._remove_silent()
        return [
            *((name(entity), None) for entity in gone),
            *((name(entity), state(offset)) for entity, offset in changed.items() if entity not in gone),
            own_record(next_offset),
        ]

    def _remove_silent(self) -> list[int]:
        gone = [entity for entity, offset in self.last.items() if offset < self.next_offset - SILENT]
        for entity in gone:
            del self.last[entity]
        return gone


def name(entity: int) -> bytes:
    return b"entity-%d" % entity


def state(last_offset: int) -> bytes:
    return HEADER.pack(b"NS", 1, 0, 12, 0, 0, 0, 0, 0, 300.0, 0, 0, last_offset)


def own_record(next_offset: int) -> tuple[bytes, bytes]:
    return PARTITION_KEY, b"0 %d 300.0" % next_offset


def records_of(items: list[tuple[bytes, bytes | None]], first: int = 0) -> list[Any]:
    return [
        SimpleNamespace(key=key, value=value, offset=offset)
        for offset, (key, value) in enumerate(items, first)
    ]


def new_store() -> MemoryStore:
    store = MemoryStore.__new__(MemoryStore)
    store.partitions, store._offsets, store._scanned = {}, {}, {}
    return store


def restore(log: list[tuple[bytes, bytes | None]], chunk: int) -> tuple[dict[bytes, bytes], bool]:
    """Read a log as the changelog is read; return what is stored, and whether it was read twice."""
    store = new_store()
    restorer = Restorer(0, store)
    records = records_of(log)
    at, again = 0, False
    while at < len(records):
        try:
            restorer.apply(records[at : at + chunk])
            at += chunk
        except StaleWriterError:
            assert not again
            assert store.partitions.get(0) is None  # emptied
            at, again = 0, True
    restorer.finish()
    assert store._offsets[0] == len(log) - 1
    return store.partitions[0], again


def last_offsets(stored: dict[bytes, bytes]) -> dict[bytes, int]:
    return {key: read_last_offset(value) for key, value in stored.items() if key != PARTITION_KEY}


events_of = st.lists(st.integers(0, 8), min_size=40, max_size=80)


@given(events=events_of, steps=st.lists(st.integers(1, 12), min_size=1, max_size=8), chunk=st.integers(1, 9))
def test_a_log_of_one_writer_after_the_other_is_read_once_and_gives_the_last_of_each_key(
    events: list[int], steps: list[int], chunk: int
) -> None:
    writer, log = Writer(events, 0), []
    for step in steps:
        log += writer.checkpoint(min(writer.next_offset + step, len(events)))
    stored, again = restore(log, chunk)
    assert not again
    assert last_offsets(stored) == {name(entity): offset for entity, offset in writer.last.items()}


@given(
    events=events_of,
    committed=st.integers(0, 20),
    ahead=st.integers(1, 20),
    steps=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    place=st.integers(0, 6),
    chunk=st.integers(1, 9),
)
def test_a_stale_checkpoint_wherever_it_lands_changes_nothing_but_what_is_silent(
    events: list[int], committed: int, ahead: int, steps: list[int], place: int, chunk: int
) -> None:
    sleeper = Writer(events, 0)
    log = sleeper.checkpoint(committed)
    owner = Writer(events, committed)
    turns = []
    for step in steps:
        turns.append(owner.checkpoint(min(owner.next_offset + step, len(events))))
    late = sleeper.checkpoint(min(committed + ahead, len(events)))
    turns.insert(min(place, len(turns)), late)
    log += [item for turn in turns for item in turn]
    stored, again = restore(log, chunk)

    reached = max(owner.next_offset, sleeper.next_offset)
    assert read_next_offset(stored[PARTITION_KEY]) == reached
    truth = {name(entity): offset for offset, entity in enumerate(events[:reached])}
    found = last_offsets(stored)
    awake = {key: offset for key, offset in truth.items() if offset >= reached - SILENT}
    assert {key: found.get(key) for key in awake} == awake
    assert all(truth[key] < reached - SILENT for key in found.keys() - awake.keys())
    next_offsets = [read_next_offset(value) for key, value in log if key == PARTITION_KEY]
    assert again == (next_offsets != sorted(next_offsets))


def test_a_store_that_was_kept_knows_the_next_offset_too() -> None:
    store = new_store()
    store.write(0, [(b"a", state(99)), own_record(100)], 7)
    restorer = Restorer(0, store)
    with pytest.raises(StaleWriterError):
        restorer.apply(records_of([(b"a", state(40)), own_record(50)], 8))


def test_labels_that_were_seen_count_as_progress_too() -> None:
    restorer = Restorer(0, new_store())
    restorer.apply(records_of([(PARTITION_KEY, b"0 50 300.0 7"), (PARTITION_KEY, b"0 50 300.0 8")]))
    with pytest.raises(StaleWriterError):
        restorer.apply(records_of([(PARTITION_KEY, b"0 50 300.0 7")], 2))


def test_after_the_end_a_partition_is_read_as_ever_until_the_next_stale_writer() -> None:
    restorer = Restorer(0, new_store())
    log = [own_record(50), own_record(40)]
    with pytest.raises(StaleWriterError):
        restorer.apply(records_of(log))
    restorer.apply(records_of(log))
    restorer.finish()
    assert (restorer.arbiter, restorer.progress) == (None, 50)
    restorer.apply(records_of([own_record(50), own_record(60)], 2))
    with pytest.raises(StaleWriterError):
        restorer.apply(records_of([own_record(59)], 4))


def test_a_tombstone_of_a_stale_writer_removes_no_state_that_has_seen_more() -> None:
    judged = Arbiter().judge(
        records_of([(b"a", state(180)), own_record(200), (b"a", None), own_record(100), own_record(210)])
    )
    assert judged[b"a"] == state(180)


def test_a_state_of_a_stale_writer_does_not_come_back_behind_its_tombstone() -> None:
    arbiter = Arbiter()
    log = [(b"a", None), own_record(200), own_record(210), (b"a", state(90)), own_record(100)]
    assert arbiter.judge(records_of(log))[b"a"] is None
    assert arbiter.judge(records_of([(b"a", state(215)), own_record(220)], 5))[b"a"] == state(215)


def test_where_two_writers_take_turns_a_tombstone_counts_for_the_lower_offset() -> None:
    # The tombstone is of the stale one, whose own record comes second.
    log = [
        (b"a", state(180)),
        own_record(190),
        (b"a", None),
        own_record(200),
        own_record(100),
        own_record(210),
    ]
    assert Arbiter().judge(records_of(log))[b"a"] == state(180)


def test_a_tombstone_without_a_record_behind_it_is_left_out() -> None:
    arbiter = Arbiter()
    judged = arbiter.judge(records_of([(b"a", state(5)), own_record(10), (b"a", None)]))
    assert judged[b"a"] == state(5)
    assert arbiter.finish() == {}


def test_the_last_tombstones_wait_for_the_end_only() -> None:
    arbiter = Arbiter()
    judged = arbiter.judge(records_of([(b"a", state(5)), own_record(10), (b"a", None), own_record(30)]))
    assert judged[b"a"] == state(5)
    assert arbiter.finish() == {b"a": None}


@pytest.mark.parametrize("stored", [b"", b"x", b"1 x", b"1"])
def test_an_unreadable_record_of_the_partition_counts_as_nothing_seen(stored: bytes) -> None:
    assert read_next_offset(stored) == 0
