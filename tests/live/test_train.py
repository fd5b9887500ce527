from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Coroutine
from itertools import islice
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.embedded import EmbeddedBroker
from app.replay import Partitioner, open_producer, replay_events
from app.settings import Settings
from app.sources import open_source
from app.topics import StartError, ensure_topics
from app.training.request import Request
from app.training.topics import Gathered, read_topics
from compute.artefact import load_artefact
from compute.training.sample import Sample
from tests.live.workers import ROOT, TOPICS, worker_environment

SECONDS = 60.0
PARTITIONS = 2
N_EVENTS, N_ENTITIES = 6_000, 8
T0 = 1_700_000_000
DELAY_SECONDS = 300


@pytest.fixture(params=["embedded_broker", "kafka_broker"])
def broker(request: pytest.FixtureRequest) -> Any:
    """Give each kind of broker in turn."""
    return request.getfixturevalue(request.param)


def settings_of(broker: Any, **changed: Any) -> Settings:
    name = uuid.uuid4().hex[:8]
    topics = {f"topic_{topic}": f"{topic}-{name}" for topic in TOPICS}
    return Settings(broker=broker.url, group=f"nowcast-{name}", partitions=PARTITIONS, **topics, **changed)


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, SECONDS))


def event_of(i: int) -> tuple[bytes, dict[str, Any]]:
    """Return key and event, one each second; a third have a label of their own, which is their number."""
    value = {"timestamp": T0 + i, "features": {"heat": float(i * 7919 % 1013), "flow": float(i % 17)}}
    return b"pump-%d" % (i * 31 % N_ENTITIES), {**value, **({"label": i} if i % 3 == 0 else {})}


def label_of(i: int) -> tuple[Any, int] | None:
    """Return a later label and when it comes; of the events in the label's list, few come too late."""
    if i % 3 == 2:
        return None
    return i, T0 + i + (DELAY_SECONDS + 1 if i % 9 == 1 else DELAY_SECONDS - i % 5)


LABELLED = [i for i in range(N_EVENTS) if i % 3 == 0 or (i % 3 == 1 and i % 9 != 1)]


async def send(settings: Settings) -> dict[int, int]:
    """Send events and labels with times of their own; return how many events each partition has."""
    await ensure_topics(settings)
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, acks="all")
    await producer.start()
    partition_of, n_events = Partitioner(range(PARTITIONS)), dict.fromkeys(range(PARTITIONS), 0)
    try:
        labels = []
        for i in range(N_EVENTS):
            key, event = event_of(i)
            number = partition_of(key)
            told, offset = label_of(i), n_events[number]
            n_events[number] += 1
            await producer.send(
                *(settings.topic_events, json.dumps(event).encode(), key, number),
                timestamp_ms=(T0 + i) * 1_000,
            )
            if told is not None:
                label = -1 if i % 3 == 0 else told[0]  # an own label wins, whatever comes later
                value = {"id": f"{settings.topic_events}-{number}-{offset}", "label": label}
                labels.append((told[1], number, key, json.dumps(value).encode()))
        for seconds, number, key, encoded in sorted(labels):
            await producer.send(settings.topic_labels, encoded, key, number, timestamp_ms=seconds * 1_000)
        await producer.flush()
    finally:
        await producer.stop()
    return n_events


def request(max_events: int = 10**6, **changed: Any) -> Request:
    return Request("regression", "label", "pump", max_events=max_events, **changed)


def sample_of(gathered: Gathered) -> Sample:
    return gathered.rows.newest.take(normaliser="window", missing="mean")


def test_labelled_events_are_read_back_with_the_statistics_they_met(broker: Any) -> None:
    settings = settings_of(broker, label_delay_seconds=DELAY_SECONDS, window_seconds=240, warmup_events=5)
    n_events = run(send(settings))
    everything = request(from_offsets={None: 0})
    whole = run(read_topics(settings, everything))
    sample = sample_of(whole)
    assert whole.ranges == {number: (0, n) for number, n in n_events.items()}
    assert whole.rows.tally.n_events == N_EVENTS
    assert whole.rows.tally.n_late_labels == len(range(1, N_EVENTS, 9))
    assert whole.n_unreadable_labels == 0
    targets = sample.targets.astype(int).tolist()
    assert targets == LABELLED[-len(targets) :]
    assert len(LABELLED) - len(targets) == whole.rows.tally.n_warming_up < 40

    newest = run(read_topics(settings, request(300)))
    assert sample_of(newest).targets.astype(int).tolist() == LABELLED[-300:]
    np.testing.assert_allclose(sample_of(newest).inputs, sample.inputs[-300:], rtol=1e-9, atol=1e-12)
    # It read a window and more before the first of them, and not all of the topic.
    assert newest.rows.tally.n_events < N_EVENTS / 2
    assert all(first < T0 + LABELLED[-300] - 240 for first in newest.rows.first_seconds.values())

    few = run(read_topics(settings, request(100, from_offsets={None: 0})))
    assert sample_of(few).targets.astype(int).tolist() == LABELLED[-100:]
    assert few.rows.tally.n_older > N_EVENTS / 2  # no label that they have is held

    since, until = T0 + 3_000, T0 + 4_000
    between = sample_of(run(read_topics(settings, request(from_seconds=since, to_seconds=until))))
    chosen = (sample.timestamps >= since) & (sample.timestamps < until)
    assert between.targets.tolist() == sample.targets[chosen].tolist()
    np.testing.assert_allclose(between.inputs, sample.inputs[chosen], rtol=1e-9, atol=1e-12)

    since_few = run(read_topics(settings, request(100, from_seconds=since)))
    assert since_few.rows.tally.n_unlabelled >= 0  # labels of events before it are not asked for
    with pytest.raises(StartError, match=r"^--to: the topic has partitions 0 to \d+, received 99$"):
        run(read_topics(settings, request(to_offsets={99: 1})))

    bounded = run(read_topics(settings, request(from_offsets={0: 100}, to_offsets={None: 400})))
    assert bounded.ranges == {0: (100, 400)}
    own = run(read_topics(settings.model_copy(update={"label_delay_seconds": 0.0}), everything))
    assert set(sample_of(own).targets.astype(int) % 3) == {0}


