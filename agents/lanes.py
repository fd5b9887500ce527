"""The way out in `exactly_once`: one transaction per source partition and checkpoint.

A partition's predictions, alerts, dead letters, changelog records and consumed offset become visible together
or not at all. Each source partition is a lane: a producer with a transactional id of its own, so that whoever
gets the partition next fences off whoever had it, however long that one slept. Everything that an event
leads to goes to partitions of its own number, so the number names the lane.

A transaction begins with the first batch sent and ends with the checkpoint; what is packed meanwhile waits
for the next one. Faust's own exactly-once mode is not used: its sends and offsets ride different
transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from agents.outbox import CutOffError, Headers, Outbox, Packed
from tables.stores import Item

log = logging.getLogger(__name__)

FENCED = (
    ProducerFenced,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
)
"""Ways to say that a transactional id has a newer holder, or that the broker ended the transaction."""

MAX_WAITING = 16
"""Batches of a partition that may wait for the end of a commit before scoring waits too."""

STOP_SECONDS = 5.0

RELEASE_KEY = b"\x00nowcast-release"
"""Of records that are never committed."""


class Lane:
    """The transactions of one source partition.

    Parameters
    ----------
    partition : int
        Number of the partition of events and of labels; their offsets are committed with what came of them.
    group : str
        Consumer group of these offsets.
    producer : aiokafka.AIOKafkaProducer
        Transactional; `start` fences off whoever had its id.
    on_failure : callable
        Called with the exception of a batch that could not be delivered.
    """

    def __init__(
        self, partition: int, group: str, producer: Any, on_failure: Callable[[BaseException], None]
    ) -> None:
        self._partition = partition
        self._group = group
        self._producer = producer
        self._on_failure = on_failure
        self._committed: dict[TopicPartition, int] = {}
        self._begun = False
        self._fence: BaseException | None = None
        self._beginning = asyncio.Lock()
        self._may_send = asyncio.Event()
        self._may_send.set()
        self.outbox = self._new_outbox()

    def _new_outbox(self) -> Outbox:
        return Outbox(lambda: self._producer, self._fail)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, FENCED):
            self._fence = error
        self._on_failure(error)

    async def start(self) -> None:
        """Take the transactional id; a transaction that its former holder left open is aborted."""
        await self._producer.start()

    async def stop(self) -> None:
        """Let go. An open transaction is aborted, so that readers need not wait for its timeout."""
        # Both wait for brokers that may be away, and a fenced producer's way out raises what fenced it.
        with contextlib.suppress(Exception):
            if self._begun:
                await asyncio.wait_for(self._producer.abort_transaction(), STOP_SECONDS)
        try:
            await asyncio.wait_for(self._producer.stop(), STOP_SECONDS)
        except asyncio.TimeoutError:
            # Left alone, it would go on trying to send what is not wanted any more.
            self._producer._sender.sender_task.cancel()
            await self._producer.client.close()
        except Exception as error:
            log.debug("a producer ended with %r", error)

    async def send(self) -> None:
        """Hand over what is packed, unless a commit is under way and it may wait for its end."""
        if not self._may_send.is_set() and self.outbox.n_packed < MAX_WAITING:
            return
        while not self._may_send.is_set():
            await self._may_send.wait()
        outbox = self.outbox  # should a commit begin during the next step, these are still its batches
        with self._fence_told():
            await self._begin()
            await outbox.send()

    def cut(self) -> Outbox:
        """End what the next commit holds: what is packed from now on belongs to the one after."""
        self._may_send.clear()
        cut, self.outbox = self.outbox, self._new_outbox()
        return cut

    async def commit(
        self, cut: Outbox, topic: str, items: list[Item] | None, offsets: Mapping[TopicPartition, int]
    ) -> int | None:
        """Commit what was cut, with changed entities and offsets; return the changelog's last offset."""
        last: Packed | None = None
        try:
            if items:
                keys, values = zip(*items, strict=True)
                last = cut.pack(topic, self._partition, keys, values)[-1]
            new = {tp: offset for tp, offset in offsets.items() if self._committed.get(tp) != offset}
            if items or new:
                with self._fence_told():
                    await self._begin()
                    await cut.flush()
                    if new:
                        committed = {tp: OffsetAndMetadata(offset, "") for tp, offset in new.items()}
                        await self._producer.send_offsets_to_transaction(committed, self._group)
                    await self._producer.commit_transaction()
                self._begun = False
                self._committed.update(new)
        finally:
            self._may_send.set()
        return None if last is None else last.last_offset

    async def release(self, topics: Collection[str]) -> None:
        """Write to topics and abort it, which ends a transaction that the broker keeps open there.

        A broker that was killed can forget to end one in a partition. It is of the same producer id, so the
        marker of this one is its end too; without that it would be committed with the next one.
        """
        with self._fence_told():
            await self._begin()
            for topic in topics:
                self.outbox.pack(topic, self._partition, [RELEASE_KEY], [None])
            await self.outbox.flush()
            await self._producer.abort_transaction()
            self._begun = False

    @contextlib.contextmanager
    def _fence_told(self) -> Iterator[None]:
        """Tell a fence also where the client, after the first time, complains of something else."""
        try:
            yield
        except FENCED as error:
            self._fence = error
            raise
        except Exception as error:
            if self._fence is not None or self._producer._txn_manager.is_fatal_error():
                raise ProducerFenced(f"{self._fence or error!r}") from error
            raise

    async def _begin(self) -> None:
        async with self._beginning:
            if not self._begun:
                await self._producer.begin_transaction()
                self._begun = True


