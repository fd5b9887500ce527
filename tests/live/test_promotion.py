"""Champion and challengers on real brokers: commands, workers, compaction, signatures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from app.settings import Settings
from app.topics import ensure_topics
from compute.signatures import key_pair_of
from tables.artefact_records import publish
from tables.model_records import HEADROOM_BYTES
from tables.model_topic import ModelTopic
from tables.models import ModelsTable
from tables.promotion import promote, retire, rollback, split
from tests.artefacts import artefact, linear
from tests.live.brokers import KafkaBroker
from tests.live.test_models import SECONDS, Command, answer, run, settings_of, until
from tests.live.workers import Worker, Workers, wait_for

MEGABYTE = 1_000_000


@pytest.fixture(params=["embedded_broker", "kafka_broker"])
def broker(request: pytest.FixtureRequest) -> Any:
    """Give each kind of broker in turn."""
    return request.getfixturevalue(request.param)


def version_of(weight: float) -> str:
    return str(json.loads(artefact([weight])[1])["version"][:16])


async def publish_linear(settings: Settings, weight: float, **more: Any) -> None:
    await publish(settings, "pump", *artefact([weight]), **more)


def roles(table: ModelsTable) -> tuple[Any, ...]:
    serving = table.serving.version if table.serving else ""
    return serving, [model.version for model in table.challengers], table.split, table.describe_decisions()


async def read_late(settings: Settings) -> tuple[Any, ...]:
    table = ModelsTable(settings)
    await table.start()
    try:
        await table.catch_up(SECONDS)
        return roles(table)
    finally:
        await table.stop()


def test_tables_see_the_same_roles_in_the_same_order(broker: Any) -> None:
    settings = settings_of(broker)
    orders: list[list[float]] = [[], []]

    async def test(first: ModelsTable) -> None:
        second = ModelsTable(settings, on_change=lambda model: orders[1].append(answer(second)))
        first._on_change = lambda model: orders[0].append(answer(first))
        await second.start()
        await second.catch_up(SECONDS)
        await publish_linear(settings, 1.0)
        await publish_linear(settings, 2.0, role="challenger", plot=b"\x89PNG\r\n\x1a\n...", report=b"{}")
        await split(settings, "pump", version_of(2.0), 0.5)
        await until(lambda: first.split and second.split)
        assert first.split == second.split
        await promote(settings, "pump", by="ada", evidence={"p_value": 0.01})
        await until(lambda: answer(first) == answer(second) == 2.0)
        await rollback(settings, "pump")
        await until(lambda: answer(first) == answer(second) == 1.0)
        await retire(settings, "pump", version_of(2.0))
        await until(lambda: len(first.describe_decisions()) == len(second.describe_decisions()) == 6)
        assert roles(first) == roles(second) == await read_late(settings)
        assert orders == [[1.0, 2.0, 1.0]] * 2
        await second.stop()

    run(settings, test)


def test_large_artefacts_are_promoted_and_rolled_back(broker: Any) -> None:
    settings = settings_of(broker)

    async def test(table: ModelsTable) -> None:
        for weight in (1.0, 2.0):
            await publish(settings, "pump", *artefact([weight], padding_bytes=40 * MEGABYTE))
            await until(lambda weight=weight: table.serving and answer(table) == weight)
        await rollback(settings, "pump")
        await until(lambda: answer(table) == 1.0)

    run(settings, test)


def test_roles_and_audit_trail_survive_compaction_and_a_stop_of_the_broker(kafka_jars: Path) -> None:
    with KafkaBroker({"log.cleaner.backoff.ms": "100"}) as broker:
        settings = settings_of(broker)
        limit = str(settings.max_artefact_bytes + HEADROOM_BYTES)
        compacted = {"cleanup.policy": "compact", "max.message.bytes": limit, "segment.ms": "200"}
        at_once = {
            "min.cleanable.dirty.ratio": "0.001",
            "max.compaction.lag.ms": "1000",
            "delete.retention.ms": "0",
        }
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        topic = NewTopic(settings.topic_models, 1, 1, config={**compacted, **at_once})
        admin.create_topics([topic])[settings.topic_models].result(SECONDS)

        async def decide() -> None:
            await publish_linear(settings, 1.0)
            await publish_linear(settings, 2.0, role="challenger")
            await promote(settings, "pump", by="ada", reason="better", evidence={"n_labels": 400})
            await publish_linear(settings, 3.0, role="challenger")
            await publish_linear(settings, 4.0, role="challenger")
            await retire(settings, "pump", version_of(4.0))
            await rollback(settings, "pump", reason="it was not")

        async def test(table: ModelsTable) -> None:
            await decide()
            await until(lambda: len(table.describe_decisions()) == 7)
            followed = roles(table)
            assert followed[:2] == (version_of(1.0), [version_of(3.0)])
            n_before = len(await read_keys(settings))
            producer = Producer({"bootstrap.servers": broker.bootstrap})
            deadline = time.monotonic() + 2 * SECONDS
            while (await read_keys(settings)).count("pump") > 1:
                assert time.monotonic() < deadline, "nothing is compacted"
                # Only closed segments are, and one is closed when something comes behind it.
                producer.produce(settings.topic_models, b"", b"other")
                assert producer.flush(SECONDS) == 0
                await asyncio.sleep(0.5)
            del producer
            assert n_before > len([key for key in await read_keys(settings) if key != "other"])
            left = await read_late(settings)
            assert left == followed
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
            assert await read_late(settings) == followed
            audit = [(item["action"], item["by"] == "ada", item["reason"]) for item in left[3]]
            assert audit == [
                ("rollback", False, "it was not"),
                ("retire", False, ""),
                *[("challenge", False, "")] * 2,
                ("promote", True, "better"),
                ("challenge", False, ""),
                ("promote", False, ""),
            ]
            # What compaction left is enough to go on from.
            assert (await promote(settings, "pump", version_of(2.0))).changed
            await until(lambda: answer(table) == 2.0)

        run(settings, test)


async def read_keys(settings: Settings) -> list[str]:
    async with ModelTopic(settings) as topic:
        return [record.key.decode() async for records in topic.read_to_end() for record in records]


def test_unsigned_and_altered_records_are_refused_and_the_old_one_serves_on(
    broker: Any, tmp_path: Path
) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    for path, content in zip((private, public), key_pair_of(b"k" * 32), strict=True):
        path.write_bytes(content)
    settings = settings_of(broker, signing_key=private, trusted_keys=public)
    stranger = settings.model_copy(update={"signing_key": None, "trusted_keys": None})

    async def test(table: ModelsTable) -> None:
        await publish_linear(settings, 1.0)
        await publish_linear(settings, 2.0, role="challenger")
        await until(lambda: len(table.challengers) == 1)
        before = roles(table)
        await publish_linear(stranger, 3.0)
        await until(lambda: len(table.history.refusals) == 3)
        await put_again(settings, altered=True)
        await until(lambda: len(table.history.refusals) == 6)
        await put_again(settings, altered=False)
        assert roles(table) == before == await read_late(settings)
        await promote(settings, "pump")
        await until(lambda: answer(table) == 2.0)
        await rollback(settings, "pump")
        await until(lambda: answer(table) == 1.0)

    run(settings, test)


async def put_again(settings: Settings, altered: bool) -> None:
    """Put the first three records on the topic once more, as anybody may who can write to it."""
    async with ModelTopic(settings) as topic:
        records = [record async for found in topic.read_to_end() for record in found][:3]
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers[0]})
    for record in records:
        value = record.value + b" " if altered else record.value
        producer.produce(settings.topic_models, value, record.key, headers=list(record.headers))
    assert producer.flush(SECONDS) == 0


@pytest.fixture
def workers(kafka_broker: KafkaBroker, tmp_path: Path) -> Iterator[Workers]:
    with Workers(tmp_path, kafka_broker.url, partitions=2) as workers:
        yield workers


def seen_by(worker: Worker) -> tuple[str, list[str]]:
    status, found = worker.get("/api/models")
    assert status == 200
    by_role: dict[str, list[str]] = {"champion": [], "challenger": []}
    for item in found["models"]:
        by_role.setdefault(item["role"], []).append(item["version"])
    return (by_role["champion"] or [""])[0], by_role["challenger"]


def test_two_workers_take_on_promotion_and_rollback_in_the_same_order(
    workers: Workers, tmp_path: Path
) -> None:
    settings = Settings(**{str(name): value for name, value in workers.settings.items()})  # type: ignore[arg-type]
    command = Command(settings)
    command._environment["NOWCAST_PARTITIONS"] = "2"
    started = [workers.new(name).start() for name in ("one", "two")]
    for worker in started:
        worker.wait_until_ready()
    one, two = (publish_file(command, tmp_path / f"{weight:g}.onnx", weight) for weight in (1.0, 2.0))

    def both_see(champion: str, challengers: list[str]) -> None:
        for worker in started:
            wait_for(lambda worker=worker: seen_by(worker) == (champion, challengers), "roles", started)

    both_see(one, [two])
    code, said, _ = command("models", "list")
    assert (code, "| champion" in said, "| challenger" in said) == (0, True, True)
    assert command("models", "split", "pump", two, "--share", "0.1")[0] == 0
    code, said, _ = command("models", "promote", "pump", "--by", "ada", "--reason", "better in the shadow")
    assert (code, f"pump {two} promoted" in said) == (0, True)
    both_see(two, [])
    code, said, _ = command("models", "promote", "pump", two)
    assert (code, "serves already" in said) == (0, True)
    code, said, _ = command("models", "rollback", "pump")
    assert (code, f"pump {one} is back" in said) == (0, True)
    both_see(one, [])
    assert command("models", "retire", "pump", two)[0] == 0

    code, said, _ = command("--json", "models", "audit", "pump")
    audit = json.loads(said)
    assert [item["action"] for item in audit] == [
        *("retire", "rollback", "promote", "split", "challenge", "promote")
    ]
    assert (audit[2]["by"], audit[2]["reason"], audit[2]["previous"]) == ("ada", "better in the shadow", one)
    code, said, _ = command("models", "audit")
    assert (code, said.count("| promote"), said.count("| rollback")) == (0, 2, 1)
    for worker in started:
        found = wait_for(lambda worker=worker: len(decided(worker)) == 6 and decided(worker), "all", started)
        assert found == audit
        assert worker.get(f"/api/models/pump/plot?version={one}")[0] == 404
    code, said, complaint = command("models", "compare", "--url", started[0].url)
    assert (code, complaint) == (0, "")
    started[1].stop()
    assert decided(started[1].start().wait_until_ready()) == audit


def decided(worker: Worker) -> list[dict[str, Any]]:
    status, found = worker.get("/api/models/pump")
    return found["decisions"] if status == 200 else []


def publish_file(command: Command, file: Path, weight: float) -> str:
    file.write_bytes(linear([weight, weight]).SerializeToString())
    more = () if weight == 1.0 else ("--challenger",)
    options = ("--name", "pump", "--kind", "regression", "--features", "a,b", *more)
    code, said, complaint = command("models", "publish", str(file), *options)
    assert code == 0, complaint
    return said.split("version ")[1][:16]


def test_decisions_that_cannot_be_made_end_with_one_line(embedded_broker: Any, tmp_path: Path) -> None:
    settings = settings_of(embedded_broker)
    command = Command(settings)
    for arguments, reason in (
        (("promote", "pump"), "does not exist"),
        (("audit",), "does not exist"),
        (("compare", "--url", "http://127.0.0.1:1"), "no worker answers"),
    ):
        fails(command, arguments, reason)
    asyncio.run(ensure_topics(settings))
    publish_file(command, tmp_path / "good.onnx", 1.0)
    (tmp_path / "empty.pem").write_bytes(b"")
    for arguments, reason in (
        (("promote", "pump"), "nothing challenges"),
        (("promote", "pump", "0" * 16), "publish it again"),
        (("rollback", "pump"), "no former champion"),
        (("rollback", "valve"), "no former champion"),
        (("retire", "pump", "0" * 16), "no version"),
        (("split", "pump", "0" * 16, "--share", "0.5"), "no challenger"),
        (("split", "pump", "0" * 16, "--share", "1.5"), "share: from 0 to 1"),
        (("show", "pump", "--plot", str(tmp_path / "plot.png")), "without a plot"),
        (("keygen", "/proc/nowhere"), "cannot be written"),
    ):
        fails(command, arguments, reason)
    command._environment["NOWCAST_TRUSTED_KEYS"] = str(tmp_path / "empty.pem")
    for name in ("list", "audit"):
        fails(command, (name,), "NOWCAST_TRUSTED_KEYS")
    fails(command, ("promote", "pump"), "NOWCAST_TRUSTED_KEYS")


def fails(command: Command, arguments: tuple[str, ...], reason: str) -> None:
    code, said, complaint = command("models", *arguments)
    assert (code, said) == (1, ""), arguments
    assert complaint.count("\n") == 1, complaint
    assert complaint.startswith("nowcast: ")
    assert reason in complaint


def test_keys_made_by_the_command_sign_and_are_trusted(embedded_broker: Any, tmp_path: Path) -> None:
    command = Command(settings_of(embedded_broker))
    code, said, _ = command("models", "keygen", str(tmp_path / "keys"))
    assert code == 0
    command._environment.update(line.split("=", 1) for line in said.split())
    version = publish_file(command, tmp_path / "one.onnx", 1.0)
    code, said, complaint = command("--json", "models", "list")
    assert (code, complaint) == (0, "")
    assert [(item["version"], item["serving"]) for item in json.loads(said)] == [(version, "yes")]
    del command._environment["NOWCAST_SIGNING_KEY"]
    fails(command, ("rollback", "pump"), "NOWCAST_SIGNING_KEY")
    del command._environment["NOWCAST_TRUSTED_KEYS"]
    publish_file(command, tmp_path / "two.onnx", 1.0)  # the same content, which is kept already
    command._environment["NOWCAST_TRUSTED_KEYS"] = str(tmp_path / "keys" / "trusted-keys.pem")
    code, said, complaint = command("models", "list")
    assert (code, complaint.count("refused: pump at offset")) == (0, 2)
