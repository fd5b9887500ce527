"""Parts around the score hop for tests without a broker: real batches and state, answers by hand."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import ConsumerRecord, RecordMetadata, TopicPartition

from agents.label import Labeller
from agents.metrics import Metrics
from agents.outbox import MAX_BATCH_BYTES, Outbox
from agents.score import Scorer
from app.record_batch import RecordBatch
from app.settings import Settings
from tables.learning import Learning
from tables.partition import Partition
from tables.stores import Item

NOW_MS = 1_790_000_000_000


class Sent(NamedTuple):
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]

    @property
    def json(self) -> Any:
        return json.loads(self.value or b"null")


class RecordingProducer:
    """The client's producer up to the network: packs real batches, answers when told to."""

    def __init__(self, *, answer: bool = True) -> None:
        self.answer = answer
        self.waiting: list[tuple[asyncio.Future[Any], TopicPartition, int]] = []
        self.sent: list[Sent] = []
        self._timestamps: list[tuple[str, int]] = []
        self.n_batches = 0
        self._ends: dict[TopicPartition, int] = {}

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(MAX_BATCH_BYTES, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        assert batch.closed()
        tp = TopicPartition(topic, partition)
        self.n_batches += 1
        for record in DefaultRecordBatch(bytearray(batch._build())):
            self._timestamps.append((topic, record.timestamp))
            self.sent.append(Sent(topic, partition, record.key, record.value, list(record.headers)))
        base = self._ends.get(tp, 0)
        self._ends[tp] = base + batch.record_count()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((future, tp, base))
        if self.answer:
            self.acknowledge()
        return future

    def acknowledge(self) -> None:
        for future, tp, base in self.waiting:
            future.set_result(RecordMetadata(tp.topic, tp.partition, tp, base, NOW_MS, 0, 0))
        self.waiting.clear()

    def refuse(self, error: Exception) -> None:
        for future, _, _ in self.waiting:
            future.set_exception(error)
        self.waiting.clear()

    def timestamps(self, topic: str) -> list[int]:
        return [timestamp for name, timestamp in self._timestamps if name == topic]

    def of(self, topic: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.topic == topic]


class DictStore:
    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.offset = -1

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    def write(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        self.offset = changelog_offset
        for key, value in items:
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value

    def scan(self, partition: int, after: bytes, limit: int, max_bytes: int) -> list[tuple[bytes, bytes]]:
        found = [(key, self.values[key]) for key in sorted(key for key in self.values if key > after)[:limit]]
        sizes = itertools.accumulate(len(value) for _, value in found)
        return [item for item, size in zip(found, sizes, strict=True) if size - len(item[1]) < max_bytes]

    def items_from(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter([(key, self.values[key]) for key in sorted(self.values) if key.startswith(prefix)])


class OnePartitionTable:
    """The table of entity states with its one partition 0 and a store of its own."""

    changelog_topic_name = "changelog"

    def __init__(self, settings: Settings, store: DictStore | None = None) -> None:
        self.settings = settings
        self.store = store or DictStore()
        self.forget()

    def forget(self) -> None:
        settings = self.settings
        self._partition = Partition(
            0, self.store, settings.panes, settings.pane_seconds, settings.cached_entities
        )
        self._partition.learning = Learning(0, self.store, settings)

    def partition(self, number: int) -> Partition:
        assert number == 0
        return self._partition

    def is_current(self, partition: Partition) -> bool:
        return self._partition is partition

    def take_changes(self) -> dict[int, list[Item]]:
        items = self._partition.take_changes()
        return {0: items} if items else {}

    def write(self, number: int, items: list[Item], changelog_offset: int) -> None:
        self.store.write(number, items, changelog_offset)
        self._partition.shrink()

    def locate(self, key: bytes) -> tuple[Partition, int] | None:
        slot = self._partition.find(key)
        return None if slot is None else (self._partition, slot)


class Worker:
    """A scorer with everything around it."""

    def __init__(
        self,
        settings: Settings,
        store: DictStore | None = None,
        model: Any = None,
        challengers: Sequence[Any] = (),
        holds_lease: Callable[[], bool] = lambda: True,
    ) -> None:
        self.producer = RecordingProducer()
        self.failures: list[BaseException] = []
        self.outbox = Outbox(lambda: self.producer, self.failures.append, holds_lease)
        self.table = OnePartitionTable(settings, store)
        self.models = SimpleNamespace(serving=model, challengers=tuple(challengers), split=None)
        self.metrics = Metrics()
        self.scorer = Scorer(settings, self.table, self.models, self.outbox, self.metrics)  # type: ignore[arg-type]
        self.labeller = Labeller(settings, self.table, self.outbox, self.scorer)  # type: ignore[arg-type]

    def predictions(self) -> list[Any]:
        return [sent.json for sent in self.producer.of("predictions")]

    def alerts(self) -> list[Any]:
        return [sent.json for sent in self.producer.of("alerts")]

    def dead_letters(self) -> list[Sent]:
        return self.producer.of("dead-letters")


def event(timestamp: Any, **features: Any) -> bytes:
    return json.dumps({"timestamp": timestamp, "features": features}).encode()


def record(
    offset: int, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()
) -> ConsumerRecord:
    size = len(value or b"")
    return ConsumerRecord("events", 0, offset, NOW_MS, 0, key, value, None, len(key or b""), size, headers)


def label(
    offset: int, key: bytes, event: int, told: Any, record_ms: int = NOW_MS, partition: int = 0
) -> ConsumerRecord:
    value = json.dumps({"id": f"events-{partition}-{event}", "label": told}).encode()
    return ConsumerRecord("labels", 0, offset, record_ms, 0, key, value, None, len(key), len(value), ())


def labels(records: list[ConsumerRecord], end_offset: int | None = None) -> RecordBatch:
    return RecordBatch("labels", 0, records, end_offset)


def batch(records: list[ConsumerRecord], end_offset: int | None = None) -> RecordBatch:
    return RecordBatch("events", 0, records, end_offset)
