"""The reader of the changelog on Apache Kafka: what its own log is made of, beyond records."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient, NewTopic

from tables.changelog import Changelog
from tables.progress import Progress
from tests.live.brokers import KafkaBroker
from tests.tables.test_changelog import entities
from tests.tables.test_restoring import new_store, own_record

SECONDS = 60.0

Write = Callable[..., Awaitable[None]]


@pytest.fixture
def topic(kafka_broker: KafkaBroker) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}-statistics-changelog"
    new = NewTopic(name, 2, 1, config={"cleanup.policy": "compact"})
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
    for future in admin.create_topics([new]).values():
        future.result()
    return name


def run(broker: KafkaBroker, topic: str, test: Callable[[Any, Changelog, Any], Awaitable[None]]) -> None:
    """Run a test with a transactional producer, a reader and its store."""

    async def whole() -> None:
        store = new_store()
        settings = SimpleNamespace(bootstrap_servers=[broker.bootstrap], group="test")
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=f"{topic}-0")
        await producer.start()
        try:
            await test(Transactions(producer, topic), Changelog(settings, topic, store), store)
        finally:
            await producer.stop()

    asyncio.run(asyncio.wait_for(whole(), SECONDS))


class Transactions:
    """Writes to partition 0 as a lane does: everything of a checkpoint in one transaction."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self.producer = producer
        self._topic = topic

    async def write(self, items: list[tuple[bytes, bytes | None]]) -> None:
        await self.producer.begin_transaction()
        answers = [await self.producer.send(self._topic, value, key, partition=0) for key, value in items]
        await asyncio.gather(*answers)

    async def commit(self, *items: tuple[bytes, bytes | None]) -> None:
        await self.write(list(items))
        await self.producer.commit_transaction()

    async def abort(self, *items: tuple[bytes, bytes | None]) -> None:
        await self.write(list(items))
        await self.producer.abort_transaction()


def test_committed_records_are_restored_and_aborted_ones_never_were(
    kafka_broker: KafkaBroker, topic: str
) -> None:
    async def test(log: Transactions, changelog: Changelog, store: Any) -> None:
        await log.commit(*entities(0, 2_500), own_record(2_500))
        await log.abort((b"e1", b"aborted"), (b"e2", None), (b"none", b"aborted"), own_record(9_000))
        await log.commit((b"e3", None), own_record(2_600))
        await log.abort((b"e4", b"aborted"))  # it ends with records that count for nothing, and markers
        await log.abort((b"e5", b"aborted"))
        progress = Progress(2)
        await changelog.restore([0, 1], progress)
        expected = dict([*entities(0, 2_500), own_record(2_600)])
        del expected[b"e3"]
        assert store.partitions[0] == expected
        assert progress.n_records == 2_503
        await changelog.restore([0, 1], again := Progress(2))
        assert again.n_records == 0
        await log.commit((b"e6", b"later"))
        await changelog.restore([0, 1], again)
        assert again.n_records == 1
        assert store.partitions[0][b"e6"] == b"later"

    run(kafka_broker, topic, test)


def test_nothing_but_aborted_transactions_is_an_empty_state(kafka_broker: KafkaBroker, topic: str) -> None:
    async def test(log: Transactions, changelog: Changelog, store: Any) -> None:
        for _ in range(3):
            await log.abort(*entities(0, 10))
        await changelog.restore([0], Progress(1))
        assert not store.partitions[0]

    run(kafka_broker, topic, test)


def test_what_is_committed_behind_an_open_transaction_is_waited_for(
    kafka_broker: KafkaBroker, topic: str
) -> None:
    async def test(log: Transactions, changelog: Changelog, store: Any) -> None:
        await log.commit(*entities(0, 5))
        await log.write(entities(5, 5))  # open, and before the next one in the log
        other = AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap)
        await other.start()
        for key, value in entities(10, 5):
            await other.send_and_wait(topic, value, key, partition=0)
        await other.stop()
        restoring = asyncio.create_task(changelog.restore([0], Progress(1)))
        while len(store.partitions.get(0, {})) < 5:
            await asyncio.sleep(0.01)
        done, _ = await asyncio.wait([restoring], timeout=0.5)
        assert not done
        await log.producer.abort_transaction()
        await restoring
        assert store.partitions[0] == dict([*entities(0, 5), *entities(10, 5)])

    run(kafka_broker, topic, test)


def test_a_standby_sees_transactions_when_they_are_committed(kafka_broker: KafkaBroker, topic: str) -> None:
    async def test(log: Transactions, changelog: Changelog, store: Any) -> None:
        await log.commit(*entities(0, 5))
        caught_up = asyncio.Event()
        following = asyncio.create_task(changelog.follow([0, 1], caught_up.set))
        await caught_up.wait()
        await log.abort(*entities(5, 5))
        await log.commit(*entities(10, 5))
        while len(store.partitions[0]) < 10:
            await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.wait([following])
        assert store.partitions[0] == dict([*entities(0, 5), *entities(10, 5)])
        await changelog.restore([0], rest := Progress(1))
        assert rest.n_records == 0

    run(kafka_broker, topic, test)
