"""Reading the changelog into the store, against a topic that exists in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from tables import changelog, changelog_reading, reading_client
from tables.changelog import Changelog
from tables.changelog_reading import ChangelogError
from tables.owner import Owner
from tables.progress import Progress
from tests.tables.test_restoring import headers_of, new_store, own_record, state

TOPIC = "nowcast-statistics-changelog"
SETTINGS = SimpleNamespace(bootstrap_servers=["broker:9092"], group="nowcast")
SECONDS = 10.0


@dataclass
class Log:
    """Partitions of a changelog, and the ways in which its broker may fail."""

    records: dict[int, list[Any]] = field(default_factory=lambda: {0: [], 1: []})
    beginnings: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    ends: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    held: dict[int, int] = field(default_factory=dict)
    records_a_fetch: int = 3
    fetches_before_failure: int = -1
    n_failures_at_start: int = 0
    sought: list[tuple[int, int]] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)

    def append(self, partition: int, *items: tuple[bytes, bytes | None], owner: Owner | None = None) -> None:
        for key, value in items:
            record = SimpleNamespace(
                key=key, value=value, offset=self.ends[partition], headers=headers_of(owner)
            )
            self.records[partition].append(record)
            self.ends[partition] += 1

    def mark(self, partition: int, n: int = 1) -> None:
        """Give out offsets without records, as markers of transactions and compaction do."""
        self.ends[partition] += n


class Consumer:
    """Speaks for aiokafka's consumer."""

    def __init__(self, log: Log, **options: Any) -> None:
        self._log = log
        self._client = SimpleNamespace(_metadata_update=None, set_topics=self._set_topics)
        self._positions: dict[TopicPartition, int] = {}
        log.options.append(options)

    async def _set_topics(self, topics: list[str]) -> None:
        assert topics == [TOPIC]

    async def start(self) -> None:
        if self._log.n_failures_at_start:
            self._log.n_failures_at_start -= 1
            raise KafkaConnectionError("no broker")

    async def stop(self) -> None:
        pass

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._log.ends[tp.partition] for tp in tps}

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._log.beginnings[tp.partition] for tp in tps}

    def assign(self, tps: list[TopicPartition]) -> None:
        self._positions = dict.fromkeys(tps, 0)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._log.sought.append((tp.partition, offset))
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0.001)
        log = self._log
        if log.fetches_before_failure == 0:
            log.fetches_before_failure = -1
            raise KafkaConnectionError("broker went away")
        log.fetches_before_failure -= 1
        fetched = {}
        for tp, position in self._positions.items():
            if position >= log.held.get(tp.partition, position + 1):
                continue
            left = [record for record in log.records[tp.partition] if record.offset >= position]
            found = left[: log.records_a_fetch]
            # As the client does: past markers that follow what was given out.
            self._positions[tp] = found[-1].offset + 1 if len(found) < len(left) else log.ends[tp.partition]
            if found:
                fetched[tp] = found
        return fetched


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(reading_client, "AIOKafkaConsumer", lambda **options: Consumer(log, **options))
    monkeypatch.setattr(changelog, "_FIRST_PAUSE_SECONDS", 0.001)
    return log


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, SECONDS))


def restore(store: Any, partitions: list[int] | None = None) -> Progress:
    progress = Progress(2)
    run(Changelog(SETTINGS, TOPIC, store).restore(partitions or [0, 1], progress))
    return progress


def entities(first: int, n: int) -> list[tuple[bytes, bytes]]:
    return [(b"e%d" % i, state(i)) for i in range(first, first + n)]


def test_all_of_the_partitions_asked_for_is_restored(log: Log) -> None:
    log.append(0, *entities(0, 10))
    log.append(1, *entities(10, 7))
    store = new_store()
    assert restore(store).n_records == 17
    assert store.partitions == {0: dict(entities(0, 10)), 1: dict(entities(10, 7))}
    assert store._offsets == {0: 9, 1: 6}
    assert restore(store).n_records == 0


