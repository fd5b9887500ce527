"""Signed records of the models topic, and those that are altered or by others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from compute.artefact import ArtefactError
from tables.artefact_records import publish
from tables.keys import KeyFileError
from tables.models import ModelsTable
from tables.promotion import promote
from tests.artefacts import artefact
from tests.tables.deciding import PLOT, V1, V2, V3, challengers, made, run, serving, write_keys
from tests.tables.model_log import SECONDS, Log, settings_of, until


def test_signed_records_are_taken_and_no_others(log: Log, keys: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = settings_of(**write_keys(tmp_path / "theirs", b"t" * 32))

    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        assert serving(await seen()) == V1
        log.publish(3.0)
        await publish(settings_of(), *made(5.0), role="challenger")  # by somebody who knows of no keys
        await publish(theirs, *made(4.0))
        await promote(settings_of(), "pump", V2)
        log.append("pump", None)
        table = await seen()
        assert (serving(table), challengers(table)) == (V1, [V2])
        assert [item["version"] for item in table.describe_decisions()] == [V2, V1]
        reasons = " ".join(item["reason"] for item in table.history.refusals)
        assert "signature: one of a trusted key needed, received none" in reasons
        assert "received one of" in reasons
        assert "a tombstone has none" in reasons
        shown = table.describe_one("pump")["versions"]
        assert {item["version"]: item["state"] for item in shown}[V3] == "refused"
        assert (await promote(settings, "pump", V2)).changed
        assert serving(await seen()) == V2

    run(log, test, **keys)


def altered(record: Any, part: str) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Return a record that somebody changed a little, whose content still is what its version says."""
    headers = dict(record.headers)
    if part == "value":
        value, headers["metadata"] = artefact([9.0], name="pump")
        return record.key, value, list(headers.items())
    if part == "key":
        return b"pump", record.value, list(headers.items())
    if part == "plot":
        headers["plot"] = PLOT + b"!"
    elif part == "report":
        headers["report"] = b'{"best": "theirs"}'
    elif part == "decision":
        headers["decision"] = headers["decision"].replace(b"challenge", b"promote")
    elif part == "signature":
        headers["signature"] = headers["signature"][:-1] + b"?"
    else:
        del headers[part]
    return record.key, record.value, list(headers.items())


@pytest.mark.parametrize("part", ["value", "key", "plot", "report", "decision", "signature", "signature-key"])
def test_an_altered_artefact_is_refused(log: Log, keys: dict[str, Path], part: str) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger", plot=PLOT, report=b"{}")
        record = next(item for item in log.records if item.key == f"pump@{V2}".encode())
        log.add(*altered(record, part))
        table = await seen()
        assert (serving(table), challengers(table), len(table.history.refusals)) == (V1, [V2], 1)
        assert "signature" in table.history.refusals[0]["reason"]

    run(log, test, **keys)


def test_a_signed_decision_under_another_key_is_refused(log: Log, keys: dict[str, Path]) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0))
        decided = next(item for item in log.records if b"decision" in item.key)
        log.add(decided.key[:-6] + b"ffffff", decided.value, decided.headers)
        table = await seen()
        assert serving(table) == V2
        assert "not of this record" in table.history.refusals[0]["reason"]

    run(log, test, **keys)


def test_an_altered_decision_is_refused(log: Log, keys: dict[str, Path]) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        decided = log.records[-1]
        assert b'"challenge"' in decided.value
        log.add(decided.key, decided.value.replace(b'"challenge"', b'"promote"'), decided.headers)
        table = await seen()
        assert (serving(table), challengers(table)) == (V1, [V2])
        assert "not of this record" in table.history.refusals[0]["reason"]

    run(log, test, **keys)


def test_a_promotion_that_is_replayed_changes_nothing(log: Log, keys: dict[str, Path]) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0))
        for record in list(log.records[:3]):
            log.add(record.key, record.value, record.headers)
        table = await seen()
        assert (serving(table), table.history.refusals) == (V2, [])
        assert len(table.describe_decisions()) == 2

    run(log, test, **keys)


def test_who_has_no_trusted_key_is_told_before_anything_is_written(
    log: Log, keys: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = write_keys(tmp_path / "theirs", b"t" * 32)["signing_key"]

    async def whole() -> None:
        for signing_key, received in ((None, "received none"), (theirs, "received key [0-9a-f]{16}")):
            settings = settings_of(trusted_keys=keys["trusted_keys"], signing_key=signing_key)
            with pytest.raises(ArtefactError, match=rf"NOWCAST_SIGNING_KEY: .*{received}"):
                await publish(settings, *made(1.0))

    asyncio.run(whole())
    assert log.records == []


def test_whoever_trusts_nobody_in_particular_takes_signed_records_too(
    log: Log, keys: dict[str, Path]
) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings_of(signing_key=keys["signing_key"]), *made(1.0))
        assert serving(await seen()) == V1

    run(log, test)
    assert all("signature" in dict(record.headers) for record in log.records)


def test_a_key_file_that_cannot_be_used_is_told_with_its_setting(log: Log, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")

    async def whole() -> None:
        for path, reason in ((empty, "in PEM form"), (tmp_path / "nowhere", "cannot be read: No such file")):
            with pytest.raises(KeyFileError, match=f"^NOWCAST_TRUSTED_KEYS: '{path}'.*{reason}"):
                await ModelsTable(settings_of(trusted_keys=path)).start()
            with pytest.raises(KeyFileError, match=f"^NOWCAST_SIGNING_KEY: '{path}'.*{reason}"):
                await publish(settings_of(signing_key=path), *made(1.0))

    asyncio.run(whole())


def test_a_decision_by_a_key_that_is_trusted_no_more_counts_no_more(
    log: Log, keys: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    new = settings_of(**write_keys(tmp_path / "new", b"n" * 32))

    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        table = ModelsTable(new)
        await table.start()
        await table.catch_up(SECONDS)
        assert table.serving is None
        await publish(new, *made(2.0))
        await until(lambda: serving(table) == V2)
        await table.stop()

    run(log, test, **keys)
