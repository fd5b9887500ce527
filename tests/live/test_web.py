"""The web views of real workers: any of them answers for all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from confluent_kafka import Producer

from tests.live.brokers import KafkaBroker
from tests.live.workers import Worker, Workers, wait_for

TOKEN = "s3cret"
N_EVENTS = 25
PARTITIONERS = ("consistent_random", "murmur2_random")  # librdkafka's default (CRC32), and Java's


def get(worker: Worker, path: str, token: str = TOKEN) -> tuple[int, Any]:
    return worker.get(path, token)


def is_settled(workers: list[Worker]) -> bool:
    """Tell whether each lists all of them as ready, with every partition placed once."""
    for worker in workers:
        status, body = get(worker, "/api/workers")
        if status != 200 or body["unanswered"] or len(body["workers"]) != len(workers):
            return False
        if any(row["state"] != "ready" for row in body["workers"]):
            return False
        if sorted(p for row in body["workers"] for p in row["partitions"]) != [0, 1, 2, 3]:
            return False
    return True


@pytest.fixture
def group(kafka_broker: KafkaBroker, tmp_path: Path) -> Iterator[Workers]:
    with Workers(tmp_path, kafka_broker.url, token=TOKEN) as group:
        yield group


@pytest.fixture
def workers(group: Workers) -> list[Worker]:
    started = [group.new(f"w{i}", instance_id=f"{group.settings['group']}-{i}") for i in range(3)]
    started[0].start().wait_until_ready()  # creates the topics
    for worker in started[1:]:
        worker.start()
    wait_for(lambda: is_settled(started), "three workers ready", started)
    return started


def produce(bootstrap: str, topic: str, keys: dict[str, list[str]]) -> None:
    """Send `N_EVENTS` events for each key, with each partitioner its own keys."""
    start = time.time() - N_EVENTS
    for partitioner, names in keys.items():
        producer = Producer({"bootstrap.servers": bootstrap, "partitioner": partitioner})
        for i in range(N_EVENTS):
            value = json.dumps({"timestamp": start + i, "features": {"temperature": 20.0 + i}})
            for name in names:
                producer.produce(topic, value, key=name.encode())
        assert producer.flush(30) == 0


def test_every_worker_gives_the_same_answer_for_a_key_whoever_partitioned_it(
    kafka_broker: KafkaBroker, group: Workers, workers: list[Worker]
) -> None:
    topic = str(group.settings["topic_events"])
    keys = {partitioner: [f"{partitioner}/{i} ü%" for i in range(12)] for partitioner in PARTITIONERS}
    names = [name for some in keys.values() for name in some]
    produce(kafka_broker.bootstrap, topic, keys)
    n_all = N_EVENTS * len(names)

    def n_scored() -> int:
        return sum(row["n_predictions"] for row in get(workers[0], "/api/workers")[1]["workers"])

    wait_for(lambda: n_scored() >= n_all, f"{n_all} events scored", workers)

    partitions = {}
    for name in names:
        path = quote(name, safe="")
        answers = [get(worker, f"/api/statistics/{path}") for worker in workers]
        assert answers == [answers[0]] * 3
        status, body = answers[0]
        assert (status, body["key"], body["n_events"]) == (200, name, N_EVENTS)
        temperature = body["features"]["temperature"]
        assert (temperature["count"], temperature["min"], temperature["max"]) == (N_EVENTS, 20, 44)
        assert temperature["mean"] == pytest.approx(32)
        partitions[name] = body["partition"]
        lists = [get(worker, f"/api/predictions/{path}?limit=5") for worker in workers]
        assert lists == [lists[0]] * 3
        found = lists[0][1]["predictions"]
        assert len(found) == 5
        assert found == sorted(found, key=lambda item: -item["timestamp"])
        assert {item["key"] for item in found} == {name}
    assert set(partitions.values()) == {0, 1, 2, 3}  # else this proved little

    for worker in workers:
        assert get(worker, "/api/statistics/nobody")[0] == 404
        assert get(worker, "/api/statistics/nobody", "wrong")[0] == 401
        assert "nowcast_events_total" in get(worker, "/metrics")[1]

    # One leaves. Until its partitions are recovered elsewhere the answer is "not now", and never "not known".
    workers[2].stop()
    rest = workers[:2]
    seen = set()

    def all_found() -> bool:
        statuses = [
            get(worker, f"/api/statistics/{quote(name, safe='')}")[0] for name in names for worker in rest
        ]
        seen.update(statuses)
        return set(statuses) == {200} and is_settled(rest)

    wait_for(all_found, "every key found again", rest)
    assert seen <= {200, 503}
    for name in names:
        answers = [get(worker, f"/api/statistics/{quote(name, safe='')}") for worker in rest]
        assert answers == [answers[0]] * 2
        assert answers[0][1]["n_events"] == N_EVENTS


def test_a_worker_is_live_while_it_is_not_yet_ready(workers: list[Worker]) -> None:
    worker = workers[2]
    worker.stop()
    worker.start()
    seen = []

    def is_ready() -> bool:
        live, ready = worker.get("/health/live")[0], worker.get("/health/ready")[0]
        seen.append((live, ready))
        return ready == 200

    wait_for(is_ready, "the worker ready again", [worker])
    assert (200, 503) in seen
    assert all(live == 200 for live, ready in seen if ready)
