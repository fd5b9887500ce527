"""The transport's own decisions, without a broker: folding, what may be committed, where reading goes on."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from app import transport
from app.client_thread import ConsumerThread
from app.record_batch import RecordBatch, RecordBatchSchema, split
from app.transport import BatchOptions, Consumer

EVENTS = TP("events", 2)
CHANGELOG = TP("nowcast-statistics-changelog", 2)
OTHER = TP("other", 2)


def record(offset: int, n_bytes: int = 10, topic: str = "events") -> ConsumerRecord:
    return ConsumerRecord(
        topic, 2, offset, 1_700_000_000_500, 0, b"key", b"x" * n_bytes, None, 3, n_bytes, ()
    )


def make_consumer(max_events: int = 3, max_bytes: int = 1_000, checkpoint: Any = None) -> Consumer:
    """A consumer without Faust around it: what its methods read, and no more."""
    consumer = Consumer.__new__(Consumer)
    consumer.app = SimpleNamespace(
        consumer_generation_id=7,
        client_only=False,
        rebalancing_count=1,
        tables=SimpleNamespace(changelog_topics={CHANGELOG.topic}),
    )
    consumer._options = BatchOptions(
        frozenset([EVENTS.topic]), max_events, max_bytes, 10, "read_committed", checkpoint
    )
    consumer._durable_offsets = {}
    consumer._handed_out = {}
    consumer._acked = defaultdict(list)
    consumer._acked_index = defaultdict(set)
    consumer._gap = defaultdict(list)
    consumer._committed_offset = defaultdict(lambda: None)
    consumer._commit_fut = None
    consumer._resuming, consumer._active_partitions, consumer._paused_partitions = set(), set(), set()
    consumer.can_resume_flow, consumer.suspend_flow = asyncio.Event(), asyncio.Event()
    return consumer


@given(
    sizes=st.lists(st.integers(0, 50), max_size=60),
    max_events=st.integers(1, 10),
    max_bytes=st.integers(1, 120),
)
def test_split_keeps_every_record_in_order_within_the_bounds(
    sizes: list[int], max_events: int, max_bytes: int
) -> None:
    records = [record(i, n) for i, n in enumerate(sizes)]
    runs = list(split(records, max_events, max_bytes))
    assert [item for run in runs for item in run] == records
    for run in runs:
        assert 1 <= len(run) <= max_events
        assert len(run) == 1 or sum(item.serialized_value_size for item in run) <= max_bytes
    for run, following in pairwise(runs):  # no run ends early
        n_bytes = sum(item.serialized_value_size for item in run)
        assert len(run) == max_events or n_bytes + following[0].serialized_value_size > max_bytes


def test_split_takes_a_tombstone_for_empty() -> None:
    tombstone = ConsumerRecord("events", 2, 1, 0, 0, b"key", None, None, 3, -1, ())
    assert list(split([record(0, 10), tombstone, record(2, 10)], 10, 20)) == [
        [record(0, 10), tombstone, record(2, 10)]
    ]


def test_one_record_larger_than_the_bound_is_a_batch_of_its_own() -> None:
    records = [record(0, 10), record(1, 5_000), record(2, 10)]
    assert list(split(records, 100, 1_000)) == [[item] for item in records]


def test_events_are_folded_and_other_topics_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [record(offset) for offset in (5, 6, 9, 10)]
    changes = [record(offset, topic=CHANGELOG.topic) for offset in range(5)]

    async def fetched(*args: Any) -> Mapping[TP, list[Any]]:
        return {EVENTS: events, CHANGELOG: changes}

    monkeypatch.setattr(driver.Consumer, "_getmany", fetched)
    consumer = make_consumer()
    consumer._thread = SimpleNamespace(end_offset={EVENTS: 11}.get)
    consumer._read_offset = defaultdict(lambda: None, {EVENTS: 11})
    found = asyncio.run(consumer._getmany(None, 1.0))
    assert found[CHANGELOG] is changes
    assert found[EVENTS] == [RecordBatch("events", 2, run, 11) for run in (events[:3], events[3:])]


def test_offsets_of_a_topic_that_was_made_anew_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched(*args: Any) -> Mapping[TP, list[Any]]:
        return {EVENTS: [record(0), record(1)]}

    monkeypatch.setattr(driver.Consumer, "_getmany", fetched)
    consumer = make_consumer()
    consumer._thread = SimpleNamespace(end_offset={EVENTS: 2}.get)
    consumer._read_offset = defaultdict(lambda: None, {EVENTS: 3})
    consumer._committed_offset[EVENTS] = 3
    asyncio.run(consumer._getmany(None, 1.0))
    assert consumer._read_offset[EVENTS] is None  # Faust drops what lies below
    assert consumer._committed_offset[EVENTS] is None


def test_a_topic_goes_at_least_as_far_as_its_records_whatever_the_fetch_said_of_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fetched(*args: Any) -> Mapping[TP, list[Any]]:
        return {EVENTS: [record(offset) for offset in (4, 5)]}

    monkeypatch.setattr(driver.Consumer, "_getmany", fetched)
    consumer = make_consumer()
    consumer._thread = SimpleNamespace(end_offset={EVENTS: 2}.get)  # looked up before the records were read
    consumer._read_offset = defaultdict(lambda: None, {EVENTS: 3})
    found = asyncio.run(consumer._getmany(None, 1.0))
    assert [batch.end_offset for batch in found[EVENTS]] == [6]
    assert consumer._read_offset[EVENTS] == 3


def test_a_batch_travels_as_one_message_at_its_last_offset_in_the_generation_that_fetched_it() -> None:
    batch = RecordBatch("events", 2, [record(5), record(9)])
    message = make_consumer()._to_message(EVENTS, batch)
    assert (message.tp, message.offset, message.generation_id) == (EVENTS, 9, 7)
    assert message.timestamp == 1_700_000_000.5
    schema = RecordBatchSchema()
    assert schema.loads_value(None, message) is batch
    assert schema.loads_key(None, message) is None


def test_a_full_queue_leaves_batch_partitions_active_and_pauses_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused: list[TP] = []
    monkeypatch.setattr(driver.Consumer, "on_buffer_full", lambda self, tp: paused.append(tp))
    consumer = make_consumer()
    consumer.on_buffer_full(EVENTS)
    consumer.on_buffer_full(CHANGELOG)
    assert paused == [CHANGELOG]


def test_only_what_a_checkpoint_made_durable_is_committed() -> None:
    consumer = make_consumer()
    consumer._acked[EVENTS] = [99, 199]
    consumer._acked_index[EVENTS] = {99, 199}
    assert consumer._filter_committable_offsets([EVENTS]) == {}
    consumer._durable_offsets = {EVENTS: 100}
    assert consumer._filter_committable_offsets([EVENTS]) == {EVENTS: 100}
    assert not consumer._acked[EVENTS]  # nothing piles up


def test_an_offset_is_committed_once_and_never_backwards() -> None:
    consumer = make_consumer()
    consumer._committed_offset[EVENTS] = 100
    for durable, expected in [(99, {}), (100, {}), (101, {EVENTS: 101})]:
        consumer._durable_offsets = {EVENTS: durable}
        assert consumer._filter_committable_offsets([]) == expected


def test_other_topics_are_committed_by_acknowledged_message() -> None:
    consumer = make_consumer()
    other = TP("labels", 0)
    consumer._acked[other] = [1, 2]
    consumer._acked_index[other] = {1, 2}
    assert consumer._filter_committable_offsets([other]) == {other: 3}


@pytest.mark.parametrize(("succeeds", "remembered"), [(True, 200), (False, 100)])
def test_a_commit_that_failed_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, succeeds: bool, remembered: int
) -> None:
    async def commit(self: Any, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        self._committed_offset.update(offsets)  # as Faust does, whatever came of it
        return succeeds

    monkeypatch.setattr(driver.Consumer, "_commit_offsets", commit)
    consumer = make_consumer()
    consumer._committed_offset[EVENTS] = 100
    assert asyncio.run(consumer._commit_offsets({EVENTS: 200})) is succeeds
    assert consumer._committed_offset[EVENTS] == remembered


def test_the_last_commit_takes_a_checkpoint_of_its_own_when_another_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored, committed = [100], []

    async def checkpoint() -> Mapping[TP, int]:
        offsets = {EVENTS: scored[-1]}
        await asyncio.sleep(0)  # the broker's answers
        return offsets

    async def commit(self: Any, topics: Any = None, start_new_transaction: bool = True) -> bool:
        committed.append(self._durable_offsets[EVENTS])
        return True

    async def stop_amid_a_commit() -> None:
        consumer = make_consumer(checkpoint=checkpoint)
        consumer.loop = asyncio.get_running_loop()
        periodic = asyncio.create_task(consumer.commit())
        await asyncio.sleep(0)  # it has looked at what was scored
        scored.append(200)
        await consumer.commit_and_end_transactions()
        await periodic

    monkeypatch.setattr(driver.Consumer, "force_commit", commit)
    asyncio.run(stop_amid_a_commit())
    assert committed == [100, 200]


def test_a_fetch_that_waits_across_a_rebalance_is_given_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = make_consumer()
    active, given = {EVENTS}, []

    async def fetched(self: Any, wanted: Any, timeout: float) -> Mapping[TP, list[Any]]:
        given.append(EVENTS in wanted)
        active.clear()  # Faust's live set; empty, it means all partitions to aiokafka
        assert bool(wanted)
        assert CHANGELOG not in wanted
        consumer.app.rebalancing_count += 1
        given.append(EVENTS in wanted)
        return {}

    monkeypatch.setattr(driver.Consumer, "_getmany", fetched)
    asyncio.run(consumer._getmany(active, 1.0))
    assert given == [True, False]


@pytest.mark.parametrize(("left", "asked"), [({OTHER}, {EVENTS}), ({EVENTS, OTHER}, {EVENTS, OTHER})])
def test_partitions_that_are_to_be_left_are_not_handed_out(
    monkeypatch: pytest.MonkeyPatch, left: set[TP], asked: set[TP]
) -> None:
    consumer = make_consumer()
    consumer._options = replace(consumer._options, to_leave=lambda: left)
    found = []

    async def fetched(self: Any, wanted: Any, timeout: float) -> Mapping[TP, list[Any]]:
        found.append(set(wanted))
        return {}

    monkeypatch.setattr(driver.Consumer, "_getmany", fetched)
    asyncio.run(consumer._getmany({EVENTS, OTHER}, 1.0))
    assert found == [asked]


def test_events_of_a_new_assignment_are_not_read_before_the_flow_is_resumed() -> None:
    consumer = make_consumer()
    consumer._set_active_tps({EVENTS, OTHER})
    assert consumer._active_partitions == {OTHER}
    consumer.pause_partitions({EVENTS, OTHER})
    consumer.resume_partitions({EVENTS})  # Faust now seeks, and then empties its queues
    assert consumer._active_partitions == set()
    consumer.resume_flow()
    assert consumer._active_partitions == {EVENTS}


def test_a_changelog_is_never_read_through_the_consumer_of_events() -> None:
    consumer = make_consumer()
    consumer._set_active_tps({CHANGELOG, OTHER})
    assert consumer._active_partitions == {OTHER}


@pytest.mark.parametrize("state", ["in_recovery", "rebalancing"])
def test_a_worker_without_a_flow_counts_as_fetching_while_its_main_loop_turns(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    subscription = SimpleNamespace(_last_fetch_ended=0.0)
    monkeypatch.setattr(transport, "STAY_SECONDS", 0.001)

    async def recover() -> None:
        consumer = make_consumer()
        consumer._stopped, consumer._crashed = asyncio.Event(), asyncio.Event()
        consumer._thread = ConsumerThread.__new__(ConsumerThread)
        consumer._thread._consumer = None  # not started yet
        consumer.app.in_recovery = consumer.app.rebalancing = False
        setattr(consumer.app, state, True)
        staying = asyncio.create_task(Consumer._stay_in_group.fun(consumer))
        await asyncio.sleep(0.01)
        consumer._thread._consumer = SimpleNamespace(_subscription=subscription)
        while not subscription._last_fetch_ended:
            await asyncio.sleep(0)
        time.sleep(0.05)  # the main loop is stuck
        assert time.monotonic() - subscription._last_fetch_ended >= 0.05
        before = subscription._last_fetch_ended
        while subscription._last_fetch_ended == before:
            await asyncio.sleep(0)
        setattr(consumer.app, state, False)
        before = subscription._last_fetch_ended
        await asyncio.sleep(0.01)  # an agent that hangs later on
        assert subscription._last_fetch_ended == before
        consumer._stopped.set()
        await staying

    asyncio.run(asyncio.wait_for(recover(), 10))


def test_the_end_of_an_older_rebalance_resumes_nothing_once_the_next_has_begun() -> None:
    consumer = make_consumer()
    consumer.resume_partitions({EVENTS})
    consumer.pause_partitions({EVENTS})
    consumer.resume_flow()
    assert consumer._active_partitions == set()


@pytest.mark.parametrize(
    ("end", "fetched_to", "handed_out", "expected"),
    [
        (None, None, {}, None),
        (40, 20, {EVENTS: 20}, 40),  # there is more
        (40, 40, {EVENTS: 38}, 38),  # markers follow the last record
        (2, 2, {}, 0),  # nothing but markers
    ],
)
def test_what_is_left_to_be_processed_ends_with_the_last_record(
    end: Any, fetched_to: Any, handed_out: Any, expected: Any
) -> None:
    consumer = Consumer.__new__(Consumer)
    consumer._handed_out = handed_out
    consumer._thread = SimpleNamespace(end_offset=lambda tp: end, fetched_to=lambda tp: fetched_to)
    assert consumer.offset_to_reach(EVENTS) == expected
