"""The record-batch transport: one message per partition and fetch, where a topic asks for it.

Faust spends most of its time per message on the way to the stream: a message object, a queue hop, a
context switch and an acknowledgement each. The client below it hands over hundreds of thousands of
records a second. This subclass of Faust's Kafka driver folds the records of one partition and fetch
into one `RecordBatch`, which then travels the usual way as one message whose offset is its last
record's. The fold happens below `Consumer.getmany`, so that every check made there (flow control,
generation, active partitions) holds for record batches unchanged. Other topics keep per-message
delivery; changelogs do not come this way at all (`tables/changelog.py` reads them).

It owns what may be committed for batch topics, since Faust's bookkeeping by acknowledged message has
two faults (faust#606: an offset can pass a message in flight; behind a gap one offset too many is
marked). Here a checkpoint says which offsets are durable, and nothing else is committed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CoordinatorNotAvailableError, KafkaConnectionError
from faust.transport import drivers
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from app.client_thread import ConsumerThread
from app.record_batch import RecordBatch, split
from tables.calm import calm

SCHEME = "nowcast"
"""URL scheme under which Faust finds this transport (`nowcast://host:9092`)."""

QUEUED_BATCHES = 4
"""Record batches that wait for the agent: fetching and scoring overlap, and memory stays bounded."""

STAY_SECONDS = 1.0


@dataclass(frozen=True)
class BatchOptions:
    """How the transport treats batch topics; `create_app` puts one on the app.

    `checkpoint` makes durable what was processed and returns, by partition, the offset up to which
    everything is (the next one to read); those that it committed itself are left out. `to_leave` names the
    partitions that are not to be handed out for the time being.
    """

    topics: frozenset[str]
    max_events: int
    max_bytes: int
    fetch_max_wait_ms: int
    isolation_level: str
    checkpoint: Callable[[], Awaitable[Mapping[TP, int]]]
    to_leave: Callable[[], Collection[TP]] = frozenset


class Wanted(frozenset[TP]):
    """The partitions that a fetch asks for; none of them any more once a rebalance began.

    aiokafka looks at it in the moment of giving records out. Faust passes its live set of active partitions,
    which is empty during a rebalance; that means all of them to aiokafka, and a fetch that waits across a
    rebalance is given records of the new assignment, which Faust then drops: gaps in events and in state.
    """

    is_current: Callable[[], bool]

    def __new__(cls, tps: Iterable[TP], is_current: Callable[[], bool]) -> Wanted:
        """Take the partitions as they are now."""
        self = super().__new__(cls, tps)
        self.is_current = is_current
        return self

    def __contains__(self, tp: object) -> bool:
        return self.is_current() and super().__contains__(tp)


def search_on(client: AIOKafkaClient) -> None:
    """Let a transactional producer go on searching its coordinator when a connection breaks meanwhile.

    It takes all else that can go wrong there for a reason to try again, and this for the end.
    """
    look_up = client.coordinator_lookup

    async def look_up_again(*args: Any) -> int:
        try:
            node: int = await look_up(*args)
        except KafkaConnectionError as error:
            raise CoordinatorNotAvailableError(str(error)) from error
        return node

    client.coordinator_lookup = look_up_again


class Consumer(driver.Consumer):
    """Folds records into batches on the way in, commits checkpointed offsets on the way out."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options: BatchOptions = self.app.batch_options  # type: ignore[attr-defined]
        self._durable_offsets: Mapping[TP, int] = {}
        self._resuming: set[TP] = set()
        self._handed_out: dict[TP, int] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def holds_lease(self) -> bool:
        """Tell whether no other worker can have been given the partitions of this one."""
        return time.monotonic() < self._thread.lease_until

    def offset_to_reach(self, tp: TP) -> int | None:
        """Return the offset behind which nothing is left to be processed; None where that is not known.

        Where a partition is fetched to its end that is behind the last record that was handed out: markers of
        transactions, which are no records, may follow.
        """
        end, position = self._thread.end_offset(tp), self._thread.fetched_to(tp)
        if end is None or position is None:
            return None
        return end if position < end else self._handed_out.get(tp, 0)

    def note_progress(self) -> None:
        """Say that scoring goes on, though perhaps nothing can be fetched for the time being."""
        self._thread.note_progress()

    def rejoin(self) -> None:
        """Ask the group for a new assignment."""
        self._thread.rejoin()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take the assignment; the group has just heard of this worker."""
        self._thread.renew_lease(time.monotonic())
        await super().on_partitions_assigned(assigned, generation_id)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:
        n_rebalances = self.app.rebalancing_count
        # None at all would mean all of them.
        chosen = active_partitions and (
            active_partitions.difference(self._options.to_leave()) or active_partitions
        )
        wanted = chosen and Wanted(chosen, lambda: self.app.rebalancing_count == n_rebalances)
        fetched = await super()._getmany(wanted, timeout)  # type: ignore[arg-type]  # frozen, and only read
        return {tp: self._fold(tp, records) for tp, records in fetched.items()}

    @Service.task
    async def _stay_in_group(self) -> None:
        """Count as fetching amid a rebalance and its recovery, for as long as the main loop turns.

        The client leaves the group when nothing was fetched for long (`max.poll.interval.ms`), and then does
        not join it before something is. From a rebalance on nothing is, until partitions are assigned and
        recovered; and the last checkpoint of those that go waits for a broker that is away. Heartbeats come
        from a thread of their own, which lives on when the main loop is stuck; so it is the main loop that
        says so. A worker restores for as long as it takes, and one that is stuck still leaves, and so does
        one whose agent hangs later on.
        """
        while not self.should_stop:
            is_held = self.app.in_recovery or self.app.rebalancing
            if is_held and self._thread._consumer is not None:
                self.note_progress()
            await self.sleep(STAY_SECONDS)

    def _set_active_tps(self, tps: set[TP]) -> set[TP]:
        # Faust lets an assignment be read at once; what is scored needs its state first, and the changelog
        # is read by a client of its own: here nobody would take its messages out of the queue.
        return super()._set_active_tps(
            {tp for tp in tps if tp.topic not in self._options.topics and not self._is_changelog_tp(tp)}
        )

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Pause partitions, also those that were about to be resumed."""
        tps = set(tps)
        self._resuming -= tps
        super().pause_partitions(tps)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume partitions; those of batch topics only with the flow.

        Faust ends a rebalance by resuming partitions, going back to the committed offsets, emptying its
        queues and resuming the flow, in this order and with waits between. Batches fetched meanwhile would
        be emptied out, and never read again.
        """
        batched = {tp for tp in tps if tp.topic in self._options.topics}
        self._resuming |= batched
        super().resume_partitions(set(tps) - batched)

    def resume_flow(self) -> None:
        """Resume the flow, and with it the batch partitions that wait for it."""
        super().resume_flow()
        super().resume_partitions(self._resuming)
        self._resuming.clear()

    def _fold(self, tp: TP, records: list[Any]) -> list[Any]:
        if tp.topic not in self._options.topics:
            return records
        if records:
            self._handed_out[tp] = records[-1].offset + 1
        runs = split(records, self._options.max_events, self._options.max_bytes)
        end_offset = self._thread.end_offset(tp)
        if records and end_offset is not None:
            # A broker looks up the end before it reads, and may find more than that.
            end_offset = max(end_offset, records[-1].offset + 1)
        if end_offset is not None and (self._read_offset[tp] or 0) > end_offset:
            # The topic was made anew. Faust would drop what lies below in silence; who scores it looks at it.
            self._read_offset[tp] = self._committed_offset[tp] = None
        return [RecordBatch(tp.topic, tp.partition, run, end_offset) for run in runs]

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


class Producer(driver.Producer):
    """Faust's producer, calm while the brokers are away."""

    def _new_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        return self._calm(super()._new_producer(transactional_id))

    def new_transactional(self, transactional_id: str, timeout_seconds: float) -> AIOKafkaProducer:
        """Make a producer, not started, whose transactions the broker ends after `timeout_seconds`."""
        producer = AIOKafkaProducer(
            **{**self._settings_default(), **self._settings_auth()},
            transactional_id=transactional_id,
            transaction_timeout_ms=int(timeout_seconds * 1000),
        )
        search_on(producer.client)
        return self._calm(producer)

    @staticmethod
    def _calm(producer: AIOKafkaProducer) -> AIOKafkaProducer:
        calm(producer.client)
        return producer


class Transport(driver.Transport):
    """Faust's Kafka transport with record batches."""

    Consumer = Consumer
    Producer = Producer


def register() -> None:
    """Make the scheme known to Faust."""
    drivers.TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
