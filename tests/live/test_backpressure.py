"""A slow model, a flood, a broker that stands still: memory stays bounded, nobody leaves, lag falls."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import KafkaException, Message

from app.settings import Settings
from compute.dead_letters import read_dead_letter_headers
from tables.artefact_records import pack_metadata, publish
from tests.artefacts import linear, looping
from tests.live.brokers import KafkaBroker
from tests.live.streams import EventProducer, Reader, event_id, make_events, produce
from tests.live.test_recovery import check_predictions, check_state
from tests.live.watched import Watch
from tests.live.workers import ROOT, Worker, Workers, wait_for

WATCHED = "tests.live.watched"
N_PARTITIONS = 2
SESSION_SECONDS = 6
ENDLESS = 1e15
"""Rounds that no model is done with."""

FLOOD_PER_SECOND, FLOOD_SECONDS = 30_000, 3.0
"""About ten times what a worker can do whose model takes 30 ms for each 100 events."""

GROWTH_LIMIT_MB = 90.0
"""Of memory after the first tenth of a flood: 58 MB that wait for the broker at most, and what the store and
pending labels take. All of its events would take several times as much."""


def work(n_events: int, rounds: float, first: int = 0) -> list[tuple[bytes, bytes]]:
    """Make events that ask a looping model for so many rounds."""
    return [
        (
            b"sensor-%d" % (i % 50),
            b'{"timestamp": %d, "features": {"rounds": %d, "value": %d}}'
            % (1_700_000_000 + i // 100, rounds, i % 7),
        )
        for i in range(first, first + n_events)
    ]


def publish_model(workers: Workers, graph: Any) -> None:
    settings = Settings(**{str(name): value for name, value in workers.settings.items()})  # type: ignore[arg-type]
    onnx_bytes = graph.SerializeToString()
    fields = {"name": "worker", "kind": "regression", "features": ["rounds", "value"], "normaliser": "none"}
    asyncio.run(publish(settings, "worker", onnx_bytes, pack_metadata(onnx_bytes, fields)))


def source_of(letter: Message) -> str:
    found = read_dead_letter_headers(letter.headers())
    assert found is not None
    reason = found[0]
    assert (reason.code, reason.stage) == ("model-timeout", "score")
    return f"{reason.topic}-{reason.partition}-{reason.offset}"


def predicted(messages: Iterable[Message]) -> set[str]:
    return {json.loads(message.value())["id"] for message in messages}


class Place:
    """One worker, its topics, and what can be seen of them from outside."""

    def __init__(self, workers: Workers, reader: Reader, watch: Watch, bootstrap: str) -> None:
        self.workers, self.reader, self.watch, self.bootstrap = workers, reader, watch, bootstrap
        self.events, self.predictions, self.dead_letters = (
            str(workers.settings[f"topic_{name}"]) for name in ("events", "predictions", "dead_letters")
        )
        self.worker = workers.new("only", watch.environment)
        self.samples: list[tuple[int, float]] = []

    def start(self) -> Worker:
        return self.worker.start().wait_until_ready()

    def flood(self, events: Iterable[tuple[bytes, bytes]]) -> None:
        """Send events as fast as that goes, and wait until the broker has them."""
        producer = EventProducer(
            self.bootstrap, self.events, **{"queue.buffering.max.messages": 1_000_000, "linger.ms": 50}
        )
        producer.send(events)
        producer.flush()

    def lag(self) -> int:
        ends, committed = self.reader.end_offsets(self.events), self.reader.committed(self.events)
        return sum(ends.values()) - sum(max(offset, 0) for offset in committed.values())

    def wait_until_no_lag(self, seconds: float = 240.0) -> None:
        def look() -> bool:
            try:
                self.sample()
                return self.lag() == 0
            except KafkaException:  # a broker that stood still has no leaders for a moment
                return False

        wait_for(look, "no lag", [self.worker], seconds)

    def sample(self) -> float:
        """Note how many events are predicted, and the memory that the worker has."""
        memory_mb = psutil.Process(self.worker.process.pid).memory_info().rss / 1e6
        self.samples.append((self.reader.n_records(self.predictions), memory_mb))
        return memory_mb

    def growth_mb(self) -> float:
        """Return by how much memory grew at most once the first tenth was done."""
        total = self.samples[-1][0]
        later = [memory_mb for n_predicted, memory_mb in self.samples if n_predicted >= total / 10]
        return max(later) - later[0]

    def generations(self) -> set[int]:
        return {batch["generation"] for batch in self.watch.batches()}

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "faust", "-A", "app", *arguments],
            cwd=ROOT,
            env=self.worker._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def place_of(broker: KafkaBroker, folder: Path, **settings: object) -> Any:
    with (
        Workers(folder, broker.url, WATCHED, partitions=N_PARTITIONS, **settings) as workers,
        Reader(broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        yield Place(workers, reader, Watch(folder / "watch"), broker.bootstrap)


def test_a_model_slower_than_the_session_costs_its_own_events_and_no_member(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    assert SESSION_SECONDS == 6  # what Workers asks for
    with place_of(kafka_broker, tmp_path, model_timeout_seconds=8) as place:
        worker = place.start()
        publish_model(place.workers, looping())
        wait_for(lambda: worker.get("/api/models")[1]["models"], "a model", [worker])
        parts = [
            work(100, 10),
            work(1, ENDLESS, 100),
            work(100, 10, 101),
            work(1, ENDLESS, 201),
            work(100, 10, 202),
        ]
        events = [event for part in parts for event in part]
        produce(kafka_broker.bootstrap, place.events, events, partition=0)

        wait_for(lambda: worker.get("/api/statistics/sensor-1")[0] == 200, "an entity's view", [worker])
        slowest, answers = 0.0, 0

        def all_are_done() -> bool:
            nonlocal slowest, answers
            started = time.monotonic()
            for path in ("/health/ready", "/api/statistics/sensor-1", "/api/models"):
                answer = worker.get(path)
                assert answer[0] == 200, answer
                answers += 1
            slowest = max(slowest, time.monotonic() - started)
            return place.lag() == 0

        wait_for(all_are_done, "no lag", [worker])
        assert answers > 100
        assert slowest < 2.0
        read = place.reader.read(place.events)
        lost, found = (
            [source_of(m) for m in place.reader.read(place.dead_letters)],
            place.reader.read(place.predictions),
        )
        assert {event_id(m) for m in read if json.loads(m.value())["features"]["rounds"] == ENDLESS} <= set(
            lost
        )
        assert len(lost) == len(set(lost)) < 200
        assert set(lost) | predicted(found) == set(map(event_id, read))
        assert len(lost) + len(found) == len(read) == 302
        assert worker.metric("nowcast_model_timeouts_total") == 2
        assert worker.metric('nowcast_dead_letters_total{code="model-timeout"}') == len(lost)

        # A version that works serves at once, and takes what the other could not.
        publish_model(place.workers, linear([0.0, 1.0]))
        wait_for(lambda: worker.get("/api/models/worker")[1]["versions"][1:], "a second version", [worker])
        assert f"{len(lost)}" in place.command("dead-letters", "retry", "--code", "model-timeout")
        place.wait_until_no_lag()
        assert place.reader.n_records(place.predictions) == 302
        assert len(place.generations()) == 1


def test_a_better_model_need_not_wait_for_a_batch_that_the_slow_one_would_take_hours_for(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    with place_of(kafka_broker, tmp_path, model_timeout_seconds=0.5) as place:
        worker = place.start()
        publish_model(place.workers, looping())
        wait_for(lambda: worker.get("/api/models")[1]["models"], "a model", [worker])
        produce(kafka_broker.bootstrap, place.events, work(20_000, ENDLESS))
        wait_for(lambda: place.reader.n_records(place.dead_letters) >= 4, "the first dead letters", [worker])
        assert place.lag() > 19_000
        publish_model(place.workers, linear([0.0, 1.0]))
        place.wait_until_no_lag()
        n_lost = place.reader.n_records(place.dead_letters)
        assert 4 <= n_lost < 1_000
        assert place.reader.n_records(place.predictions) == 20_000 - n_lost
        assert len(place.generations()) == 1


def test_a_flood_of_events_at_once_takes_time_and_no_memory(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    n_events = 300_000
    with place_of(kafka_broker, tmp_path, batch_events=250) as place:
        worker = place.start()
        publish_model(place.workers, looping())
        wait_for(lambda: worker.get("/api/models")[1]["models"], "a model", [worker])
        place.flood(work(n_events, 20_000))
        assert place.lag() > 0
        place.wait_until_no_lag()
        assert place.reader.n_records(place.predictions) == n_events
        assert place.reader.n_records(place.dead_letters) == 0
        assert place.growth_mb() < GROWTH_LIMIT_MB, place.samples
        assert len(place.generations()) == 1


def test_a_flood_of_ten_times_the_capacity_is_worked_off(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    with place_of(kafka_broker, tmp_path, batch_events=100) as place:
        worker = place.start()
        publish_model(place.workers, looping())
        wait_for(lambda: worker.get("/api/models")[1]["models"], "a model", [worker])
        n_sent, started = 0, time.monotonic()
        while (seconds := time.monotonic() - started) < FLOOD_SECONDS:
            due = int(seconds * FLOOD_PER_SECOND)
            place.flood(work(due - n_sent, 100_000, n_sent))
            n_sent = due
            place.sample()
            assert worker.get("/health/ready")[0] == 200
        n_predicted = place.samples[-1][0]
        assert 0 < n_predicted < n_sent / 5
        assert place.lag() > n_sent / 2
        place.wait_until_no_lag()
        assert place.reader.n_records(place.predictions) == n_sent
        assert place.reader.n_records(place.dead_letters) == 0
        assert place.growth_mb() < GROWTH_LIMIT_MB, place.samples
        assert len(place.generations()) == 1
        produce(kafka_broker.bootstrap, place.events, work(100, 10, n_sent))  # and goes on as ever
        place.wait_until_no_lag()


def test_a_broker_that_stands_still_amid_a_stream_costs_neither_events_nor_memory(
    own_kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    n_events = 300_000
    with place_of(own_kafka_broker, tmp_path) as place:
        worker = place.start()
        place.flood(make_events(n_events, 40))
        wait_for(lambda: place.sample() and place.samples[-1][0] > n_events / 10, "a tenth", [worker])
        before_mb, pid = place.samples[-1][1], own_kafka_broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            largest_mb, until = 0.0, time.monotonic() + 2 * SESSION_SECONDS
            while time.monotonic() < until:
                assert worker.is_running
                largest_mb = max(largest_mb, psutil.Process(worker.process.pid).memory_info().rss / 1e6)
                time.sleep(0.1)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert largest_mb - before_mb < GROWTH_LIMIT_MB
        place.wait_until_no_lag()
        assert place.growth_mb() < GROWTH_LIMIT_MB, place.samples
        events = place.reader.read(place.events)
        check_predictions(events, place.reader.read(place.predictions))
        check_state(worker, events)
        assert worker.stop() == 0
