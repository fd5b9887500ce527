"""What tests ask of Kafka, by a client that Nowcast does not use: events in, everything else out.

Owns producing, reading back whole topics, offsets, and what the statistics of given events must be.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

START = 1_700_000_000.0
TIMEOUT_SECONDS = 60

FLUSH_SECONDS = 180
"""For a producer whose broker was away, on a busy machine."""

Event = tuple[bytes, bytes]


def make_events(n_events: int, n_entities: int, seed: int = 1, n_bytes: int = 0) -> list[Event]:
    """Make key and value of events, 10 ms apart, entities by turns; values padded to at least `n_bytes`."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_events, 2)) * (1.0, 25.0) + (20.0, 1e6)
    return [
        (
            b"sensor-%d" % (i % n_entities),
            json.dumps(
                {"timestamp": START + i / 100, "features": {"temperature": row[0], "pressure": row[1]}}
            )
            .encode()
            .ljust(n_bytes),
        )
        for i, row in enumerate(features.tolist())
    ]


class EventProducer:
    """Sends events in order, partitioned by key as Java's producers do, or to one partition."""

    def __init__(self, bootstrap: str, topic: str, **settings: object) -> None:
        self._topic = topic
        self._failed: list[str] = []
        self.client = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,  # keeps the order when a request is repeated
                "linger.ms": 5,
                "on_delivery": lambda error, message: error and self._failed.append(str(error)),
                **settings,
            }
        )

    def send(self, events: Iterable[Event], partition: int = -1) -> None:
        """Hand over events."""
        for key, value in events:
            self.client.produce(self._topic, value, key, partition=partition)
            self.client.poll(0)

    def flush(self) -> None:
        """Wait until the broker has them all."""
        assert self.client.flush(FLUSH_SECONDS) == 0
        assert not self._failed, self._failed[0]


def produce(bootstrap: str, topic: str, events: Iterable[Event], partition: int = -1) -> None:
    """Send events and wait until the broker has them."""
    producer = EventProducer(bootstrap, topic)
    producer.send(events, partition)
    producer.flush()


class Reader:
    """Looks at topics and offsets without being a member of the group it looks at."""

    def __init__(self, bootstrap: str, group: str, n_partitions: int) -> None:
        self._partitions = range(n_partitions)
        self._client = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_uncommitted",
                "enable.partition.eof": False,
                "fetch.wait.max.ms": 10,
                "log_level": 0,  # of a broker that is away its answers tell
            }
        )

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the end offset of each partition."""
        try:
            return {
                i: self._client.get_watermark_offsets(TopicPartition(topic, i), TIMEOUT_SECONDS)[1]
                for i in self._partitions
            }
        except KafkaException:
            # A broker that stood still knows of no partitions for a moment, and the client remembers that.
            self._client.list_topics(topic, TIMEOUT_SECONDS)
            raise

    def n_records(self, topic: str) -> int:
        """Return how many offsets a topic has given out."""
        return sum(self.end_offsets(topic).values())

    def committed(self, topic: str) -> dict[int, int]:
        """Return the group's committed offsets; -1001 stands for none."""
        asked = [TopicPartition(topic, i) for i in self._partitions]
        return {item.partition: item.offset for item in self._client.committed(asked, TIMEOUT_SECONDS)}

    def read(self, topic: str) -> list[Message]:
        """Read all of a topic that has no gap at its end."""
        ends = self.end_offsets(topic)
        self._client.assign([TopicPartition(topic, i, 0) for i, end in ends.items() if end])
        missing = {i for i, end in ends.items() if end}
        messages: list[Message] = []
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while missing:
            assert time.monotonic() < deadline, f"the end of partitions {missing} of {topic} was not reached"
            for message in self._client.consume(1_000, timeout=0.05):  # waits for all 1,000 or the time out
                assert message.error() is None, message.error()
                messages.append(message)
                if message.offset() == ends[message.partition()] - 1:
                    missing.discard(message.partition())
        self._client.unassign()
        return messages

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def event_id(message: Message) -> str:
    """Return the id that the prediction of an event must have."""
    return f"{message.topic()}-{message.partition()}-{message.offset()}"


def expected_statistics(events: Iterable[Message]) -> dict[str, dict[str, Any]]:
    """Return what the view must say of each entity, computed by numpy over all of its events."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    last: dict[str, int] = {}
    for message in events:
        features = json.loads(message.value())["features"]
        key = message.key().decode()
        rows[key].append([features["temperature"], features["pressure"]])
        last[key] = max(last.get(key, -1), message.offset())
    return {key: {"last_offset": last[key], "values": np.array(of_key)} for key, of_key in rows.items()}


def check_statistics(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Compare one answer of `/api/statistics/{key}` with what numpy says."""
    values = expected["values"]
    assert found["n_events"] == len(values)
    assert found["last_offset"] == expected["last_offset"]
    for i, name in enumerate(("temperature", "pressure")):
        column, said = values[:, i], found["features"][name]
        assert said["count"] == len(column)
        assert said["mean"] == pytest.approx(column.mean(), rel=1e-9)
        assert said["variance"] == pytest.approx(column.var(), rel=1e-9)
        assert (said["min"], said["max"]) == (column.min(), column.max())


def by_partition(messages: Iterable[Message]) -> Iterator[tuple[int, list[Message]]]:
    """Give the messages of each partition, in the order of their offsets."""
    found: dict[int, list[Message]] = defaultdict(list)
    for message in messages:
        found[message.partition()].append(message)
    for partition, of_partition in sorted(found.items()):
        yield partition, sorted(of_partition, key=lambda message: message.offset())
