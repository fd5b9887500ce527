"""Replay: send events to a topic, paced, in batches, and wait until the broker has them all.

Owns the way from events to records. Where events come from is left to `app.sources`, when they are due
to `app.pacing`, labels that come later to `app.late_labels`, batches and acknowledgements to the outbox
that the agents use too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice, repeat

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from agents.outbox import MAX_BATCH_BYTES, Outbox
from app.late_labels import LateLabels
from app.pacing import Pace
from app.settings import Settings
from app.sources import Event
from app.sources.source import Label, Number

MAX_TURN_EVENTS = 8_000  # between two looks at the clock and at the stop signal: about 30 ms of work
MIN_WAIT_SECONDS = 0.005  # events due within it leave together
MAX_KNOWN_KEYS = 1_000_000


class _Value(msgspec.Struct, omit_defaults=True):
    timestamp: float
    features: dict[str, Number | None]
    label: Label = None
    id: str | None = None


@dataclass(frozen=True)
class ReplaySummary:
    """What a replay did; every event, and every label sent later, was acknowledged by the broker."""

    n_events: int
    seconds: float
    n_labels: int = 0

    @property
    def events_per_second(self) -> float:
        """Mean rate over the whole replay."""
        return self.n_events / self.seconds if self.seconds > 0 else 0.0


class Partitioner:
    """The partition of a key, as every Kafka client chooses it (murmur2).

    Examples
    --------
    >>> partition_of = Partitioner(range(4))
    >>> partition_of(b"machine-0001"), partition_of(b"machine-0002")
    (1, 2)
    """

    def __init__(self, partitions: Iterable[int]) -> None:
        self._partitions = sorted(partitions)
        self._choose = DefaultPartitioner()
        self._known: dict[bytes, int] = {}

    def __call__(self, key: bytes) -> int:
        """Return the partition; remembered, since the hash in Python takes longer than all the rest."""
        partition = self._known.get(key)
        if partition is None:
            if len(self._known) >= MAX_KNOWN_KEYS:
                self._known.clear()
            partition = self._known[key] = int(self._choose(key, self._partitions, self._partitions))
        return partition


@asynccontextmanager
async def open_producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """Connect a producer whose batches are as large as a broker takes by default."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=f"{settings.group}-replay",
        acks="all",
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=max(8 * MAX_BATCH_BYTES, settings.max_event_bytes + MAX_BATCH_BYTES),
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def replay_events(
    events: Iterable[Event],
    producer: AIOKafkaProducer,
    topic: str,
    *,
    pace: Pace | None = None,
    stopping: asyncio.Event | None = None,
    on_sent: Callable[[int], object] = lambda n_events: None,
    late_labels: LateLabels | None = None,
) -> ReplaySummary:
    """Send events until they end or `stopping` is set, then wait for the broker's answers.

    With `late_labels` the events go without their labels; these follow, the last ones after the last event.

    Parameters
    ----------
    events : iterable of Event
        In the order in which they are to be sent.
    producer : AIOKafkaProducer
        Started.
    topic : str
        It must exist.
    pace : Pace, optional
        As fast as possible if left out.
    stopping : asyncio.Event, optional
        Ends the replay before its time; what was handed over is still waited for.
    on_sent : callable
        Called with the number of events handed over since the last call.
    late_labels : LateLabels, optional
        Takes the labels, and sends them when they are due. Those not yet due when `stopping` is set are lost.

    Raises
    ------
    aiokafka.errors.KafkaError
        The broker did not take all of them.
    """
    pace = pace or Pace()
    stopping = stopping or asyncio.Event()
    partition_of = Partitioner(await producer.partitions_for(topic))
    outbox = Outbox(lambda: producer, on_failure=lambda error: None)
    start, start_clock = time.time(), time.monotonic()
    n_sent = 0
    for turn in _turns(pace.schedule(events), lambda: time.monotonic() - start_clock, pace):
        if isinstance(turn, float):
            await _wait(stopping, turn, outbox, late_labels)
        else:
            event_start = start if pace.is_limited else time.time()
            _pack(outbox, topic, partition_of, turn, event_start, pace, late_labels)
            await outbox.send()
            if late_labels is not None:
                await late_labels.send(outbox, time.monotonic())
            await asyncio.sleep(0)  # let the client send, also when there was nothing to wait for
            n_sent += len(turn)
            on_sent(len(turn))
        if stopping.is_set():
            break
    await outbox.flush()
    seconds = time.monotonic() - start_clock
    if late_labels is None:
        return ReplaySummary(n_sent, seconds)
    while late_labels.are_waiting and not stopping.is_set():
        left = late_labels.seconds_left(time.monotonic())
        await _wait(stopping, max(left, MIN_WAIT_SECONDS), outbox, late_labels)
    await outbox.flush()
    return ReplaySummary(n_sent, seconds, late_labels.n_labels)


Due = tuple[float, Event]


def _turns(
    schedule: Iterator[Due], elapsed_seconds: Callable[[], float], pace: Pace
) -> Iterator[list[Due] | float]:
    """Yield what is due together, or the seconds to wait until something is."""
    if not pace.is_limited:
        while turn := list(islice(schedule, MAX_TURN_EVENTS)):
            yield turn
        return
    elapsed = elapsed_seconds()
    turn = []
    for item in schedule:
        while item[0] > elapsed:
            elapsed = elapsed_seconds()
            if item[0] > elapsed:
                if turn:
                    yield turn
                    turn = []
                yield max(item[0] - elapsed, MIN_WAIT_SECONDS)
        turn.append(item)
        if len(turn) >= MAX_TURN_EVENTS:
            yield turn
            turn = []
    if turn:
        yield turn


_encode = msgspec.json.Encoder().encode


def _pack(
    outbox: Outbox,
    topic: str,
    partition_of: Partitioner,
    turn: list[Due],
    start: float,
    pace: Pace,
    late_labels: LateLabels | None,
) -> None:
    by_partition: dict[int, tuple[list[bytes], list[bytes], list[Label]]] = {}
    for due, event in turn:
        partition = partition_of(event.key)
        timestamp = round(start + due, 6) if pace.now else event.timestamp
        label = event.label if late_labels is None else None
        value = _encode(_Value(timestamp, event.features, label, event.id))
        columns = by_partition.get(partition)
        if columns is None:
            by_partition[partition] = ([event.key], [value], [event.label])
        else:
            columns[0].append(event.key)
            columns[1].append(value)
            columns[2].append(event.label)
    for partition, (keys, values, labels) in by_partition.items():
        packed = outbox.pack(topic, partition, keys, values, repeat([]))
        if late_labels is not None:
            late_labels.keep(packed, keys, labels, time.monotonic())


async def _wait(
    stopping: asyncio.Event, seconds: float, outbox: Outbox, late_labels: LateLabels | None
) -> None:
    """Wait, and send the labels that are due meanwhile; ends early when told to stop."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not stopping.is_set():
        if late_labels is not None:
            left = min(left, late_labels.seconds_left(time.monotonic()))
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stopping.wait(), left)
        if late_labels is not None and not stopping.is_set():
            await late_labels.send(outbox, time.monotonic())
