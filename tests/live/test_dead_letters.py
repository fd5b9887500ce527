from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from confluent_kafka import Producer

from app.dead_letters.records import Choice
from app.dead_letters.retrying import TURN_RECORDS, Retry, retry_letters
from app.dead_letters.survey import Survey
from app.replay import open_producer
from app.settings import Settings
from app.topic_reading import open_topic
from app.topics import StartError, ensure_topics
from compute.dead_letters import dead_letter_headers
from tests.live.brokers import KafkaBroker
from tests.live.streams import Reader, produce
from tests.live.workers import ROOT, TOPICS, Workers, wait_for, worker_environment

SECONDS = 30.0
PARTITIONS = 2
OWN: list[tuple[str, Any]] = [("trace", b"\xff1"), ("error", b"mine"), ("empty", None), ("trace", b"2")]


@pytest.fixture(params=["embedded_broker", "kafka_broker"])
def broker(request: pytest.FixtureRequest) -> Any:
    """Give each kind of broker in turn."""
    return request.getfixturevalue(request.param)


def settings_of(broker: Any) -> Settings:
    name = uuid.uuid4().hex[:8]
    topics = {f"topic_{topic}": f"{topic}-{name}" for topic in TOPICS}
    return Settings(broker=broker.url, group=f"nowcast-{name}", partitions=PARTITIONS, **topics)


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, 2 * SECONDS))


async def send_letters(
    settings: Settings,
    offsets: range,
    code: str = "missing-feature",
    key: bytes | None = b"pump",
    value: bytes | None = b'{"a": \xff}',
) -> None:
    """Write dead letters as an agent does, many in one batch, partitions by turns."""
    async with open_producer(settings) as producer:
        for partition in range(PARTITIONS):
            mine = [offset for offset in offsets if offset % PARTITIONS == partition]
            for start in range(0, len(mine), 1_000):
                batch = producer.create_batch()
                for offset in mine[start : start + 1_000]:
                    headers = dead_letter_headers(
                        code, "why", settings.topic_events, partition, offset, "score"
                    )
                    batch.append(timestamp=None, key=key, value=value, headers=[*OWN, *headers])
                await (await producer.send_batch(batch, settings.topic_dead_letters, partition=partition))


async def look(settings: Settings, choice: Choice | None = None) -> Survey:
    async with open_topic(settings, settings.topic_dead_letters) as reading:
        assert reading is not None
        survey = Survey(choice or Choice(), 3)
        async for records in reading.read_all():
            survey.add(records)
        return survey


async def retry(
    settings: Settings, choice: Choice | None = None, producer: Any = None, **options: Any
) -> Retry:
    async with (
        open_topic(settings, settings.topic_dead_letters) as reading,
        open_producer(settings) as usual,
    ):
        assert reading is not None
        survey = Survey(choice or Choice())
        async for records in reading.read_all():
            survey.add(records)
        return await retry_letters(reading, producer or usual, survey.open_offsets(), **options)


def read_events(settings: Settings) -> list[Any]:
    """Read all of the events topic."""

    async def read() -> list[Any]:
        async with open_topic(settings, settings.topic_events) as reading:
            assert reading is not None
            return [record async for records in reading.read_all() for record in records]

    return run(read())


def test_dead_letters_go_back_with_original_bytes_key_and_headers_once(broker: Any) -> None:
    settings = settings_of(broker)

    async def test() -> None:
        await ensure_topics(settings)
        assert (await look(settings)).by_code() == {}
        await send_letters(settings, range(3_000))
        await send_letters(settings, range(500))  # a replay wrote them again
        await send_letters(settings, range(5_000, 5_100), "late-event", value=None)
        await send_letters(settings, range(6_000, 6_004), "missing-key", key=None, value=None)
        counts = {code: found.n for code, found in (await look(settings)).by_code().items()}
        assert counts == {"missing-feature": 3_000, "late-event": 100, "missing-key": 4}

        late = Choice(codes=frozenset(["late-event"]))
        assert (await retry(settings, late)).n_sent == 100
        assert (await retry(settings, late)).n_sent == 0
        assert (await retry(settings, limit=10)).n_sent == 10
        await send_letters(settings, range(100))  # again a replay, after some were retried
        survey = await look(settings)
        assert sum(survey.n_retried(code) for code in counts) == 110
        done = await retry(settings)
        assert (done.n_sent, done.n_refused) == (2_994, 0)
        assert (await retry(settings)).n_sent == 0
        assert not (await look(settings)).open_offsets()

    run(test())
    records = read_events(settings)
    assert len(records) == 3_104
    assert {record.headers for record in records} == {tuple(OWN)}
    contents = [(record.partition, record.key, record.value) for record in records]
    for partition in range(PARTITIONS):
        assert contents.count((partition, b"pump", b'{"a": \xff}')) == 1_500
        assert contents.count((partition, b"pump", None)) == 50
        assert contents.count((partition, None, None)) == 2


