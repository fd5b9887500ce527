"""What the benchmarks ask of Kafka: topics of their own, events in place, predictions read back."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from numpy.typing import NDArray

from tests.live.brokers import KafkaBroker

BROKER_SETTINGS = {"num.network.threads": "2", "num.io.threads": "4"}


@contextmanager
def broker(url: str | None, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Give `host:port` of the broker at `url`, or of an Apache Kafka of our own with these settings."""
    if url:
        yield url.removeprefix("kafka://")
        return
    # The broker leads a session of its own: without this a SIGTERM would end us and leave it running.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with KafkaBroker({**BROKER_SETTINGS, **(settings or {})}, heap_mb=1_024) as kafka:
        yield kafka.bootstrap


def create_topics(bootstrap: str, names: Iterable[str], n_partitions: int, config: dict[str, str]) -> None:
    """Create topics and wait until they are there."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topics = [NewTopic(name, n_partitions, 1, config=config) for name in names]
    for future in admin.create_topics(topics).values():
        future.result()
    consumer = watcher(bootstrap)
    deadline = time.monotonic() + 20
    for topic in topics:
        while True:
            try:
                count_records(consumer, topic.topic, n_partitions)
                break
            except KafkaException:  # a partition that was just created has no leader for a moment
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    consumer.close()


def create_predictions_topic(bootstrap: str, name: str, n_partitions: int) -> None:
    """Create a topic whose records carry the time at which the broker took them: one clock for all."""
    create_topics(bootstrap, [name], n_partitions, {"message.timestamp.type": "LogAppendTime"})


def load_events(bootstrap: str, topic: str, events: Iterable[tuple[bytes, bytes]]) -> int:
    """Produce events, partitioned by key as Kafka's own producers do, and return how many."""
    failed: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "delivery.report.only.error": True,
            "on_delivery": lambda error, message: failed.append(str(error)),
        }
    )
    n = 0
    for key, value in events:
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.05)
        n += 1
    producer.flush()
    if failed:
        raise RuntimeError(f"{len(failed)} events were not delivered, the first because: {failed[0]}")
    return n


def watcher(bootstrap: str, **settings: Any) -> Consumer:
    """Return a consumer that joins no group, to look at offsets and to read with."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-watcher",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 5,
            **settings,
        }
    )


def count_records(consumer: Consumer, topic: str, n_partitions: int) -> int:
    """Return how many records were ever written to a topic (transaction markers would count too)."""
    partitions = [TopicPartition(topic, i) for i in range(n_partitions)]
    return sum(consumer.get_watermark_offsets(partition)[1] for partition in partitions)


def count_committed(consumer: Consumer, topic: str, n_partitions: int) -> int:
    """Return how many records of a topic the consumer's group has done with."""
    partitions = [TopicPartition(topic, i) for i in range(n_partitions)]
    return sum(max(found.offset, 0) for found in consumer.committed(partitions, timeout=20))


class Answers(NamedTuple):
    """What a contender published: by event, and when."""

    ids: list[str]
    scores: NDArray[np.float64]
    appended_ms: NDArray[np.int64]


class _Scored(msgspec.Struct):
    id: str
    score: float


def read_predictions(bootstrap: str, topic: str, n_partitions: int) -> Answers:
    """Read all that is in a topic of predictions, and committed."""
    consumer = watcher(bootstrap, **{"enable.partition.eof": True})
    decode = msgspec.json.Decoder(_Scored).decode
    ids: list[str] = []
    scores: list[float] = []
    appended: list[int] = []
    unfinished = set(range(n_partitions))
    consumer.assign([TopicPartition(topic, i, 0) for i in unfinished])
    deadline = time.monotonic() + 60
    while unfinished:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic}: {len(ids)} records were read within 60 s, and the end not reached")
        for message in consumer.consume(10_000, timeout=0.5):
            if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition())
                continue
            scored = decode(_value(message))
            ids.append(scored.id)
            scores.append(scored.score)
            appended.append(message.timestamp()[1])
    consumer.close()
    return Answers(ids, np.array(scores), np.array(appended, np.int64))


def _value(message: Message) -> bytes:
    if message.error():
        raise RuntimeError(str(message.error()))
    value: bytes = message.value()
    return value
