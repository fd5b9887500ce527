"""Who serves and who challenges, as a table that follows gives out the roles."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tables import model_loading
from tables.artefact_records import pack_metadata, publish
from tables.models import ModelsTable, Split
from tables.promotion import promote, retire, rollback, split
from tests.artefacts import artefact, fields
from tests.tables.deciding import V1, V2, V3, V4, challengers, made, run, serving, version_of
from tests.tables.model_log import SECONDS, Log


def test_only_what_has_a_role_is_held(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        for weight in (1.0, 2.0, 3.0):
            await publish(settings, *made(weight))
        await publish(settings, *made(4.0), role="challenger")
        assert {model.version for model in (await seen())._loader._held.values()} == {V3, V4}

    run(log, test)


def test_of_a_model_that_alone_may_serve_only_its_own_versions_take_part(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0, "valve"), role="challenger")
        await publish(settings, *made(3.0), role="challenger")
        await publish(settings, *made(4.0, "valve"))
        table = await seen()
        assert (serving(table), challengers(table)) == (V1, [V3])
        assert table.role_of(version_of(4.0, "valve")) == "former"
        assert (await promote(settings, "valve")).changed
        assert serving(await seen()) == V1

    run(log, test, model="pump")


def test_the_newest_challengers_are_held_up_to_the_bound(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        for weight in (2.0, 3.0, 4.0):
            await publish(settings, *made(weight), role="challenger")
        table = await seen()
        assert (challengers(table), table.role_of(V2)) == ([V4, V3], "waiting")
        await retire(settings, "pump", V4)
        table = await seen()  # loaded now, from where it stands on the topic
        assert (challengers(table), table.role_of(V4)) == ([V3, V2], "retired")

    run(log, test, max_challengers=2)


def test_a_champions_challengers_have_numbers_for_as_long_as_it_is_known(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        for weight in (2.0, 3.0):
            await publish(settings, *made(weight), role="challenger")
        assert (await seen()).number_challengers(V1) == {V2: 1, V3: 2}
        await promote(settings, "pump", V3)
        await publish(settings, *made(4.0), role="challenger")
        assert (await seen()).number_challengers(V3) == {V2: 1, V4: 2}
        await rollback(settings, "pump")
        await retire(settings, "pump", V2)
        table = await seen()
        # All of them were held against it, or could have been: a retired one had its chance.
        assert table.number_challengers(V1) == {V2: 1, V3: 2, V4: 3}
        assert table.number_challengers("builtin-1") == {V2: 1, V3: 2, V4: 3}

    run(log, test)


def test_only_challengers_of_the_same_kind_fit(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        other = made(2.0, kind="anomaly")
        await publish(settings, *other, role="challenger")
        table = await seen()
        assert len(table.challengers) == 1  # against the built-in detector anything may stand
        await publish(settings, *made(1.0))
        table = await seen()
        assert (challengers(table), table.role_of(version_of(2.0, kind="anomaly"))) == ([], "waiting")
        await publish(settings, *made(3.0, kind="anomaly"))
        assert len((await seen()).challengers) == 1

    run(log, test)


def test_a_challenger_that_is_refused_is_not_held_and_the_next_one_is(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        onnx_bytes = b"not a model"
        packed = pack_metadata(onnx_bytes, fields(n_features=1))
        await publish(settings, "pump", onnx_bytes, packed, role="challenger")
        table = await seen()
        assert challengers(table) == [V2]
        (refusal,) = table.history.refusals
        assert "not ONNX" in refusal["reason"]
        version = json.loads(packed)["version"][:16]
        assert (refusal["version"], table.role_of(version)) == (version, "waiting")
        shown = table.describe_one("pump")["versions"][0]
        assert (shown["version"], shown["state"], shown["role"]) == (version, "refused", "")

    run(log, test, max_challengers=1)


def test_a_champion_that_is_refused_is_told_of_once(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        onnx_bytes = b"not a model"
        await publish(settings, "pump", onnx_bytes, pack_metadata(onnx_bytes, fields(n_features=1)))
        table = await seen()
        assert serving(table) == V1
        (refusal,) = table.history.refusals
        assert refusal["offset"] == 4
        assert [item["state"] for item in table.describe_one("pump")["versions"]] == ["refused", "loaded"]

    run(log, test)


def test_an_artefact_under_another_version_than_its_own_is_refused(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(2.0), role="challenger")
        log.append(f"pump@{V2}", *artefact([3.0], name="pump"))
        table = ModelsTable(settings)
        await table.start()
        await table.catch_up(SECONDS)
        assert challengers(table) == []
        assert f"the record's key says '{V2}', the content is '{V3}'" in table.history.refusals[0]["reason"]
        await table.stop()

    run(log, test)


def test_former_champions_are_not_loaded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[bytes] = []
    load = model_loading.load_artefact

    def count(onnx_bytes: bytes, header: bytes, *, max_bytes: int) -> Any:
        loaded.append(onnx_bytes)
        return load(onnx_bytes, header, max_bytes=max_bytes)

    async def test(settings: Any, seen: Any) -> None:
        for weight in (1.0, 2.0, 3.0):
            await publish(settings, *made(weight))
        await publish(settings, *made(4.0), role="challenger")
        await seen()
        monkeypatch.setattr(model_loading, "load_artefact", count)
        for records_a_fetch in (1, 100):
            loaded.clear()
            log.records_a_fetch = records_a_fetch
            table = ModelsTable(settings)
            await table.start()
            await table.catch_up(SECONDS)
            assert (serving(table), challengers(table)) == (V3, [V4])
            assert loaded == [made(3.0)[1], made(4.0)[1]]
            await table.stop()

    run(log, test)


def test_roles_change_together(log: Log) -> None:
    """Whoever looks between two awaits never sees a champion that is among its own challengers."""
    seen_roles = []

    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        table = await seen()
        done = asyncio.Event()

        async def watch() -> None:
            while not done.is_set():
                seen_roles.append((serving(table), tuple(challengers(table)), table.split))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        await publish(settings, *made(2.0), role="challenger")
        await split(settings, "pump", V2, 0.5)
        await seen()
        await promote(settings, "pump", V2)
        await seen()
        await rollback(settings, "pump")
        await seen()
        done.set()
        await watching

    run(log, test)
    assert list(dict.fromkeys(seen_roles)) == [
        (V1, (), None),
        *([(V1, (V2,), None)] if (V1, (V2,), None) in seen_roles else []),
        (V1, (V2,), Split("pump", V2, 0.5)),
        (V2, (), None),
    ]
    assert seen_roles[-1] == (V1, (), None)
