"""A new version serves from the next batch on, in every worker, over rebalances, with no restart."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from app.settings import Settings
from compute.artefact import ArtefactError, load_artefact
from tables.artefact_records import publish
from tests.artefacts import artefact
from tests.live.brokers import KafkaBroker
from tests.live.streams import EventProducer, Reader, by_partition, make_events
from tests.live.workers import Worker, Workers, wait_for

N_PARTITIONS = 6
FEATURES = ["temperature", "pressure"]


class Stream:
    """Events without end at some hundred a second, until the context is left."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = EventProducer(bootstrap, topic)
        self._events = make_events(60_000, 60)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        for start in range(0, len(self._events), 20):
            if self._stopping.wait(0.05):
                break
            self._producer.send(self._events[start : start + 20])
            self._producer.flush()

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join()


def versions(messages: list[Message]) -> list[str]:
    """Return the versions of one partition's predictions in order, repeats left out."""
    return [version for version, _ in groupby(json.loads(message.value())["version"] for message in messages)]


@pytest.fixture
def workers(kafka_broker: KafkaBroker, tmp_path: Path) -> Iterator[Workers]:
    with Workers(tmp_path, kafka_broker.url, partitions=N_PARTITIONS) as workers:
        yield workers


def publish_model(workers: Workers, onnx_bytes: bytes, metadata: bytes) -> str:
    settings = Settings(**{str(name): value for name, value in workers.settings.items()})  # type: ignore[arg-type]
    model = load_artefact(onnx_bytes, metadata, max_bytes=settings.max_artefact_bytes)
    asyncio.run(publish(settings, model.name, onnx_bytes, metadata))
    return model.version


def serving(worker: Worker) -> Any:
    status, found = worker.get("/api/models")
    names = [model["version"] for model in found["models"] if model["serving"]] if status == 200 else []
    return names[0] if names else None


def test_three_workers_serve_a_new_version_from_the_next_batch_on_over_two_rebalances(
    kafka_broker: KafkaBroker, workers: Workers
) -> None:
    started = [workers.new(f"w{i}").start() for i in range(3)]
    for worker in started:
        worker.wait_until_ready()
    pids = [worker.process.pid for worker in started]
    topic = str(workers.settings["topic_predictions"])
    bootstrap = kafka_broker.bootstrap
    with (
        Reader(bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
        Stream(bootstrap, str(workers.settings["topic_events"])),
    ):

        def all_partitions_have(version: str, alive: list[Worker]) -> None:
            def reached() -> bool:
                found = dict(by_partition(reader.read(topic)))
                return len(found) == N_PARTITIONS and all(versions(m)[-1] == version for m in found.values())

            wait_for(reached, f"predictions of {version} in every partition", alive)
            assert all(serving(worker) == version for worker in alive)

        all_partitions_have_detector = lambda: all_partitions_have_any(reader, topic)  # noqa: E731
        wait_for(all_partitions_have_detector, "predictions in every partition", started)
        first = publish_model(workers, *artefact([1.0, 2.0], features=FEATURES))
        wait_for(lambda: all(serving(worker) == first for worker in started), "all serve the first", started)
        all_partitions_have(first, started)

        assert started[2].stop() == 0  # the first rebalance: one leaves
        alive = started[:2]
        second = publish_model(
            workers, *artefact([3.0, 4.0], features=FEATURES)
        )  # and in its midst a version
        wait_for(lambda: all(serving(worker) == second for worker in alive), "both serve the second", alive)
        all_partitions_have(second, alive)

        alive.append(workers.new("w3").start().wait_until_ready())  # the second rebalance: one joins
        third = publish_model(workers, *artefact([5.0, 6.0], features=FEATURES))
        wait_for(lambda: all(serving(worker) == third for worker in alive), "all serve the third", alive)
        all_partitions_have(third, alive)
        for worker, pid in zip(started[:2], pids, strict=False):
            assert worker.process.pid == pid
            assert worker.is_running
        predictions = reader.read(topic)
    for partition, messages in by_partition(predictions):
        # Never back to an older version or to the detector: every worker held all before it scored.
        assert versions(messages) == ["builtin-1", first, second, third], partition
    ids = [json.loads(message.value())["id"] for message in predictions]
    assert len(ids) == len(set(ids))


def all_partitions_have_any(reader: Reader, topic: str) -> bool:
    return len(dict(by_partition(reader.read(topic)))) == N_PARTITIONS


def test_a_refused_artefact_leaves_the_old_model_serving_in_a_worker(
    kafka_broker: KafkaBroker, workers: Workers
) -> None:
    worker = workers.new("only").start().wait_until_ready()
    good = publish_model(workers, *artefact([1.0, 2.0], features=FEATURES))
    wait_for(lambda: serving(worker) == good, "the model serves", [worker])
    onnx_bytes, metadata = artefact([1.0, 2.0, 3.0], features=FEATURES)  # three inputs, two features
    settings = Settings(**{str(name): value for name, value in workers.settings.items()})  # type: ignore[arg-type]
    with pytest.raises(ArtefactError):
        load_artefact(onnx_bytes, metadata, max_bytes=10**7)
    asyncio.run(
        publish(settings, "pump", onnx_bytes, metadata)
    )  # past the command that would have refused it

    def refusals() -> list[dict[str, Any]]:
        return worker.get("/api/models")[1]["refusals"]

    (refused,) = wait_for(refusals, "the refusal in the view", [worker])
    assert "(n, 2) needed" in refused["reason"]
    assert "refused" in worker.read_log()
    assert serving(worker) == good
