"""Late labels on the real broker: over kills, metrics are scikit-learn's on what the topics say."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from app.settings import Settings
from tables.artefact_records import publish
from tests.artefacts import logistic
from tests.live.brokers import KafkaBroker
from tests.live.evaluated import evaluation_of, evaluations, hold_against_scikit_learn, versions_of
from tests.live.streams import START, EventProducer, Reader, produce
from tests.live.workers import Worker, Workers, wait_for

N_PARTITIONS = 4
N_EVENTS = 6_000


def make_events(n_events: int, seed: int = 3) -> list[tuple[bytes, bytes]]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_events, 2)).tolist()
    return [
        (
            b"%s-%d" % ((b"pump", b"fan")[i % 2], i % 40),
            json.dumps({"timestamp": START + i / 100, "features": {"a": row[0], "b": row[1]}}).encode(),
        )
        for i, row in enumerate(rows)
    ]


def make_labels(events: list[Message], seed: int = 4) -> list[tuple[bytes, bytes]]:
    """Make the label of each event, in another order."""
    rng = np.random.default_rng(seed)
    labels = []
    for message in events:
        features = json.loads(message.value())["features"]
        truth = int(features["a"] + 0.5 * rng.normal() > 0)
        event_id = f"{message.topic()}-{message.partition()}-{message.offset()}"
        labels.append((message.key(), json.dumps({"id": event_id, "label": truth}).encode()))
    return [labels[i] for i in rng.permutation(len(labels)).tolist()]


def n_joined(worker: Worker) -> int:
    return int(evaluations(worker).get("labels", {}).get("joined", 0))


def truth_of(labels: list[tuple[bytes, bytes]]) -> dict[str, int]:
    return {told["id"]: told["label"] for _, value in labels for told in [json.loads(value)]}


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_late_labels_count_once_over_kills_and_metrics_are_those_of_scikit_learn(
    kafka_broker: KafkaBroker, tmp_path: Path, delivery: str
) -> None:
    with (
        Workers(
            tmp_path,
            kafka_broker.url,
            partitions=N_PARTITIONS,
            delivery=delivery,
            evaluation_groups="^([a-z]+)-",
            evaluation_seconds=1,
        ) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        names = {name: str(workers.settings[f"topic_{name}"]) for name in ("events", "labels", "predictions")}
        settings = Settings(**dict(workers.settings.items()))  # type: ignore[arg-type]
        one, two = (workers.new(name).start() for name in ("one", "two"))
        for worker in (one, two):
            worker.wait_until_ready()
        onnx_bytes, metadata = logistic([1.0, 0.3], name="pump")
        asyncio.run(publish(settings, "pump", onnx_bytes, metadata, by="test", reason="first"))
        wait_for(lambda: any(m["serving"] for m in one.get("/api/models")[1]["models"]), "the model serves")
        produce(kafka_broker.bootstrap, names["events"], make_events(N_EVENTS))
        events = reader.read(names["events"])
        labels = make_labels(events)
        producer = EventProducer(kafka_broker.bootstrap, names["labels"])
        third = len(labels) // 3
        producer.send(labels[:third])
        producer.flush()
        wait_for(lambda: n_joined(two) > 0, "the first labels", [one, two])
        one.kill()
        producer.send(labels[third : 2 * third])
        producer.send(labels[: third // 2])  # repeated
        producer.flush()
        one.start().wait_until_ready()
        two.kill()
        two.start()
        producer.send(labels[2 * third :])
        # To a partition that is not their events': they are sent on.
        producer.flush()
        two.wait_until_ready()
        wait_for(lambda: n_joined(one) == N_EVENTS and n_joined(two) == N_EVENTS, "all labels", [one, two])
        predictions = read_predictions(kafka_broker.bootstrap, names["predictions"])
        truth = truth_of(labels)
        assert predictions.keys() == truth.keys()
        found = evaluations(one)
        assert found["evaluations"] == evaluations(two)["evaluations"]
        assert found["labels"]["repeated"] == third // 2
        for group in ("", "pump", "fan"):
            check(found, group, {i: p for i, p in predictions.items() if p["key"].startswith(group)}, truth)


def read_predictions(bootstrap: str, topic: str) -> dict[str, Any]:
    """Read the committed predictions, each once."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "isolation.level": "read_committed"}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(N_PARTITIONS)])
    found: dict[str, Any] = {}

    def has_all() -> bool:
        for message in consumer.consume(1_000, timeout=0.1):
            prediction = json.loads(message.value())
            found[prediction["id"]] = prediction
        return len(found) >= N_EVENTS

    wait_for(has_all, "all predictions")
    consumer.close()
    return found


def check(found: dict[str, Any], group: str, predictions: dict[str, Any], truth: dict[str, int]) -> None:
    """Hold what the view says of each version against scikit-learn, on the predictions it made."""
    versions = versions_of(predictions.values())
    assert "pump" in {model for model, _ in versions}
    for model, version in versions:
        row = evaluation_of(found, model, version, group)
        mine = [p for p in predictions.values() if p["version"] == version]
        labels = [truth[p["id"]] for p in mine]
        assert hold_against_scikit_learn(row["since_start"], mine, labels, model == "pump") == []
        if model == "pump":
            assert row["role"] == "champion"
