"""Rebalances, crashes and restarts: no event is lost, none is learnt twice."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from tests.live.brokers import KafkaBroker
from tests.live.streams import (
    EventProducer,
    Reader,
    check_statistics,
    event_id,
    expected_statistics,
    make_events,
    produce,
)
from tests.live.watched import Watch
from tests.live.workers import Worker, Workers, wait_for

WATCHED = "tests.live.watched"
N_PARTITIONS = 4
N_ENTITIES = 40


def predicted_ids(predictions: list[Message]) -> dict[str, list[dict[str, Any]]]:
    """Return all predictions by id."""
    found = defaultdict(list)
    for message in predictions:
        prediction = json.loads(message.value())
        found[prediction["id"]].append({**prediction, "partition": message.partition()})
    return found


def check_predictions(events: list[Message], predictions: list[Message]) -> None:
    """Every event is predicted; what was predicted twice has the same id and is about the same event."""
    found = predicted_ids(predictions)
    assert set(found) == set(map(event_id, events))
    for event in events:
        for prediction in found[event_id(event)]:
            assert prediction["key"] == event.key().decode()
            assert prediction["partition"] == event.partition()
            assert prediction["timestamp"] == json.loads(event.value())["timestamp"]


def check_state(worker: Worker, events: list[Message]) -> None:
    """Every entity's statistics are those of all its events, each taken once."""
    for key, expected in expected_statistics(events).items():
        status, found = wait_for(
            # 503 while a rebalance is not over, which is no answer yet
            lambda key=key: (answer := worker.get(f"/api/statistics/{key}"))[0] != 503 and answer,
            f"an answer about {key}",
            [worker],
        )
        assert status == 200, (key, found)
        check_statistics(found, expected)


def is_settled(workers: list[Worker]) -> bool:
    """Tell whether these are the group: all ready, each partition held once."""
    status, body = workers[0].get("/api/workers")
    rows = body["workers"] if status == 200 else []
    return (
        len(rows) == len(workers)
        and not body["unanswered"]
        and all(row["state"] == "ready" for row in rows)
        and sorted(p for row in rows for p in row["partitions"]) == list(range(N_PARTITIONS))
    )


def n_in_memory(worker: Worker) -> int:
    """Return how many entities the workers have in memory, all together."""
    _, body = worker.get("/api/workers")
    return sum(row["n_entities"] for row in body["workers"])


@contextmanager
def stream_of_events(bootstrap: str, topic: str, per_second: int) -> Iterator[None]:
    """Send events all the while."""
    producer = EventProducer(bootstrap, topic)
    events = make_events(60_000, N_ENTITIES)
    over = threading.Event()

    def send() -> None:
        n_sent, started = 0, time.monotonic()
        while not over.wait(0.02):
            due = min(int((time.monotonic() - started) * per_second), len(events))
            producer.send(events[n_sent:due])
            n_sent = due

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        producer.flush()


def wait_until_all_predicted(reader: Reader, settings: dict[str, object], workers: list[Worker]) -> None:
    """Wait until the group has committed everything; then every prediction is there."""
    topic = str(settings["topic_events"])
    wait_for(lambda: reader.committed(topic) == reader.end_offsets(topic), "all events committed", workers)


def test_workers_that_join_leave_and_die_amid_a_stream_lose_nothing_and_learn_nothing_twice(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    with (
        Workers(tmp_path, kafka_broker.url) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        topic, predictions = (str(workers.settings[f"topic_{name}"]) for name in ("events", "predictions"))
        one, two, three = (workers.new(name) for name in ("one", "two", "three"))
        one.start().wait_until_ready()
        with stream_of_events(kafka_broker.bootstrap, topic, per_second=1_000):
            two.start()
            wait_for(lambda: is_settled([one, two]), "two workers", [one, two])
            three.start()
            wait_for(lambda: is_settled([one, two, three]), "three workers", [one, two, three])
            # Each entity in the memory of one worker: who gave a partition up has let go of its entities.
            wait_for(lambda: n_in_memory(one) == N_ENTITIES, "entities held once", [one, two, three])
            assert two.stop() == 0
            wait_for(lambda: is_settled([one, three]), "two left", [one, three])
            n_before = reader.n_records(predictions)
            wait_for(lambda: reader.n_records(predictions) > n_before, "they go on", [one, three])
            one.kill()
            wait_for(lambda: is_settled([three]), "one left", [three])
        wait_until_all_predicted(reader, workers.settings, [three])
        events = reader.read(topic)
        check_predictions(events, reader.read(predictions))
        check_state(three, events)


def test_batches_of_an_older_generation_are_not_scored(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    watch, other_watch = Watch(tmp_path / "watch"), Watch(tmp_path / "other-watch")
    with (
        Workers(tmp_path, kafka_broker.url, WATCHED, batch_events=100) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        topic, predictions = (str(workers.settings[f"topic_{name}"]) for name in ("events", "predictions"))
        # Held with the first batch in hand, more of them queued, and nothing ever committed.
        watch.hold()
        first = workers.new("first", watch.environment).start().wait_until_ready()
        produce(kafka_broker.bootstrap, topic, make_events(8_000, N_ENTITIES))
        wait_for(watch.batches, "a batch in hand", [first])
        since = len(first.read_log())
        second = workers.new("second", other_watch.environment).start()
        wait_for(lambda: "Wait for streams" in first.read_log()[since:], "a rebalance", [first])
        assert not watch.scored()
        assert set(reader.committed(topic).values()) == {-1001}
        watch.release()
        wait_until_all_predicted(reader, workers.settings, [first, second])
        # Had a queued batch been scored, its events would have been scored again after the rebalance.
        scored = watch.scored() + other_watch.scored()
        offsets = [(batch["partition"], offset) for batch in scored for offset in batch["offsets"]]
        assert len(offsets) == len(set(offsets)) == 8_000
        in_hand, *later = watch.scored()
        assert all(batch["generation"] > in_hand["generation"] for batch in later)
        assert len(predicted_ids(reader.read(predictions))) == reader.n_records(predictions) == 8_000


@pytest.mark.parametrize(
    ("store", "left"),
    [("rocksdb://", "kept"), ("rocksdb://", "lost"), ("memory://", "kept")],
    ids=["store-kept", "store-lost", "store-in-memory"],
)
def test_a_worker_killed_amid_a_stream_goes_on_where_it_was(
    kafka_broker: KafkaBroker, tmp_path: Path, store: str, left: str
) -> None:
    n_events = 10_000
    watch = Watch(tmp_path / "watch")
    with (
        Workers(tmp_path, kafka_broker.url, WATCHED, store=store, batch_events=100) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        topic, predictions = (str(workers.settings[f"topic_{name}"]) for name in ("events", "predictions"))

        def n_committed() -> int:
            return sum(max(offset, 0) for offset in reader.committed(topic).values())

        watch.hold("slow", "0.03")
        worker = workers.new("only", watch.environment).start().wait_until_ready()
        produce(kafka_broker.bootstrap, topic, make_events(n_events, N_ENTITIES))
        wait_for(lambda: len(watch.scored()) >= 30 and n_committed() > 0, "thirty batches scored", [worker])
        worker.kill()
        assert 0 < n_committed() < n_events
        if left == "lost":
            shutil.rmtree(worker.data_dir)
        watch.release("slow")
        worker.start()
        wait_until_all_predicted(reader, workers.settings, [worker])
        events = reader.read(topic)
        check_predictions(events, reader.read(predictions))
        check_state(worker, events)
