from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Coroutine
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.embedded import EmbeddedBroker
from app.pacing import Pace
from app.replay import ReplaySummary, open_producer, replay_events
from app.settings import Settings
from app.sources import Event, SourceOptions, open_source
from app.topics import ensure_topics

ROOT = Path(__file__).parents[2]
PARTITIONS = 4


def settings_of(url: str, topic: str) -> Settings:
    return Settings(broker=url, topic_events=topic, partitions=PARTITIONS)


def fleet(n_events: int, n_entities: int = 37) -> list[Event]:
    return list(islice(open_source("fleet", SourceOptions(entities=n_entities, seed=4)), n_events))


async def send(settings: Settings, events: Any, **options: Any) -> ReplaySummary:
    await ensure_topics(settings)
    async with open_producer(settings) as producer:
        return await replay_events(events, producer, settings.topic_events, **options)


async def read_all(settings: Settings) -> list[Any]:
    """All records of the topic; per partition in order of their offsets."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = [TopicPartition(settings.topic_events, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        records: list[Any] = []
        behind = set(places)
        while behind:
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                records += batch
            # The embedded broker's answer to "which offset is the end" is that of its last batch's first
            # record; what comes with fetched records is right.
            behind = {
                place
                for place in behind
                if consumer.highwater(place) is None
                or await consumer.position(place) < consumer.highwater(place)
            }
        return records
    finally:
        await consumer.stop()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 120))


@pytest.mark.parametrize("broker_fixture", ["embedded_broker", "kafka_broker"])
def test_every_event_arrives_once_in_order_per_key_where_its_key_belongs(
    broker_fixture: str, request: pytest.FixtureRequest
) -> None:
    settings = settings_of(request.getfixturevalue(broker_fixture).url, "replay-exact")
    reference = settings_of(settings.broker, "replay-reference")
    events = fleet(50_000)

    async def test() -> None:
        summary = await send(settings, events)
        assert summary.n_events == len(events)
        records = await read_all(settings)
        assert len(records) == len(events)
        sent, received = defaultdict(list), defaultdict(list)
        for event in events:
            sent[event.key].append((event.timestamp, event.features, event.label))
        for record in records:
            value = msgspec.json.decode(record.value)
            assert set(value) == {"timestamp", "features", "label"}
            received[record.key].append((value["timestamp"], value["features"], value["label"]))
        assert received == sent
        # The client's own way of choosing a partition is what every other producer does.
        await ensure_topics(reference)
        async with open_producer(reference) as producer:
            chosen = {
                key: (await producer.send_and_wait(reference.topic_events, b"{}", key=key)).partition
                for key in sent
            }
        assert {record.key: record.partition for record in records} == chosen
        assert len(set(chosen.values())) == PARTITIONS

    run(test())


def test_the_time_of_a_record_is_when_it_was_sent(embedded_broker: EmbeddedBroker) -> None:
    settings = settings_of(embedded_broker.url, "replay-record-time")

    async def test() -> None:
        before = time.time()
        await send(settings, fleet(100))
        after = time.time()
        for record in await read_all(settings):
            assert before - 0.001 <= record.timestamp / 1_000 <= after
            assert msgspec.json.decode(record.value)["timestamp"] < before - 3_600

    run(test())


def test_now_stamps_events_with_the_present(embedded_broker: EmbeddedBroker) -> None:
    settings = settings_of(embedded_broker.url, "replay-now")

    async def test() -> None:
        before = time.time()
        await send(settings, fleet(200), pace=Pace(rate=400, now=True))
        times = sorted(msgspec.json.decode(record.value)["timestamp"] for record in await read_all(settings))
        assert before <= times[0]
        assert times[-1] <= time.time()
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert gaps == pytest.approx([1 / 400] * 199, abs=1e-5)

    run(test())


def test_a_rate_is_kept(embedded_broker: EmbeddedBroker) -> None:
    settings = settings_of(embedded_broker.url, "replay-rate")
    summary = run(send(settings, fleet(2_000), pace=Pace(rate=1_000)))
    assert summary.seconds == pytest.approx(2.0, rel=0.25)


def test_stopping_keeps_what_was_sent(embedded_broker: EmbeddedBroker) -> None:
    settings = settings_of(embedded_broker.url, "replay-stop")

    async def test() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().call_later(1.0, stopping.set)
        summary = await send(settings, open_source("fleet"), pace=Pace(rate=2_000), stopping=stopping)
        assert 0 < summary.n_events < 20_000
        assert len(await read_all(settings)) == summary.n_events

    run(test())


def test_nothing_to_send_is_no_error(embedded_broker: EmbeddedBroker) -> None:
    assert run(send(settings_of(embedded_broker.url, "replay-nothing"), [])).n_events == 0


def test_an_event_too_large_for_the_broker_is_an_error(kafka_broker: Any) -> None:
    settings = settings_of(kafka_broker.url, "replay-large")
    large = Event(b"a", 1.0, {f"feature-{number}": 1.0 for number in range(80_000)})
    with pytest.raises(Exception, match=r"(?i)large"):
        run(send(settings, [large]))


def replay_command(*arguments: str, **environment: str) -> list[str] | Any:
    return {
        "args": [sys.executable, "-m", "faust", "-A", "app", "replay", *arguments],
        "cwd": ROOT,
        "env": {**os.environ, **environment},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def test_the_command_sends_a_file_and_sums_up(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    path = tmp_path / "plant.csv"
    path.write_text("sensor,time,heat\n" + "".join(f"s{i % 5},{1_000 + i},{i}\n" for i in range(1_000)))
    done = subprocess.run(
        **replay_command(str(path), "--topic", "replay-command", NOWCAST_BROKER=embedded_broker.url),
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "key: sensor, time: time, label: none, features: heat" in done.stdout
    assert "1,000 events to replay-command in" in done.stdout
    records = run(read_all(settings_of(embedded_broker.url, "replay-command")))
    assert sorted(int(msgspec.json.decode(record.value)["features"]["heat"]) for record in records) == list(
        range(1_000)
    )


def test_ctrl_c_ends_the_command_in_order(embedded_broker: EmbeddedBroker) -> None:
    arguments = ["fleet", "--rate", "500", "--topic", "replay-interrupt"]
    settings = settings_of(embedded_broker.url, "replay-interrupt")
    with subprocess.Popen(**replay_command(*arguments, NOWCAST_BROKER=embedded_broker.url)) as process:
        try:
            deadline = time.monotonic() + 30
            run(ensure_topics(settings))
            while not run(read_all(settings)) and time.monotonic() < deadline:
                pass
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    assert output.rstrip().endswith("stopped")
    n_sent = int(output.splitlines()[-1].split()[0].replace(",", ""))
    assert len(run(read_all(settings))) == n_sent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fleet"], "nowcast: cannot reach Kafka at kafka://127.0.0.1:1 (NOWCAST_BROKER)"),
        (["absent.csv"], "nowcast: no such file: absent.csv"),
        ([], "nowcast: replay what?"),
    ],
)
def test_a_failure_of_the_command_is_one_line(arguments: list[str], message: str) -> None:
    done = subprocess.run(**replay_command(*arguments, NOWCAST_BROKER="kafka://127.0.0.1:1"), timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_the_command_lists_the_data_sets() -> None:
    done = subprocess.run(**replay_command("--list"), timeout=60)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "shuttle",
        "water-flow",
        "sp500",
        "fleet",
        "payments",
    ]


@pytest.mark.parametrize("broker_fixture", ["embedded_broker", "kafka_broker"])
def test_late_labels_name_the_offsets_that_their_events_have(
    broker_fixture: str, request: pytest.FixtureRequest
) -> None:
    topics = {"topic_events": "replay-late", "topic_labels": "replay-late-labels"}
    settings = Settings(broker=request.getfixturevalue(broker_fixture).url, partitions=PARTITIONS, **topics)
    environment = {f"NOWCAST_{name.upper()}": topic for name, topic in topics.items()}
    arguments = [
        "payments",
        "--limit",
        "4000",
        "--label-delay",
        "0.5",
        "--rate",
        "4000",
        "--change-after",
        "9",
    ]
    before = time.time()
    done = subprocess.run(
        **replay_command(*arguments, NOWCAST_BROKER=settings.broker, **environment), timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "4,000 events to replay-late in" in done.stdout
    assert "4,000 labels to replay-late-labels" in done.stdout
    records = run(read_all(settings))
    sent = {f"replay-late-{record.partition}-{record.offset}": record for record in records}
    assert len(sent) == 4_000
    source = open_source("payments", SourceOptions(change_after=9))
    label_of = {(event.key, event.timestamp): event.label for event in islice(source, 4_000)}
    labels = run(read_all(settings.model_copy(update={"topic_events": "replay-late-labels"})))
    assert len(labels) == 4_000
    for record in labels:
        value = msgspec.json.decode(record.value)
        event = sent.pop(value["id"])
        content = msgspec.json.decode(event.value)
        assert (record.key, record.partition) == (event.key, event.partition)
        assert set(content) == {"timestamp", "features"}
        assert value["label"] == label_of[event.key, content["timestamp"]]
        assert before < event.timestamp / 1_000 < record.timestamp / 1_000 - 0.4
