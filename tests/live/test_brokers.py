"""The brokers that the other tests rely on do what those tests take for granted."""

from __future__ import annotations

import os
import uuid

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from app.cluster import read_cluster_id
from app.embedded import EmbeddedBroker, EmbeddedBrokerError
from tests.live.brokers import KafkaBroker

TIMEOUT_SECONDS = 30


def create_topic(bootstrap: str, n_partitions: int = 1) -> str:
    name = f"brokers-{uuid.uuid4().hex[:8]}"
    topic = NewTopic(name, num_partitions=n_partitions, replication_factor=1)
    admin = AdminClient({"bootstrap.servers": bootstrap})  # its name keeps it alive until the answer is there
    admin.create_topics([topic])[name].result(TIMEOUT_SECONDS)
    return name


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value, key=b"key")
    assert producer.flush(TIMEOUT_SECONDS) == 0


def consume(bootstrap: str, topic: str, last: bytes, **settings: object) -> list[bytes]:
    """Read partition 0 from the beginning until `last` came."""
    # Assigned, not subscribed: joining a group takes the embedded broker half a session timeout, 22 s.
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", **settings})
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        values: list[bytes] = []
        while last not in values:
            message = consumer.poll(TIMEOUT_SECONDS)
            assert message is not None, f"{last!r} did not come, only {values}"
            assert message.error() is None, message.error()
            values.append(message.value())
        return values
    finally:
        consumer.close()


def test_embedded_broker_gives_back_what_it_was_given(embedded_broker: EmbeddedBroker) -> None:
    topic = create_topic(embedded_broker.bootstrap)
    produce(embedded_broker.bootstrap, topic, [b"one", b"two", b"three"])
    assert consume(embedded_broker.bootstrap, topic, last=b"three") == [b"one", b"two", b"three"]


def test_embedded_broker_refuses_a_port_that_is_taken(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(EmbeddedBrokerError, match=f"port {embedded_broker.port} is taken"):
        EmbeddedBroker(embedded_broker.port).start()


def test_embedded_broker_notices_that_another_broker_answers_on_its_port(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.embedded.is_port_free", lambda host, port: True)  # taken between look and start
    with pytest.raises(EmbeddedBrokerError, match=r"another broker|did not start"):
        EmbeddedBroker(embedded_broker.port).start()


def test_embedded_broker_is_gone_after_stop_and_starts_again_on_its_port(
    own_embedded_broker: EmbeddedBroker,
) -> None:
    pid = own_embedded_broker.pid
    assert pid is not None
    own_embedded_broker.stop()
    assert own_embedded_broker.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    own_embedded_broker.start()
    assert read_cluster_id("127.0.0.1", own_embedded_broker.port) is not None


def test_kafka_gives_back_what_it_was_given(kafka_broker: KafkaBroker) -> None:
    topic = create_topic(kafka_broker.bootstrap)
    produce(kafka_broker.bootstrap, topic, [b"one", b"two", b"three"])
    assert consume(kafka_broker.bootstrap, topic, last=b"three") == [b"one", b"two", b"three"]


def test_kafka_hides_an_aborted_transaction_from_read_committed(kafka_broker: KafkaBroker) -> None:
    topic = create_topic(kafka_broker.bootstrap)
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap, "transactional.id": f"id-{topic}"})
    producer.init_transactions(TIMEOUT_SECONDS)
    producer.begin_transaction()
    producer.produce(topic, b"aborted")
    producer.flush(TIMEOUT_SECONDS)
    producer.abort_transaction(TIMEOUT_SECONDS)
    producer.begin_transaction()
    producer.produce(topic, b"committed")
    producer.commit_transaction(TIMEOUT_SECONDS)

    level = "isolation.level"
    uncommitted = consume(kafka_broker.bootstrap, topic, b"committed", **{level: "read_uncommitted"})
    committed = consume(kafka_broker.bootstrap, topic, b"committed", **{level: "read_committed"})
    assert uncommitted == [b"aborted", b"committed"]
    assert committed == [b"committed"]


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_kafka_keeps_data_and_ports_over_a_restart(own_kafka_broker: KafkaBroker, way: str) -> None:
    topic = create_topic(own_kafka_broker.bootstrap)
    produce(own_kafka_broker.bootstrap, topic, [b"before"])
    getattr(own_kafka_broker, way)()
    assert own_kafka_broker.pid is None
    own_kafka_broker.start()
    produce(own_kafka_broker.bootstrap, topic, [b"after"])
    assert consume(own_kafka_broker.bootstrap, topic, last=b"after") == [b"before", b"after"]
