"""Transactions on Apache Kafka: nothing is seen before the commit, and who was replaced commits nothing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as AioPartition
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from faust.types import TP

from agents.lanes import Lanes
from agents.outbox import CutOffError
from tests.live.brokers import KafkaBroker

STATE = [(b"sensor", b"state"), (b"\x00partition", b"7 3")]


class Topics:
    """Topics and a group of the test's own."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        run = uuid.uuid4().hex[:8]
        self.events, self.predictions, self.changelog = (f"{name}-{run}" for name in ("e", "p", "c"))
        self.group = f"group-{run}"
        admin = AdminClient({"bootstrap.servers": bootstrap})
        names = [self.events, self.predictions, self.changelog]
        for future in admin.create_topics([NewTopic(name, 2) for name in names]).values():
            future.result(20)
        self.failures: list[BaseException] = []
        self.cuts: list[BaseException] = []

    def lanes(self) -> Lanes:
        def new(name: str) -> AIOKafkaProducer:
            return AIOKafkaProducer(
                bootstrap_servers=self.bootstrap, transactional_id=name, transaction_timeout_ms=60_000
            )

        return Lanes(
            self.events,
            self.group,
            [self.predictions, self.changelog],
            new,
            self.failures.append,
            self.cuts.append,
        )

    def _client(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )

    def read(self, topic: str, partition: int = 0) -> list[bytes]:
        """Return what a reader of committed records sees of a partition."""
        client, values = self._client(), []
        client.assign([TopicPartition(topic, partition, 0)])
        while True:
            message = client.poll(20)
            assert message is not None
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF
                client.close()
                return values
            values.append(message.value())

    def committed(self, partition: int = 0) -> int:
        client = self._client()
        (found,) = client.committed([TopicPartition(self.events, partition)], timeout=20)
        client.close()
        return int(found.offset)


@pytest.fixture
def topics(kafka_broker: KafkaBroker) -> Topics:
    return Topics(kafka_broker.bootstrap)


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


async def look(function: Any, *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


def test_answers_state_and_offset_are_seen_together_or_not_at_all(topics: Topics) -> None:
    async def scenario() -> None:
        lanes, source = topics.lanes(), TP(topics.events, 0)
        await lanes.open([0, 1])
        try:
            for n in (1, 2, 3):
                lanes.pack(topics.predictions, 0, [b"k"], [b"p%d" % n])
                await lanes.send()
                seen = [b"p%d" % m for m in range(1, n)]
                assert await look(topics.read, topics.predictions) == seen
                written = await lanes.make_durable(topics.changelog, {0: STATE}, {source: 10 * n})
                assert await look(topics.read, topics.predictions) == [*seen, b"p%d" % n]
                assert await look(topics.committed) == 10 * n
                # Two records and a marker a transaction.
                assert written == {0: 3 * n - 2}
            assert await look(topics.read, topics.changelog) == [b"state", b"7 3"] * 3
            lanes.pack(topics.predictions, 1, [b"k"], [b"never"])
            await lanes.send()
        finally:
            await lanes.close()
        assert await look(topics.read, topics.predictions, 1) == []

    run(scenario())


def test_who_was_replaced_commits_nothing_more(topics: Topics) -> None:
    async def scenario() -> None:
        asleep, successor, source = topics.lanes(), topics.lanes(), TP(topics.events, 0)
        await asleep.open([0])
        asleep.pack(topics.predictions, 0, [b"k"], [b"of the sleeper"])
        await asleep.send()
        try:
            await successor.open([0])
            successor.pack(topics.predictions, 0, [b"k"], [b"of the successor"])
            await successor.send()
            asleep.pack(topics.predictions, 0, [b"k"], [b"too late"])
            with pytest.raises(CutOffError):
                await asleep.make_durable(
                    topics.changelog, {0: [(b"sensor", b"stale"), *STATE]}, {source: 99}
                )
            await successor.make_durable(topics.changelog, {0: STATE}, {source: 7})
        finally:
            await asyncio.gather(asleep.close(), successor.close())
        assert await look(topics.read, topics.predictions) == [b"of the successor"]
        assert await look(topics.read, topics.changelog) == [b"state", b"7 3"]
        assert await look(topics.committed) == 7
        assert not topics.failures

    run(scenario())


@pytest.fixture
def trusting_broker(kafka_jars: Path) -> Iterator[KafkaBroker]:
    """Give a broker that takes records of transactions that its coordinator knows nothing of."""
    with KafkaBroker({"transaction.partition.verification.enable": "false"}) as broker:
        yield broker


def test_a_transaction_that_the_broker_forgot_to_end_is_ended_and_was_never_committed(
    trusting_broker: KafkaBroker,
) -> None:
    topics = Topics(trusting_broker.bootstrap)

    async def scenario() -> None:
        former, successor, source = topics.lanes(), topics.lanes(), TP(topics.events, 0)
        await former.open([0])
        producer = former._lanes[0]._producer
        await producer.begin_transaction()
        for topic in (topics.predictions, topics.changelog):
            # The client believes that the coordinator knows, which it does not: nobody will end it.
            producer._txn_manager._txn_partitions.add(AioPartition(topic, 0))
            await (await producer.send(topic, b"hanging", b"k", partition=0))
        await successor.open([0])
        try:
            await successor.release([0])
            successor.pack(topics.predictions, 0, [b"k"], [b"after"])
            await successor.make_durable(topics.changelog, {0: STATE}, {source: 7})
        finally:
            await asyncio.gather(former.close(), successor.close())
        assert await look(topics.read, topics.predictions) == [b"after"]
        assert await look(topics.read, topics.changelog) == [b"state", b"7 3"]

    run(scenario())