class Lanes:
    """All lanes of a worker, with the interface of an `Outbox`.

    Parameters
    ----------
    topic, group : str
        The topic of events, and the consumer group.
    written : collection of str
        Every topic that is written to.
    new_producer : callable
        Makes a producer, not started, of a transactional id.
    on_failure : callable
        Called with the exception of a batch that could not be delivered, and why is not a fence.
    on_cut_off : callable
        Called when a fence shows outside of a checkpoint.
    """

    commits_offsets = True

    def __init__(
        self,
        topic: str,
        group: str,
        written: Collection[str],
        new_producer: Callable[[str], Any],
        on_failure: Callable[[BaseException], None],
        on_cut_off: Callable[[CutOffError], None],
    ) -> None:
        self._topic = topic
        self._group = group
        self._written = written
        self._new_producer = new_producer
        self._on_failure = on_failure
        self._on_cut_off = on_cut_off
        self._lanes: dict[int, Lane] = {}

    async def open(self, partitions: Collection[int]) -> None:
        """Take the transactional ids of these partitions, away from whoever had them.

        To be called before state and committed offsets are read: after it nobody else can change them.
        """
        await self.close()
        lanes = {number: self._new_lane(number) for number in partitions}
        starting = [asyncio.ensure_future(lane.start()) for lane in lanes.values()]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for start in starting:
                start.cancel()
            await asyncio.wait(starting)
            await asyncio.gather(*(lane.stop() for lane in lanes.values()))
            raise
        self._lanes = lanes

    def _new_lane(self, number: int) -> Lane:
        producer = self._new_producer(f"{self._group}-{self._topic}-{number}")
        return Lane(number, self._group, producer, self._fail)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, FENCED):
            self._on_cut_off(CutOffError(f"its transactional ids have a newer holder ({error!r})"))
        else:
            self._on_failure(error)

    async def release(self, partitions: Collection[int]) -> None:
        """End transactions that the broker keeps open though nobody holds them.

        Raises
        ------
        CutOffError
            Another worker took the transactional id.
        """
        with _as_cut_off():
            await asyncio.gather(*(self._lanes[number].release(self._written) for number in partitions))

    async def close(self) -> None:
        """Let go of all lanes."""
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*(lane.stop() for lane in lanes.values()))

    def pack(
        self,
        topic: str,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Iterable[Headers] | None = None,
        source: int | None = None,
        timestamps: Iterable[int] | None = None,
    ) -> list[Packed]:
        """Pack records in the lane of the partition they come of; nothing is sent before `send`."""
        lane = self._lanes[partition if source is None else source]
        return lane.outbox.pack(topic, partition, keys, values, headers, timestamps=timestamps)

    async def send(self) -> None:
        """Hand over what is packed, in the order of each partition."""
        for lane in list(self._lanes.values()):
            if lane.outbox.n_packed:
                with _as_cut_off():
                    await lane.send()

    async def make_durable(
        self, topic: str, changes: Mapping[int, list[Item]], offsets: Mapping[Any, int]
    ) -> dict[int, int]:
        """Commit a transaction for each partition that has something new.

        Parameters
        ----------
        topic : str
            The changelog.
        changes : mapping of int to list
            By partition, changed entities with the partition's own record behind them.
        offsets : mapping of TP to int
            By source partition, the offset after the last event processed.

        Returns
        -------
        dict of int to int
            By partition, the offset of its last record in the changelog.

        Raises
        ------
        CutOffError
            Another worker took a transactional id, or the broker ended a transaction that took too long.
        """
        # No await before all are cut: what they hold, changes and offsets are of one moment.
        by_number: dict[int, dict[TopicPartition, int]] = {}
        for tp, offset in offsets.items():
            by_number.setdefault(tp.partition, {})[TopicPartition(*tp)] = offset
        numbers = [n for n in self._lanes if n in by_number or n in changes]
        cuts = [(self._lanes[n], self._lanes[n].cut()) for n in numbers]
        commits = [
            lane.commit(cut, topic, changes.get(n), by_number.get(n, {}))
            for n, (lane, cut) in zip(numbers, cuts, strict=True)
        ]
        results = await asyncio.gather(*commits, return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        with _as_cut_off():
            for error in sorted(errors, key=lambda error: isinstance(error, FENCED)):
                raise error  # one that is no fence comes first
        return {n: offset for n, offset in zip(numbers, results, strict=True) if isinstance(offset, int)}


@contextlib.contextmanager
def _as_cut_off() -> Iterator[None]:
    try:
        yield
    except FENCED as error:
        raise CutOffError(f"its transactional ids have a newer holder ({error!r})") from error
