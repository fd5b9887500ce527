"""The record-batch transport: one message per partition and fetch, where a topic asks for it.

Faust spends most of its time per message on the way to the stream: a message object, a queue hop, a
context switch and an acknowledgement each. The client below it hands over hundreds of thousands of
records a second. This subclass of Faust's Kafka driver folds the records of one partition and fetch
into one `RecordBatch`, which then travels the usual way as one message whose offset is its last
record's. The fold happens below `Consumer.getmany`, so that every check made there (flow control,
generation, active partitions) holds for record batches unchanged. Other topics, changelogs among
them, keep per-message delivery.

It owns what may be committed for batch topics, since Faust's bookkeeping by acknowledged message has
two faults (faust#606: an offset can pass a message in flight; behind a gap one offset too many is
marked). Here a checkpoint says which offsets are durable, and nothing else is committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer
from faust.transport import drivers
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

SCHEME = "nowcast"
"""URL scheme under which Faust finds this transport (`nowcast://host:9092`)."""

QUEUED_BATCHES = 4
"""Record batches that wait for the agent: fetching and scoring overlap, and memory stays bounded."""


@dataclass(frozen=True)
class RecordBatch:
    """The records of one partition that one fetch brought, in offset order, at least one."""

    topic: str
    partition: int
    records: list[Any]

    @property
    def last_offset(self) -> int:
        """Offset of the last record; gaps before it (compaction, markers) are no concern of ours."""
        return int(self.records[-1].offset)


@dataclass(frozen=True)
class BatchOptions:
    """How the transport treats batch topics; `create_app` puts one on the app.

    `checkpoint` makes durable what was processed and returns, by partition, the offset up to which
    everything is (the next one to read).
    """

    topics: frozenset[str]
    max_events: int
    max_bytes: int
    fetch_max_wait_ms: int
    isolation_level: str
    checkpoint: Callable[[], Awaitable[Mapping[TP, int]]]


class RecordBatchSchema(faust.Schema):  # type: ignore[type-arg]
    """Hands a `RecordBatch` to the stream as it is; decoding is the agent's, event by event."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> Any:
        """Give no key: a batch holds many."""
        return None

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:
        """Give the batch itself."""
        return message.value


def split(records: list[Any], max_events: int, max_bytes: int) -> Iterator[list[Any]]:
    """Cut records into runs bounded in count and bytes; one record over the bound is a run of its own."""
    start = size = 0
    for i, record in enumerate(records):
        n = record.serialized_value_size
        if i > start and (i - start >= max_events or size + n > max_bytes):
            yield records[start:i]
            start, size = i, 0
        size += max(n, 0)
    if start < len(records):
        yield records[start:]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Sets what Faust hard-codes in the client."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        options: BatchOptions = self.app.batch_options  # type: ignore[attr-defined]
        # Faust fixes 1500 ms. aiokafka keeps one fetch a broker in flight, and a partition drained
        # meanwhile waits for it, so this bounds the latency at low rates. Both are read at start().
        consumer._fetch_max_wait_ms = options.fetch_max_wait_ms
        # Events of aborted transactions never happened.
        consumer._isolation_level = options.isolation_level
        return consumer

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go back to the beginning where nothing was committed yet.

        aiokafka leaves such a position where fetching has brought it, so that what Faust fetched and
        dropped during a group's first rebalances would never be scored.
        """
        committed: Mapping[TP, int] = await super().seek_to_committed()
        topics = self.app.batch_options.topics  # type: ignore[attr-defined]
        uncommitted = [tp for tp, offset in committed.items() if not offset and tp.topic in topics]
        if uncommitted and self.app.conf.consumer_auto_offset_reset == "earliest":
            await self.seek_wait(await self.earliest_offsets(*uncommitted))
        return committed


class Consumer(driver.Consumer):
    """Folds records into batches on the way in, commits checkpointed offsets on the way out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options: BatchOptions = self.app.batch_options  # type: ignore[attr-defined]
        self._durable_offsets: Mapping[TP, int] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:
        fetched = await super()._getmany(active_partitions, timeout)
        return {tp: self._fold(tp, records) for tp, records in fetched.items()}

    def _fold(self, tp: TP, records: list[Any]) -> list[Any]:
        if tp.topic not in self._options.topics:
            return records
        runs = split(records, self._options.max_events, self._options.max_bytes)
        return [RecordBatch(tp.topic, tp.partition, run) for run in runs]

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, RecordBatch):
            return super()._to_message(tp, record)
        last = record.records[-1]
        return ConsumerMessage(
            record.topic,
            record.partition,
            record.last_offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            [],
            None,
            record,  # type: ignore[arg-type]  # Faust hands on what it is given
            None,
            tp=tp,
            # The stream drops what an older generation fetched.
            generation_id=self.app.consumer_generation_id,
        )

    def on_buffer_full(self, tp: TP) -> None:
        """Leave batch partitions active: with none active Faust sleeps a second.

        The full queue holds the fetch loop back by itself, and aiokafka holds one fetch a partition.
        """
        if tp.topic not in self._options.topics:
            super().on_buffer_full(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # A batch's offset jumps by its length; for Faust that is a gap.
        if tp.topic not in self._options.topics:
            await super()._add_gap(tp, offset_from, offset_to)

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Make durable what was processed, then commit just that."""
        self._durable_offsets = await self._options.checkpoint()
        return bool(await super().force_commit(topics, start_new_transaction))

    async def commit_and_end_transactions(self) -> None:
        """Take the last checkpoint before partitions go.

        Faust's `commit` does nothing but wait when another one is under way; that one may have begun
        before the last batch was scored, which would then be scored again by the next owner.
        """
        while await self.maybe_wait_for_commit_to_finish():
            pass
        await super().commit_and_end_transactions()

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        per_message = []
        for tp in tps:
            if tp.topic in self._options.topics:
                # Acknowledged batches count for wait_empty alone; their offsets would pile up here.
                self._acked[tp].clear()
                self._acked_index[tp].clear()
            else:
                per_message.append(tp)
        offsets = super()._filter_committable_offsets(per_message)
        for tp, offset in self._durable_offsets.items():
            if self._should_commit(tp, offset):
                offsets[tp] = offset
        return offsets

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        before = {tp: self._committed_offset[tp] for tp in offsets}
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        if not committed:
            # Faust marks them as committed all the same, and then never tries again.
            self._committed_offset.update(before)
        return bool(committed)


class Transport(driver.Transport):
    """Faust's Kafka transport with record batches."""

    Consumer = Consumer


def register() -> None:
    """Make the scheme known to Faust."""
    drivers.TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
