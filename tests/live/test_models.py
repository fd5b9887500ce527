from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from onnx import helper

from app.settings import Settings
from app.topics import ensure_topics
from compute.artefact import ArtefactError
from tables.artefact_records import publish
from tables.models import ModelsTable
from tests.artefacts import artefact, graph, linear
from tests.live.brokers import KafkaBroker
from tests.live.workers import ROOT, TOPICS, worker_environment

SECONDS = 30.0
MEGABYTE = 1_000_000


@pytest.fixture(params=["embedded_broker", "kafka_broker"])
def broker(request: pytest.FixtureRequest) -> Any:
    """Give each kind of broker in turn."""
    return request.getfixturevalue(request.param)


def settings_of(broker: Any, **changed: Any) -> Settings:
    name = uuid.uuid4().hex[:8]
    topics = {f"topic_{topic}": f"{topic}-{name}" for topic in TOPICS}
    return Settings(broker=broker.url, group=f"nowcast-{name}", partitions=1, **topics, **changed)


def run(
    settings: Settings, test: Callable[[ModelsTable], Coroutine[Any, Any, None]], before: Any = None
) -> None:
    """Run a test with a table that caught up with what `before` published."""

    async def whole() -> None:
        await ensure_topics(settings)
        if before is not None:
            await before
        table = ModelsTable(settings)
        await table.start()
        try:
            await table.catch_up(SECONDS)
            await test(table)
        finally:
            await table.stop()

    asyncio.run(asyncio.wait_for(whole(), 3 * SECONDS))


async def until(condition: Callable[[], Any]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), SECONDS)


async def publish_linear(settings: Settings, weight: float, name: str = "pump", **more: Any) -> int:
    _, offset = await publish(settings, name, *artefact([weight], name=name, **more))
    return offset


