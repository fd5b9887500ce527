from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from tables import model_loading
from tables.models import ModelsTable
from tests.artefacts import artefact
from tests.tables.model_log import SECONDS, Log, settings_of, until


def run(test: Callable[[ModelsTable], Coroutine[Any, Any, None]], table: ModelsTable | None = None) -> None:
    """Run a test with a table that has started and caught up."""

    async def whole() -> None:
        started = table or ModelsTable(settings_of())
        await started.start()
        try:
            await started.catch_up(SECONDS)
            await test(started)
        finally:
            await started.stop()

    asyncio.run(whole())


def answer(table: ModelsTable) -> float:
    assert table.serving is not None
    scores, errors = table.serving.predict(np.array([[1.0]]))
    assert errors == {}
    return float(scores.scores[0])


def test_nothing_serves_before_anything_is_published(log: Log) -> None:
    async def test(table: ModelsTable) -> None:
        assert table.serving is None
        assert table.describe() == []
        assert table.describe_one("pump") is None

    run(test)


def test_all_that_was_published_before_is_held_when_it_has_caught_up(log: Log) -> None:
    log.records_a_fetch = 1
    for weight in (1.0, 2.0, 3.0):
        log.publish(weight)

    async def test(table: ModelsTable) -> None:
        assert answer(table) == 3.0

    run(test)


def test_new_version_serves_without_a_restart(log: Log) -> None:
    log.publish(1.0)

    async def test(table: ModelsTable) -> None:
        log.publish(2.0)
        await until(lambda: answer(table) == 2.0)

    run(test)


def test_the_one_published_last_serves_whatever_its_name(log: Log) -> None:
    log.publish(1.0, name="a")
    log.publish(2.0, name="b")
    log.publish(3.0, name="a")

    async def test(table: ModelsTable) -> None:
        assert answer(table) == 3.0
        assert [(item["name"], item["serving"]) for item in table.describe()] == [("a", True), ("b", False)]
        log.publish(4.0, name="b")
        await until(lambda: answer(table) == 4.0)

    run(test)


def test_the_model_of_the_settings_serves_and_no_other(log: Log) -> None:
    async def test(table: ModelsTable) -> None:
        log.publish(1.0, name="other")
        await until(lambda: len(table.describe()) == 1)
        assert table.serving is None
        log.publish(2.0, name="mine")
        log.publish(3.0, name="other")
        await until(lambda: len(table.describe_one("other")["versions"]) == 2)  # type: ignore[index]
        assert answer(table) == 2.0

    run(test, ModelsTable(settings_of(model="mine")))


def test_tombstone_removes_a_model_and_the_one_before_serves(log: Log) -> None:
    log.publish(1.0, name="a")
    log.publish(2.0, name="b")

    async def test(table: ModelsTable) -> None:
        log.append("b", None)
        await until(lambda: answer(table) == 1.0)
        assert [version["state"] for version in table.describe_one("b")["versions"]] == [  # type: ignore[index]
            "removed",
            "superseded",
        ]
        log.append("a", None)
        await until(lambda: table.serving is None)
        assert table.describe() == []

    run(test)