def test_only_the_rest_is_read_where_the_store_has_some(log: Log) -> None:
    log.append(0, *entities(0, 10))
    store = new_store()
    store.write(0, entities(0, 4), 3)
    assert restore(store, [0]).n_records == 6
    assert log.sought == [(0, 4)]


def test_reading_begins_where_the_log_does_when_that_moved_on(log: Log) -> None:
    log.append(0, *entities(0, 10))
    del log.records[0][:6]
    log.beginnings[0] = 6
    store = new_store()
    store.write(0, entities(0, 2), 1)
    restore(store, [0])
    assert log.sought == [(0, 6)]
    assert store._offsets == {0: 9}


@pytest.mark.parametrize("n_entities", [0, 1, 3, 8])
def test_offsets_without_records_at_the_end_do_not_keep_it_from_ending(log: Log, n_entities: int) -> None:
    log.append(0, *entities(0, n_entities))
    log.mark(0, 5)
    store = new_store()
    assert restore(store, [0]).n_records == n_entities
    assert store._offsets[0] == log.ends[0] - 1  # what is written next is next to it
    assert restore(store, [0]).n_records == 0


def test_a_tombstone_and_a_value_in_one_fetch_count_in_their_order(log: Log) -> None:
    log.append(0, (b"a", b"1"), (b"a", None), (b"a", b"2"), (b"b", b"1"), (b"b", None))
    log.records_a_fetch = 100
    store = new_store()
    restore(store, [0])
    assert store.partitions[0] == {b"a": b"2"}


def test_committed_records_are_read_and_the_end_is_that_of_all_records(log: Log) -> None:
    log.append(0, *entities(0, 1))
    restore(new_store(), [0])
    assert [options["isolation_level"] for options in log.options] == ["read_uncommitted", "read_committed"]
    assert {options["group_id"] for options in log.options} == {None}


@pytest.mark.parametrize("persisted", [10, 4_000])
def test_a_store_that_is_ahead_of_the_topic_is_left_alone_and_the_error_says_what_to_do(
    log: Log, persisted: int
) -> None:
    log.append(1, *entities(0, 10))
    store = new_store()
    store.write(1, entities(0, 3), persisted)
    with pytest.raises(ChangelogError) as caught:
        restore(store)
    for text in ("partition 1", str(persisted), "ends at 10", "NOWCAST_DATA_DIR", "delete"):
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(store.partitions[1]) == 3


