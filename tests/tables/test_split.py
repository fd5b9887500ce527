"""Splits: what is told, and that none is made that could not take effect."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from compute.artefact import ArtefactError
from tables.artefact_records import pack_metadata, publish
from tables.models import Split
from tables.promotion import split
from tests.artefacts import fields, linear
from tests.tables.deciding import V1, V2, made, run, version_of
from tests.tables.model_log import Log, settings_of


def test_a_split_is_told_and_ends_with_a_share_of_0(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        assert (await split(settings, "pump", V2, 0.25)).changed
        table = await seen()
        assert table.split == Split("pump", V2, 0.25)
        assert [item["share"] for item in table.describe()] == [None, 0.25]
        assert table.describe_decisions()[0]["share"] == 0.25
        await split(settings, "pump", V2, 0)
        assert (await seen()).split is None
        for share in (-0.1, 1.1, float("nan")):
            with pytest.raises(ArtefactError, match="share: from 0 to 1 needed"):
                await split(settings, "pump", V2, share)
        with pytest.raises(ArtefactError, match=f"pump {V1} is no challenger"):
            await split(settings, "pump", V1, 0.5)

    run(log, test)


def refused(log: Log, prepare: Any, name: str, version: str, reason: str, **changed: Any) -> None:
    """Hold that a split is refused with a reason, and that nothing is written nor split then."""

    async def test(settings: Any, seen: Any) -> None:
        await prepare(settings)
        n_records = log.end_offset
        with pytest.raises(ArtefactError, match=reason):
            await split(settings, name, version, 0.5)
        assert log.end_offset == n_records
        assert (await seen()).split is None
        assert (await split(settings, name, version, 0)).changed  # whatever it is, to end it is no mistake

    run(log, test, **changed)


def test_a_challenger_of_another_kind_than_the_champions_gets_no_share(log: Log) -> None:
    other = made(2.0, "cost", kind="anomaly")

    async def prepare(settings: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *other, role="challenger")

    reason = f"cannot answer for pump {V1}: kind 'regression' needed, it has 'anomaly'$"
    refused(log, prepare, "cost", version_of(2.0, "cost", kind="anomaly"), reason)


def test_the_kind_of_a_champion_put_by_hand_counts_too(log: Log) -> None:
    async def prepare(settings: Any) -> None:
        await publish(settings, *made(1.0, kind="anomaly"))
        await publish(settings, *made(2.0, kind="anomaly"), role="challenger")
        log.append("pump", linear([3.0]).SerializeToString(), json.dumps(fields(n_features=1)).encode())

    refused(log, prepare, "pump", version_of(2.0, kind="anomaly"), "kind 'regression' needed")


def test_a_challenger_without_a_place_gets_no_share(log: Log) -> None:
    async def prepare(settings: Any) -> None:
        for weight in (1.0, 2.0, 3.0):
            await publish(settings, *made(weight), role="challenger" if weight > 1 else "champion")

    reason = rf"pump {V2} has no place: at most 1 challengers .*\(NOWCAST_MAX_CHALLENGERS\)"
    refused(log, prepare, "pump", V2, reason, max_challengers=1)


def test_a_model_that_may_not_serve_gets_no_share(log: Log) -> None:
    async def prepare(settings: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0, "valve"), role="challenger")

    reason = r"cannot answer: pump alone may \(NOWCAST_MODEL\)"
    refused(log, prepare, "valve", version_of(2.0, "valve"), reason, model="pump")


def test_a_challenger_that_cannot_be_loaded_gets_no_share(log: Log) -> None:
    packed = pack_metadata(b"not a model", fields(n_features=1))

    async def prepare(settings: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, "pump", b"not a model", packed, role="challenger")

    refused(log, prepare, "pump", json.loads(packed)["version"][:16], "cannot serve: .*not ONNX")


def test_a_challenger_that_was_put_to_serve_by_hand_gets_no_share(log: Log) -> None:
    async def prepare(settings: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        log.publish(2.0)

    refused(log, prepare, "pump", V2, f"pump {V2} serves")


def test_newer_challengers_that_cannot_answer_take_no_place(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        await publish(settings, *made(3.0, kind="anomaly"), role="challenger")
        packed = pack_metadata(b"not a model", fields(n_features=1))
        await publish(settings, "pump", b"not a model", packed, role="challenger")
        assert (await split(settings, "pump", V2, 0.5)).changed
        assert (await seen()).split == Split("pump", V2, 0.5)

    run(log, test, max_challengers=1)


def test_against_the_built_in_detector_a_challenger_of_any_kind_may_answer(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(2.0), role="challenger")
        assert (await split(settings, "pump", V2, 0.5)).changed
        assert (await seen()).split == Split("pump", V2, 0.5)

    run(log, test)


def test_without_a_process_to_try_artefacts_in_no_split_is_made(log: Log) -> None:
    packed = pack_metadata(b"no process", fields(n_features=1))
    settings = settings_of()

    async def test() -> None:
        await publish(settings, "pump", b"no process", packed, role="challenger")
        with pytest.raises(ArtefactError, match="artefacts cannot be tried: no process"):
            await split(settings, "pump", json.loads(packed)["version"][:16], 0.5)

    asyncio.run(test())
