"""A models topic in memory: its broker's ways to fail, a consumer and a producer that speak to it.

For tests of what follows the topic and of what writes to it, without a broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from tables import model_following, model_loading, model_writing, reading_client
from tests.artefacts import artefact

PLACE = TopicPartition("models", 0)
SECONDS = 10.0


@dataclass
class Log:
    """A models topic, and the ways in which its broker may fail."""

    records: list[Any] = field(default_factory=list)
    partitions: set[int] = field(default_factory=lambda: {0})
    topics: set[str] = field(default_factory=lambda: {"models"})
    first_offset: int = 0
    end_offset: int = 0
    records_a_fetch: int = 100
    n_failures: int = 0
    largest_batch: int = 10**9
    batches: list[list[bytes]] = field(default_factory=list)
    sought: list[int] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def append(self, key: str | None, value: bytes | None, metadata: bytes | None = b"") -> int:
        headers = () if not metadata else (("metadata", metadata),)
        return self.add(None if key is None else key.encode(), value, headers)

    def add(self, key: bytes | None, value: bytes | None, headers: Any = ()) -> int:
        """Append a record as it is."""
        offset = self.end_offset
        record = SimpleNamespace(
            offset=offset,
            key=key,
            value=value,
            headers=tuple(headers),
            timestamp=1_700_000_000_000 + offset,
        )
        self.records.append(record)
        self.end_offset += 1
        return offset

    def publish(self, weight: float, name: str = "pump", **more: Any) -> int:
        """Publish as anybody can, with metadata and nothing else."""
        return self.append(name, *artefact([weight], name=name, **more))

    def compacted(self, below: int, with_tombstones: bool = True) -> Log:
        """Return what compaction leaves: of the records below an offset the last of each key."""
        last = {record.key: record.offset for record in self.records if record.offset < below}
        kept = [
            record
            for record in self.records
            if record.offset >= below
            or (last[record.key] == record.offset and (with_tombstones or record.value is not None))
        ]
        return Log(records=kept, end_offset=self.end_offset)

    def until(self, end: int) -> Log:
        """Return the topic as it was when it had so many records."""
        return Log(records=[record for record in self.records if record.offset < end], end_offset=end)


class Consumer:
    """Speaks for aiokafka's consumer."""

    def __init__(self, log: Log, **options: Any) -> None:
        self._client = SimpleNamespace(_metadata_update=None)
        log.options = options
        self._log = log
        self._position = 0
        self.is_stopped = False

    async def start(self) -> None:
        self._fail()

    async def stop(self) -> None:
        self.is_stopped = True

    async def topics(self) -> set[str]:
        return self._log.topics

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self._log.partitions

    def assign(self, places: list[TopicPartition]) -> None:
        assert places == [PLACE]

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {PLACE: self._log.end_offset}

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {PLACE: self._log.first_offset}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._log.sought.append(offset)
        self._position = offset

    async def position(self, place: TopicPartition) -> int:
        return self._position

    async def getmany(self, place: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self._fail()
        await asyncio.sleep(0.001)
        if self._position > self._log.end_offset:  # out of range: auto_offset_reset
            self._position = self._log.first_offset
        found = [record for record in self._log.records if record.offset >= self._position]
        found = found[: self._log.records_a_fetch]
        # As the client does: past what compaction took, to the end of the log.
        self._position = found[-1].offset + 1 if found else self._log.end_offset
        return {PLACE: found} if found else {}

    def _fail(self) -> None:
        if self._log.n_failures:
            self._log.n_failures -= 1
            raise KafkaConnectionError("no broker")


class Batch:
    """Speaks for aiokafka's batch."""

    def __init__(self, n_bytes: int) -> None:
        self.records: list[dict[str, Any]] = []
        self._room = n_bytes

    def append(self, timestamp: Any, key: bytes, value: bytes | None, headers: Any) -> Any:
        self._room -= len(key) + len(value or b"") + sum(len(name) + len(of) for name, of in headers)
        if self.records and self._room < 0:
            return None
        self.records.append({"key": key, "value": value, "headers": headers})
        return self

    def close(self) -> None:
        pass


class Producer:
    """Speaks for aiokafka's producer; a batch arrives whole."""

    def __init__(self, log: Log, **options: Any) -> None:
        self._log = log
        self._n_bytes = options["max_batch_size"]

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def create_batch(self) -> Batch:
        return Batch(self._n_bytes)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any:
        assert (topic, partition) == PLACE
        answered = asyncio.get_running_loop().create_future()
        if sum(len(record["value"] or b"") for record in batch.records) > self._log.largest_batch:
            answered.set_exception(model_writing.MessageSizeTooLargeError())
        else:
            self._log.batches.append([record["key"] for record in batch.records])
            offsets = [self._log.add(**record) for record in batch.records]
            answered.set_result(SimpleNamespace(offset=offsets[0]))
        return answered


class Trial:
    """Tries nothing: `tests/tables/test_artefact_trial.py` does."""

    async def attempt(self, onnx_bytes: bytes, metadata_json: bytes) -> None:
        if onnx_bytes == b"no process":
            raise OSError("no process")

    async def close(self) -> None:
        pass


def install(monkeypatch: pytest.MonkeyPatch, log: Log | None = None) -> Log:
    """Put a topic in the place of the broker's."""
    log = log or Log()
    monkeypatch.setattr(reading_client, "AIOKafkaConsumer", lambda **options: Consumer(log, **options))
    monkeypatch.setattr(model_writing, "AIOKafkaProducer", lambda **options: Producer(log, **options))
    monkeypatch.setattr(model_following, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(model_loading, "ArtefactTrial", lambda max_bytes: Trial())
    return log


def settings_of(**changed: Any) -> Any:
    return SimpleNamespace(
        **{
            "bootstrap_servers": ["broker:9092"],
            "broker": "kafka://broker:9092",
            "group": "nowcast",
            "topic_models": "models",
            "max_artefact_bytes": 1_000_000,
            "model": "",
            "max_challengers": 3,
            "signing_key": None,
            "trusted_keys": None,
            **changed,
        }
    )


async def until(condition: Callable[[], Any]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(poll(), SECONDS)
