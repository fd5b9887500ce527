"""Ways back to former champions, and what a change says that it replaces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compute.artefact import ArtefactError
from tables.artefact_records import publish
from tables.promotion import promote, rollback
from tests.artefacts import fields, linear
from tests.tables.deciding import PLOT, V1, V2, V3, made, run, serving, version_of
from tests.tables.model_log import Log


def test_rollbacks_go_back_one_champion_at_a_time(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        for weight in (1.0, 2.0, 3.0):
            await publish(settings, *made(weight))
        for expected in (V2, V1):
            outcome = await rollback(settings, "pump", reason="it was better")
            assert outcome.version == expected
            table = await seen()
            assert serving(table) == expected
            assert table.describe_decisions()[0]["action"] == "rollback"
        with pytest.raises(ArtefactError, match="pump has no former champion to go back to"):
            await rollback(settings, "pump")
        assert (await rollback(settings, "pump", V3)).version == V3
        assert serving(await seen()) == V3
        assert not (await rollback(settings, "pump", V3)).changed

    run(log, test)


def test_a_rollback_brings_back_all_of_the_artefact(log: Log) -> None:
    plain = made(1.0, normaliser="none", missing="mean", threshold=0.7)

    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *plain, plot=PLOT, report=b'{"candidates": []}')
        before = (await seen()).serving
        await publish(settings, *made(2.0))
        await rollback(settings, "pump")
        table = await seen()
        assert table.serving.metadata == before.metadata
        assert table.serving.content_hash == before.content_hash
        assert table.pictures("pump").plot == PLOT

    run(log, test)
    champions = [record for record in log.records if record.key == b"pump"]
    unchanged = {"metadata", "plot", "report"}
    first, last = (
        {name: value for name, value in record.headers if name in unchanged} for record in champions[::2]
    )
    assert first == last
    assert champions[0].value == champions[2].value


def test_the_version_before_is_the_one_that_served_whatever_its_name(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(4.0, "valve"))
        await publish(settings, *made(2.0))
        await publish(settings, *made(3.0))
        previous = [item["previous"] for item in (await seen()).describe_decisions()]
        assert previous == [V2, version_of(4.0, "valve"), V1, ""]

    run(log, test)


def test_a_rollback_to_another_name_says_what_it_replaces(log: Log) -> None:
    valve = version_of(2.0, "valve")

    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0, "valve"), role="challenger")
        promoted = await promote(settings, "valve")
        assert (promoted.previous, promoted.message) == (V1, f"valve {valve} promoted, before: pump {V1}")
        outcome = await rollback(settings, "valve")
        assert (outcome.model, outcome.version, outcome.previous) == ("pump", V1, valve)
        assert outcome.message == f"pump {V1} is back, before: valve {valve}"
        table = await seen()
        assert table.describe_decisions()[0]["previous"] == valve
        assert (serving(table), table.role_of(valve)) == (V1, "former")
        assert not (await rollback(settings, "valve")).changed
        with pytest.raises(ArtefactError, match="pump has no former champion to go back to"):
            await rollback(settings, "pump")

    run(log, test)


def test_a_model_with_former_champions_goes_back_to_those_whoever_served_meanwhile(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0))
        await publish(settings, *made(4.0, "valve"))
        await publish(settings, *made(3.0))
        for expected in (V2, V1):
            outcome = await rollback(settings, "pump")
            assert (outcome.model, outcome.version) == ("pump", expected)
            assert serving(await seen()) == expected

    run(log, test)


def test_what_may_not_serve_replaces_the_champion_of_its_own_name(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(3.0, "valve"))
        await publish(settings, *made(4.0, "valve"))
        table = await seen()
        previous = [item["previous"] for item in table.describe_decisions()]
        assert (serving(table), previous) == (V1, [version_of(3.0, "valve"), "", ""])

    run(log, test, model="pump")


def test_what_was_put_by_hand_is_kept_when_it_is_replaced(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        undeclared = dict(fields(n_features=1))
        log.append("pump", linear([1.0]).SerializeToString(), json.dumps(undeclared).encode())
        assert (await seen()).serving is not None
        by_hand = serving(await seen())
        await publish(settings, *made(2.0))
        assert (await rollback(settings, "pump")).version == by_hand
        assert serving(await seen()) == by_hand

    run(log, test)


def test_a_model_without_a_former_champion_gives_way_to_who_served_before(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        log.publish(1.0)
        await publish(settings, *made(2.0, "trained"), role="challenger")
        await promote(settings, "trained")
        assert (await seen()).serving.name == "trained"
        outcome = await rollback(settings, "trained")
        assert (outcome.model, outcome.version) == ("pump", V1)
        assert (await seen()).serving.name == "pump"

    run(log, test)