GOOD = artefact([1.0], name="pump")
REFUSED = {
    "not ONNX": (b"not a model", GOOD[1], "hash mismatch"),
    "no metadata": (GOOD[0], b"", "header 'metadata' needed"),
    "empty": (b"", GOOD[1], "empty"),
    "too large": (b"x" * 1_000_001, GOOD[1], "too large: at most 1000000 bytes"),
    "damaged": (GOOD[0][:-1] + b"?", GOOD[1], "hash mismatch"),
    "another's name": (*artefact([1.0], name="valve"), "the record's key is 'pump'"),
    "wrong inputs": (*artefact([1.0], name="pump", features=["a", "b"]), "shape (n, 2) needed"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("already_there", [True, False])
def test_refused_version_leaves_the_old_one_serving(
    log: Log, case: str, already_there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    value, metadata, reason = REFUSED[case]
    first = log.publish(7.0)
    if already_there:
        log.append("pump", value, metadata)

    async def test(table: ModelsTable) -> None:
        if not already_there:
            log.append("pump", value, metadata)
        await until(lambda: bool(table.history.refusals))
        assert answer(table) == 7.0
        (refusal,) = table.history.refusals
        assert reason in refusal["reason"]
        assert (refusal["name"], refusal["offset"]) == ("pump", first + 1)
        assert refusal["time"] == 1_700_000_000 + (first + 1) / 1000
        described = table.describe_one("pump")
        assert [version["state"] for version in described["versions"]] == ["refused", "loaded"]
        log.publish(8.0)
        await until(lambda: answer(table) == 8.0)

    run(test)
    assert len([line for line in caplog.messages if "refused" in line]) == 1


def test_record_without_a_key_is_refused(log: Log) -> None:
    log.append(None, *GOOD)
    run(lambda table: until(lambda: "the record's key is ''" in table.history.refusals[0]["reason"]))


def test_surprise_while_loading_is_a_refusal(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    load = model_loading.load_artefact

    def surprise(onnx_bytes: bytes, header: bytes, *, max_bytes: int) -> Any:
        if onnx_bytes == GOOD[0]:
            raise MemoryError("no room")
        return load(onnx_bytes, header, max_bytes=max_bytes)

    monkeypatch.setattr(model_loading, "load_artefact", surprise)
    log.append("pump", *GOOD)
    log.publish(2.0, name="valve")

    async def test(table: ModelsTable) -> None:
        assert answer(table) == 2.0
        assert table.history.refusals[0]["reason"] == "MemoryError('no room')"

    run(test)


def test_last_20_refusals_and_50_versions_are_remembered(log: Log) -> None:
    for _ in range(60):
        log.append("pump", b"")

    async def test(table: ModelsTable) -> None:
        assert [item["offset"] for item in table.history.refusals] == list(range(40, 60))
        assert [item["offset"] for item in table.history.versions("pump")] == list(range(59, 9, -1))

    log.records_a_fetch = 1
    run(test)


def test_broker_that_fails_is_asked_again_from_where_it_stopped(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    log.publish(1.0)
    log.publish(2.0)

    async def test(table: ModelsTable) -> None:
        log.n_failures = 5
        await until(lambda: log.n_failures == 0 and not table.problem)
        assert answer(table) == 2.0
        log.publish(3.0)
        await until(lambda: answer(table) == 3.0)
        assert log.sought[0] == 0
        assert set(log.sought[1:]) == {2}
        assert len(table.history.versions("pump")) == 3

    run(test)
    assert len([line for line in caplog.messages if "cannot reach Kafka" in line]) == 1


def test_topic_that_was_made_anew_is_read_from_its_beginning(log: Log) -> None:
    log.publish(1.0)
    log.publish(2.0)

    async def test(table: ModelsTable) -> None:
        log.records.clear()
        log.end_offset = 0
        log.publish(5.0)
        log.n_failures = 1
        await until(lambda: answer(table) == 5.0)

    run(test)


def test_topic_that_was_made_anew_may_be_empty_at_first(log: Log) -> None:
    log.publish(1.0)
    log.publish(2.0)

    async def test(table: ModelsTable) -> None:
        log.records.clear()
        log.end_offset = 0
        await until(lambda: "made anew" in table.problem)
        assert answer(table) == 2.0
        log.publish(5.0)
        await until(lambda: answer(table) == 5.0)

    run(test)


def test_what_was_refused_is_not_tried_again(log: Log) -> None:
    log.publish(1.0)
    log.append("pump", GOOD[0][:-1] + b"?", GOOD[1])

    async def test(table: ModelsTable) -> None:
        log.publish(2.0, name="valve")
        await until(lambda: answer(table) == 2.0)
        assert len(table.history.refusals) == 1

    run(test)


def test_gaps_that_compaction_left_do_not_keep_it_from_catching_up(log: Log) -> None:
    log.publish(1.0)
    log.publish(2.0)
    log.publish(3.0)
    del log.records[0], log.records[-1]
    run(lambda table: until(lambda: answer(table) == 2.0))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"topics": set()}, "topic 'models' does not exist on kafka://broker:9092"),
        ({"partitions": {0, 1, 2}}, "one partition needed, found 3"),
        ({"n_failures": 10**9}, r"cannot reach Kafka at kafka://broker:9092"),
    ],
)
def test_what_keeps_it_from_catching_up_is_told(log: Log, changed: dict[str, Any], reason: str) -> None:
    vars(log).update(changed)

    async def whole() -> None:
        table = ModelsTable(settings_of())
        await table.start()
        with pytest.raises(TimeoutError, match=reason):
            await table.catch_up(0.1)
        await table.stop()

    asyncio.run(whole())


def test_change_of_the_serving_model_is_told_once(log: Log) -> None:
    told: list[Any] = []
    log.publish(1.0)
    log.publish(2.0)

    async def test(table: ModelsTable) -> None:
        log.append("pump", b"")
        await until(lambda: len(table.history.refusals) == 1)
        log.append("pump", None)
        await until(lambda: table.serving is None)

    run(test, ModelsTable(settings_of(), on_change=told.append))
    assert [model and model.predict(np.array([[1.0]]))[0].scores[0] for model in told] == [2.0, None]


def test_description_has_the_artefact_but_not_its_bytes(log: Log) -> None:
    offset = log.publish(1.0, metrics={"auc": 0.9}, trained_by="ci", threshold=0.4)

    async def test(table: ModelsTable) -> None:
        (described,) = table.describe()
        assert described["features"] == ["f0"]
        assert described["metrics"] == {"auc": 0.9}
        assert described["threshold"] == 0.4
        assert described["offset"] == offset
        assert described["published_at"] == 1_700_000_000.0
        assert described["content_hash"].startswith(described["version"])
        assert described["serving"] is True

    run(test)


def test_a_fetch_has_room_for_the_largest_artefact(log: Log) -> None:
    run(lambda table: asyncio.sleep(0))
    assert log.options["max_partition_fetch_bytes"] > 1_000_000
    assert log.options["fetch_max_bytes"] > 1_000_000
    assert log.options["group_id"] is None