class NoMarkers(AIOKafkaProducer):
    """A producer that loses the broker when it should write the markers."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(bootstrap_servers=settings.bootstrap_servers)
        self._topic = settings.topic_dead_letters

    async def send(self, topic: str, *arguments: Any, **more: Any) -> Any:
        if topic == self._topic:
            raise KafkaConnectionError("gone")
        return await super().send(topic, *arguments, **more)


def test_a_crash_before_the_markers_sends_one_turn_twice_and_loses_none(embedded_broker: Any) -> None:
    settings = settings_of(embedded_broker)
    n_letters = 3 * TURN_RECORDS

    async def test() -> None:
        await ensure_topics(settings)
        await send_letters(settings, range(n_letters))
        async with NoMarkers(settings) as producer:
            with pytest.raises(StartError, match=r"stopped after 0 events: .*gone; run it again"):
                await retry(settings, producer=producer)
        assert (await retry(settings)).n_sent == n_letters

    run(test())
    assert n_letters < len(read_events(settings)) <= n_letters + TURN_RECORDS


def test_a_truncated_dead_letter_is_not_sent(embedded_broker: Any) -> None:
    settings = settings_of(embedded_broker)

    async def test() -> None:
        await ensure_topics(settings)
        headers = [
            *dead_letter_headers("too-large", "why", settings.topic_events, 0, 7, "decode"),
            ("truncated", b"9000000"),
        ]
        async with open_producer(settings) as producer:
            await producer.send_and_wait(settings.topic_dead_letters, b"{", b"pump", headers=headers)
        done = await retry(settings)
        assert (done.n_sent, done.n_refused) == (0, 1)
        assert "only its beginning is here" in done.refusal

    run(test())
    assert read_events(settings) == []


def test_an_event_that_the_broker_refuses_does_not_stop_the_others(kafka_broker: KafkaBroker) -> None:
    settings = settings_of(kafka_broker)

    async def test() -> None:
        await ensure_topics(settings)
        await send_letters(settings, range(1), value=b"x" * 1_200_000)
        await send_letters(settings, range(1, 20))
        done = await retry(settings)
        assert (done.n_sent, done.n_refused) == (19, 1)
        assert done.refusal.startswith(f"{settings.topic_events}-0-0: ")
        assert await look_open(settings) == 1

    run(test())
    assert len(read_events(settings)) == 19


async def look_open(settings: Settings) -> int:
    return sum(map(len, (await look(settings)).open_offsets().values()))


def test_what_a_transaction_took_back_was_never_a_dead_letter(kafka_broker: KafkaBroker) -> None:
    settings = settings_of(kafka_broker)
    run(ensure_topics(settings))
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap, "transactional.id": settings.group})
    producer.init_transactions(SECONDS)
    for offset in range(4):
        producer.begin_transaction()
        headers = dead_letter_headers("late-event", "why", settings.topic_events, 0, offset, "score")
        producer.produce(settings.topic_dead_letters, b"{}", b"pump", 0, headers=headers)
        if offset % 2:
            producer.flush(SECONDS)
            producer.abort_transaction(SECONDS)
        else:
            producer.commit_transaction(SECONDS)
    assert run(look(settings)).open_offsets() == {(settings.topic_events, 0): {0, 2}}
    # One that is still open keeps nobody waiting.
    producer.begin_transaction()
    producer.produce(settings.topic_dead_letters, b"{}", b"pump", 0, headers=headers)
    producer.flush(SECONDS)
    assert run(look(settings)).open_offsets() == {(settings.topic_events, 0): {0, 2}}
    producer.abort_transaction(SECONDS)


class Command:
    """`faust -A app dead-letters ...` as a user types it."""

    def __init__(self, settings: Any) -> None:
        chosen = settings if isinstance(settings, dict) else settings.model_dump(include=INCLUDED)
        self._environment = worker_environment(chosen)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "faust", "-A", "app", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        return done.returncode, done.stdout, done.stderr


INCLUDED = {"broker", "group", "partitions", *(n for n in Settings.model_fields if n.startswith("topic_"))}


def test_commands_list_and_retry(broker: Any) -> None:
    settings = settings_of(broker)
    command = Command(settings)
    run(ensure_topics(settings))
    run(send_letters(settings, range(7)))
    run(send_letters(settings, range(7, 9), "invalid-json", key=b"\x1b[1m"))

    assert command("dead-letters", "retry", "--code", "invalid-json", "--limit", "1") == (
        0,
        f"1 events sent to {settings.topic_events}\n",
        "",
    )
    code, said, _ = command("dead-letters", "list", "--samples", "1", "--since", "2020-01-01")
    assert (code, "| missing-feature | 7" in said, "\x1b" in said) == (0, True, False)
    assert f"missing-feature  {settings.topic_events}-" in said
    assert '{"a": \\xff}' in said
    code, said, _ = command("--json", "dead-letters", "list")
    found = {item["code"]: item for item in json.loads(said)}
    assert [(name, item["events"], item["retried"]) for name, item in found.items()] == [
        ("missing-feature", 7, 0),
        ("invalid-json", 2, 1),
    ]
    assert found["missing-feature"]["samples"][0]["message"] == "why"
    _, said, _ = command("dead-letters", "retry", "--dry-run")
    assert said == f"would send 8 of 8 events to {settings.topic_events}; 1 were retried before\n"
    assert len(read_events(settings)) == 1


@pytest.mark.parametrize(
    ("arguments", "changed", "reason"),
    [
        (["list"], {}, "does not exist at kafka://"),
        (["retry"], {"broker": "kafka://127.0.0.1:1"}, "cannot reach Kafka at kafka://127.0.0.1:1"),
    ],
)
def test_a_failure_is_one_line(embedded_broker: Any, arguments: Any, changed: Any, reason: str) -> None:
    command = Command({**settings_of(embedded_broker).model_dump(include=INCLUDED), **changed})
    code, said, complaint = command("dead-letters", *arguments)
    assert (code, said, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("nowcast: ")
    assert reason in complaint


def test_a_missing_source_topic_sends_nothing(embedded_broker: Any) -> None:
    settings = settings_of(embedded_broker)
    run(ensure_topics(settings))
    run(send_letters(settings.model_copy(update={"topic_events": "nowhere"}), range(3)))
    code, _, complaint = Command(settings)("dead-letters", "retry")
    assert (code, complaint) == (
        1,
        "nowcast: source topic 'nowhere' does not exist; create it, or choose with --topic\n",
    )


def test_an_event_ahead_of_its_time_gets_its_prediction_by_a_retry_later(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    settings = {"partitions": 1, "future_seconds": 0}
    with Workers(tmp_path, kafka_broker.url, **settings) as workers:
        events, dead_letters, predictions = (
            str(workers.settings[f"topic_{name}"]) for name in ("events", "dead_letters", "predictions")
        )
        worker = workers.new("worker").start().wait_until_ready()
        due = time.time() + 3
        value = json.dumps({"timestamp": due, "features": {"heat": 1.0}}).encode()
        with Reader(kafka_broker.bootstrap, "nobody", 1) as reader:
            produce(kafka_broker.bootstrap, events, [(b"pump", value)] * 5)
            wait_for(lambda: reader.n_records(dead_letters) == 5, "5 dead letters", [worker])
            wait_for(lambda: time.time() > due, "its time")
            command = Command(workers.settings)
            retry_them = ("dead-letters", "retry", "--code", "future-event")
            assert command(*retry_them)[:2] == (0, f"5 events sent to {events}\n")
            wait_for(lambda: reader.n_records(predictions) == 5, "5 predictions", [worker])
            assert command(*retry_them)[:2] == (0, "0 events sent; 5 were retried before\n")