async def send(settings: Settings, key: str, value: bytes | None, metadata: bytes | None) -> None:
    """Send whatever, as a stranger would."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, max_request_size=settings.max_artefact_bytes * 2
    )
    await producer.start()
    try:
        headers = [("metadata", metadata)] if metadata is not None else None
        await producer.send_and_wait(settings.topic_models, value, key.encode(), headers=headers)
    finally:
        await producer.stop()


def answer(table: ModelsTable) -> float:
    assert table.serving is not None
    return float(table.serving.predict(np.array([[1.0]]))[0].scores[0])


def test_every_table_serves_the_version_published_last(broker: Any) -> None:
    settings = settings_of(broker)

    async def test(table: ModelsTable) -> None:
        assert answer(table) == 1.0
        other = ModelsTable(settings)
        await other.start()
        await other.catch_up(SECONDS)
        assert answer(other) == 1.0
        await publish_linear(settings, 2.0, name="valve")
        await publish_linear(settings, 3.0)
        await until(lambda: answer(table) == answer(other) == 3.0)
        await send(settings, "pump", None, None)
        await until(lambda: answer(table) == answer(other) == 2.0)
        assert table.describe() == other.describe()
        await other.stop()

    run(settings, test, publish_linear(settings, 1.0))


@pytest.mark.parametrize("n_bytes", [3 * MEGABYTE, 40 * MEGABYTE])
def test_artefact_of_many_megabytes_arrives_whole(broker: Any, n_bytes: int) -> None:
    settings = settings_of(broker)
    onnx_bytes, metadata = artefact([5.0], padding_bytes=n_bytes)
    assert len(onnx_bytes) > n_bytes

    async def test(table: ModelsTable) -> None:
        await publish(settings, "pump", onnx_bytes, metadata)
        await until(lambda: table.serving is not None)
        assert answer(table) == 5.0
        assert table.serving is not None
        assert table.serving.content_hash == json.loads(metadata)["version"]
        assert table.serving.size_bytes == len(onnx_bytes)

    run(settings, test)


def test_wrong_artefacts_are_refused_with_their_reason_and_the_old_one_serves_on(broker: Any) -> None:
    settings = settings_of(broker, max_artefact_bytes=100_000)
    good, metadata = artefact([1.0])
    unknown = graph([helper.make_node("Divine", ["x"], ["score"])], n_features=1).SerializeToString()
    undeclared = json.dumps({**json.loads(metadata), "version": ""}).encode()
    wrong = {
        "not ONNX": (b"hello", undeclared),
        r"shape \(n, 2\) needed": artefact([1.0], features=["a", "b"]),
        "unknown operator: Divine": (unknown, undeclared),
        "hash mismatch": (linear([2.0]).SerializeToString(), metadata),
        "too large": (b"x" * 100_001, undeclared),
        "the record's key is 'pump'": artefact([1.0], name="valve"),
        "header 'metadata' needed": (good, None),
    }

    async def test(table: ModelsTable) -> None:
        for n_before, (reason, (value, header)) in enumerate(wrong.items()):
            await send(settings, "pump", value, header)
            await until(lambda n_before=n_before: len(table.history.refusals) == n_before + 1)
            with pytest.raises(ArtefactError, match=reason):
                raise ArtefactError(table.history.refusals[-1]["reason"])
            assert answer(table) == 7.0
        await publish_linear(settings, 8.0)
        await until(lambda: answer(table) == 8.0)

    run(settings, test, publish_linear(settings, 7.0))


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_table_goes_on_after_the_broker_was_away(own_kafka_broker: KafkaBroker, way: str) -> None:
    settings = settings_of(own_kafka_broker)

    async def test(table: ModelsTable) -> None:
        await asyncio.to_thread(getattr(own_kafka_broker, way))
        assert answer(table) == 1.0
        await asyncio.to_thread(own_kafka_broker.start)
        await publish_linear(settings, 2.0)
        await until(lambda: answer(table) == 2.0)
        assert [item["offset"] for item in table.history.versions("pump")] == [4, 1]

    run(settings, test, publish_linear(settings, 1.0))


def test_markers_of_transactions_do_not_keep_the_table_from_catching_up(kafka_broker: KafkaBroker) -> None:
    settings = settings_of(kafka_broker)

    async def before() -> None:
        await publish_linear(settings, 1.0)
        await asyncio.to_thread(_commit, kafka_broker.bootstrap, settings.topic_models, artefact([2.0]))

    async def test(table: ModelsTable) -> None:
        assert answer(table) == 2.0

    run(settings, test, before())


def _commit(bootstrap: str, topic: str, content: tuple[bytes, bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"id-{topic}"})
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce(topic, content[0], b"pump", headers=[("metadata", content[1])])
    producer.commit_transaction(SECONDS)


def test_artefact_beyond_the_setting_is_not_sent(broker: Any) -> None:
    settings = settings_of(broker, max_artefact_bytes=100_000)

    async def test(table: ModelsTable) -> None:
        with pytest.raises(
            ArtefactError, match=r"at most 100000 bytes \(NOWCAST_MAX_ARTEFACT_BYTES\), received"
        ):
            await publish_linear(settings, 1.0, padding_bytes=100_000)
        with pytest.raises(ArtefactError, match="metadata: at most 32768 bytes"):
            await publish_linear(settings, 1.0, trained_by="x" * 40_000)
        assert await publish_linear(settings, 2.0) == 1  # behind the copy that is kept, and nothing else

    run(settings, test)


def test_artefact_beyond_the_topics_own_limit_is_refused_in_a_sentence(kafka_broker: KafkaBroker) -> None:
    settings = settings_of(kafka_broker)
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
    topic = NewTopic(settings.topic_models, 1, 1, config={"max.message.bytes": "50000"})
    admin.create_topics([topic])[settings.topic_models].result(SECONDS)
    with pytest.raises(ArtefactError, match=r"set max.message.bytes of topic 'models-\w+' to 64196608"):
        asyncio.run(publish_linear(settings, 1.0, padding_bytes=60_000))


class Command:
    """`faust -A app models ...` as a user types it."""

    def __init__(self, settings: Settings) -> None:
        topics = {
            name: getattr(settings, name) for name in Settings.model_fields if name.startswith("topic_")
        }
        chosen = {"broker": settings.broker, "group": settings.group, "partitions": 1, **topics}
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


def test_commands_publish_list_and_show(broker: Any, tmp_path: Path) -> None:
    command = Command(settings_of(broker))
    file = tmp_path / "heat.onnx"
    file.write_bytes(linear([1.0, 2.0]).SerializeToString())

    code, said, _ = command("models", "publish", str(file), "--kind", "regression", "--features", "a, b")
    assert (code, "heat version " in said) == (0, True)
    file.with_suffix(".json").write_text(
        json.dumps({"name": "flow", "kind": "anomaly", "features": ["a", "b"]})
    )
    code, _, _ = command("models", "publish", str(file), "--threshold", "0.5", "--missing", "mean")
    assert code == 0

    code, said, _ = command("--json", "models", "list")
    assert code == 0
    assert [(item["name"], item["serving"]) for item in json.loads(said)] == [("flow", "yes"), ("heat", "")]
    code, said, _ = command("models", "list")
    assert (code, "| heat" in said) == (0, True)
    code, said, _ = command("models", "show", "flow")
    shown = json.loads(said)
    assert (shown["kind"], shown["threshold"], shown["missing"]) == ("anomaly", 0.5, "mean")
    assert shown["versions"][0]["version"] == shown["version"]


def test_commands_fail_with_one_line(embedded_broker: Any, tmp_path: Path) -> None:
    command = Command(settings_of(embedded_broker))
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(linear([1.0]).SerializeToString())
    bad.write_bytes(b"hello")
    publish_it = ("models", "publish", "--kind", "regression", "--features", "a")
    declared = tmp_path / "declared.json"
    declared.write_text(
        json.dumps({"name": "x", "kind": "regression", "features": ["a"], "version": "0" * 64})
    )
    for arguments, reason in (
        (("models", "list"), "does not exist"),
        ((*publish_it, str(bad)), "not ONNX"),
        ((*publish_it, "--features", "a,b", str(good)), "shape (n, 2) needed"),
        (("models", "publish", str(good)), "missing required field `kind`"),
        (("models", "publish", str(good), "--metadata", str(declared)), "hash mismatch"),
        (("models", "show", "nobody"), "does not exist"),
    ):
        code, said, complaint = command(*arguments)
        assert (code, said) == (1, ""), arguments
        assert complaint.count("\n") == 1, complaint
        assert complaint.startswith("nowcast: ")
        assert reason in complaint