def test_a_broker_that_goes_away_is_asked_again_and_what_was_restored_is_not_read_again(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    log.append(0, *entities(0, 20))
    log.fetches_before_failure, log.n_failures_at_start = 3, 4
    store = new_store()
    restore(store, [0])
    assert store.partitions[0] == dict(entities(0, 20))
    assert log.sought == [(0, 0), (0, 9)]
    assert len([line for line in caplog.messages if "broker went away" in line]) == 1
    assert len([line for line in caplog.messages if "no broker" in line]) == 1


def test_a_store_that_fails_ends_it_with_one_line(log: Log) -> None:
    log.append(0, *entities(0, 20))
    store = new_store()

    def fail(*args: Any) -> None:
        raise Exception("IO error: No space left on device:\nWhile appending to file")

    store.restore = fail  # type: ignore[method-assign]
    with pytest.raises(ChangelogError) as caught:
        restore(store, [0])
    assert "No space left on device: While appending" in str(caught.value)


def test_the_loop_turns_while_the_store_is_written_and_a_cancelled_restore_leaves_it_at_rest(
    log: Log,
) -> None:
    log.append(0, *entities(0, 20))
    store = new_store()
    writing, may_write, written = threading.Event(), threading.Event(), []

    def write_slowly(partition: int, items: Any, offset: int) -> None:
        writing.set()
        assert may_write.wait(SECONDS)
        written.append(offset)

    store.restore = write_slowly  # type: ignore[method-assign]

    async def test() -> None:
        job = asyncio.create_task(Changelog(SETTINGS, TOPIC, store).restore([0], Progress(1)))
        while not writing.is_set():
            await asyncio.sleep(0.001)
        job.cancel()
        done, _ = await asyncio.wait([job], timeout=0.05)
        assert not done  # a thread cannot be cancelled
        may_write.set()
        await asyncio.wait([job])
        assert job.cancelled()
        assert written == [2]

    run(test())


def test_a_standby_follows_until_it_is_cancelled_and_tells_once_that_it_has_caught_up(log: Log) -> None:
    log.append(0, *entities(0, 10))
    store = new_store()
    told: list[int] = []

    async def test() -> None:
        follow = Changelog(SETTINGS, TOPIC, store).follow
        job = asyncio.create_task(follow([0, 1], lambda: told.append(len(store.partitions[0]))))
        while not told:
            await asyncio.sleep(0.001)
        log.append(0, *entities(10, 5))
        log.append(1, *entities(15, 5))
        log.fetches_before_failure = 1
        while store._offsets != {0: 14, 1: 4}:
            await asyncio.sleep(0.001)
        job.cancel()
        await asyncio.wait([job])

    run(test())
    assert told[0] == 10
    assert store.partitions == {0: dict(entities(0, 15)), 1: dict(entities(15, 5))}


def test_behind_a_stale_writer_the_partition_is_read_again_and_a_warning_says_so(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    stale, owner = Owner(1, 0), Owner(2, 11)
    log.append(0, *entities(0, 10), own_record(10), owner=stale)
    log.append(0, (b"e3", state(15)), owner=stale)
    log.append(0, (b"e3", state(20)), own_record(21), owner=owner)
    log.append(0, (b"e3", state(16)), owner=stale)
    log.append(0, (b"e4", state(30)), own_record(31, owner), owner=owner)
    log.append(1, *entities(40, 10))
    store = new_store()
    restore(store)
    assert store.partitions[0] == dict(
        [*entities(0, 10), (b"e3", state(20)), (b"e4", state(30)), own_record(31, owner)]
    )
    assert store.partitions[1] == dict(entities(40, 10))
    assert store._offsets[0] == log.ends[0] - 1
    assert log.sought.count((0, 0)) == 2
    assert len([line for line in caplog.messages if "had lost it" in line]) == 1


def test_a_standby_reads_again_behind_a_stale_writer_and_follows_on(log: Log) -> None:
    stale, owner = Owner(1, 0), Owner(2, 2)
    log.append(0, (b"a", state(9)), own_record(10), owner=stale)
    store = new_store()
    told: list[bool] = []

    async def test() -> None:
        job = asyncio.create_task(Changelog(SETTINGS, TOPIC, store).follow([0], lambda: told.append(True)))
        while not told:
            await asyncio.sleep(0.001)
        log.append(0, (b"a", state(4)), own_record(5), owner=stale)
        log.append(0, (b"b", state(12)), own_record(13, owner), owner=owner)
        while store._offsets.get(0) != 5:
            await asyncio.sleep(0.001)
        job.cancel()
        await asyncio.wait([job])

    run(test())
    assert store.partitions[0] == dict([(b"a", state(9)), (b"b", state(12)), own_record(13, owner)])
    assert store.persisted_offset(TP(TOPIC, 0)) == 5


def test_how_far_it_is_is_told_every_few_seconds(
    log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(changelog_reading, "REPORT_SECONDS", 0.0)
    log.append(0, *entities(0, 20))
    restore(new_store(), [0])
    lines = [line for line in caplog.messages if line.startswith("restoring state: ")]
    assert lines
    assert "of 2 partitions" in lines[0]
    assert "s left" in lines[-1]


def test_a_transaction_that_holds_a_partition_up_is_released(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changelog_reading, "REPORT_SECONDS", 0.01)
    monkeypatch.setattr(changelog_reading, "HELD_SECONDS", 0.05)
    log.append(0, *entities(0, 10))
    log.append(1, *entities(10, 3))
    log.append(1, *entities(13, 4))
    log.held[1] = 3
    released: list[list[int]] = []

    async def release(numbers: list[int]) -> None:
        released.append(numbers)
        log.held.clear()

    store, progress = new_store(), Progress(2)
    run(Changelog(SETTINGS, TOPIC, store, release).restore([0, 1], progress))
    assert released == [[1]]
    assert progress.n_records == 17