def test_topics_without_events_are_told(embedded_broker: EmbeddedBroker) -> None:
    settings = settings_of(embedded_broker)
    with pytest.raises(StartError, match=r"\(NOWCAST_TOPIC_EVENTS\) does not exist at"):
        run(read_topics(settings, request()))
    run(ensure_topics(settings))
    gathered = run(read_topics(settings, request()))
    assert (gathered.ranges, gathered.rows.tally.n_events) == ({}, 0)


def command(settings: Settings, *arguments: str, general: tuple[str, ...] = ()) -> dict[str, Any]:
    changed = settings.model_dump(include=settings.model_fields_set)
    return {
        "args": [sys.executable, "-m", "faust", "-A", "app", *general, *arguments],
        "cwd": ROOT,
        "env": worker_environment(changed),
        "text": True,
    }


def faust(settings: Settings, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**command(settings, *arguments, **options), capture_output=True, timeout=SECONDS)


async def replay(settings: Settings, n_events: int) -> None:
    """Send card payments, each with its label."""
    await ensure_topics(settings)
    async with open_producer(settings) as producer:
        await replay_events(islice(open_source("payments"), n_events), producer, settings.topic_events)


async def read_models(settings: Settings) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(settings.topic_models, 0)])
        records: list[Any] = []
        while fetched := await consumer.getmany(timeout_ms=1_500):
            records += next(iter(fetched.values()))
        return records
    finally:
        await consumer.stop()


def test_the_first_model_serves_and_the_next_one_challenges(embedded_broker: EmbeddedBroker) -> None:
    settings = settings_of(embedded_broker)
    run(replay(settings, 6_000))
    train = ("train", "--task", "classification", "--candidates", "linear,tree", "--trials", "2")
    done = faust(settings, *train, "--name", "cards", "--by", "ann", "--reason", "first try")
    assert (done.returncode, done.stderr) == (0, "")
    assert "6,000 events read, 1,500 warming up" in done.stdout
    assert "training on 4,500 labelled events by amount" in done.stdout
    assert "log_loss" in done.stdout
    assert "published as champion to" in done.stdout

    again = faust(settings, *train, "--name", "cards")  # the same data and seed
    assert again.stdout.splitlines()[-1].endswith("serves already: nothing is published")
    told = faust(settings, *train, "--name", "cards", "--seed", "5", general=("--json",))
    assert (told.returncode, told.stderr) == (0, "")
    said = json.loads(told.stdout)
    assert (said["outcome"], said["role"], said["name"]) == ("published", "challenger", "cards")
    assert {item["candidate"] for item in said["report"]["candidates"]} == {"baseline", "linear", "tree"}

    records = run(read_models(settings))
    champion = next(record for record in records if record.key == b"cards")
    headers = dict(champion.headers)
    model = load_artefact(champion.value, headers["metadata"], max_bytes=10**7)
    assert set(model.metadata.trained_on["offsets"]) <= {"0", "1"}
    assert sum(end - start for start, end in model.metadata.trained_on["offsets"].values()) == 6_000
    assert headers["plot"].startswith(b"\x89PNG")
    assert json.loads(headers["report"])["winner"] == model.metadata.metrics["candidate"]
    decision = json.loads(headers["decision"])
    assert (decision["action"], decision["by"], decision["reason"]) == ("promote", "ann", "first try")
    assert decision["evidence"]["held_out"] == model.metadata.metrics["held_out"]
    assert f"cards@{said['version']}".encode() in {record.key for record in records}


def test_a_signal_ends_a_training_with_one_line(embedded_broker: EmbeddedBroker) -> None:
    settings = settings_of(embedded_broker)
    arguments = ("train", "payments", "--limit", "8000", "--task", "classification", "--trials", "500")
    process = subprocess.Popen(
        **command(settings, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        line = ""
        while not line.startswith("baseline"):
            line = process.stdout.readline()
            assert line or process.poll() is None, process.communicate()
        assert os.getpriority(os.PRIO_PROCESS, process.pid) > os.getpriority(os.PRIO_PROCESS, 0)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (1, "nowcast: stopped before the end: nothing is published\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fleet", "--limit", "2000", "--target", "load"], "no labelled event is left to train on"),
        ([], "cannot reach Kafka at kafka://127.0.0.1:1 (NOWCAST_BROKER)"),
    ],
)
def test_a_training_that_cannot_be_ends_with_one_line(arguments: list[str], message: str) -> None:
    settings = Settings(broker="kafka://127.0.0.1:1")
    done = faust(settings, "train", *arguments, "--task", "classification")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"nowcast: {message}")
