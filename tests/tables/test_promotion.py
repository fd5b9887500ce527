"""Publishing and promoting, and what a table that follows makes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from compute.artefact import ArtefactError
from compute.decisions import read_key
from tables.artefact_records import pack_metadata, publish
from tables.model_records import HEADROOM_BYTES, MAX_METADATA_BYTES, MAX_PLOT_BYTES, MAX_REPORT_BYTES
from tables.model_topic import TopicError
from tables.promotion import promote, retire
from tests.artefacts import artefact, fields
from tests.tables.deciding import V1, V2, V3, challengers, made, run, serving
from tests.tables.model_log import Log, settings_of


def test_a_champion_is_kept_and_its_promotion_comes_in_one_batch(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        assert await publish(settings, *made(1.0), by="ada", reason="first", evidence={"labels": 9}) == (0, 1)
        table = await seen()
        assert serving(table) == V1
        (decision,) = table.describe_decisions()
        assert (decision["action"], decision["model"], decision["version"]) == ("promote", "pump", V1)
        assert (decision["previous"], decision["by"], decision["reason"]) == ("", "ada", "first")
        assert decision["evidence"] == {"labels": 9}

    run(log, test)
    kept, champion, decided = log.records
    assert log.batches == [[kept.key], [champion.key, decided.key]]
    assert (kept.key, champion.key) == (f"pump@{V1}".encode(), b"pump")
    assert read_key(decided.key.decode()) == ("pump", V1, True)
    assert kept.value == champion.value == made(1.0)[1]
    assert dict(champion.headers)["decision"] == decided.value
    assert dict(kept.headers) == {"metadata": made(1.0)[2]}


def test_what_is_kept_already_is_not_written_again(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0))
        await promote(settings, "pump", V1)

    run(log, test)
    assert [len(batch) for batch in log.batches] == [1, 2, 1, 2, 2]


def test_a_challenger_is_held_and_does_not_serve(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        n_before = log.end_offset
        assert await publish(settings, *made(2.0), role="challenger") == (0, n_before)
        table = await seen()
        assert (serving(table), challengers(table)) == (V1, [V2])
        assert (table.role_of(V1), table.role_of(V2), table.role_of("f" * 16)) == (
            "champion",
            "challenger",
            "",
        )
        assert table.describe_decisions("pump")[0]["action"] == "challenge"

    run(log, test)
    assert [len(batch) for batch in log.batches] == [1, 2, 2]


def test_what_serves_cannot_challenge_itself(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        with pytest.raises(ArtefactError, match="serves: it cannot challenge itself"):
            await publish(settings, *made(1.0), role="challenger")

    run(log, test)


def test_a_promoted_challenger_serves_and_the_old_champion_is_former(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        held = (await seen()).challengers[0]
        outcome = await promote(settings, "pump", by="ada", evidence={"p_value": 0.001})
        assert (outcome.changed, outcome.version, outcome.previous) == (True, V2, V1)
        table = await seen()
        assert table.serving is held  # nobody loads it twice
        assert (challengers(table), table.role_of(V1)) == ([], "former")
        assert table.describe_decisions()[0]["evidence"] == {"p_value": 0.001}
        assert table.describe_decisions()[0]["previous"] == V1

    run(log, test)


def test_promoting_what_serves_does_nothing_and_says_so(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        n_before = log.end_offset
        outcome = await promote(settings, "pump", V1)
        assert (outcome.changed, outcome.message) == (False, f"pump {V1} serves already")
        assert log.end_offset == n_before

    run(log, test)


def test_a_promotion_over_another_than_serves_does_nothing(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        await publish(settings, *made(3.0))
        n_before = log.end_offset
        outcome = await promote(settings, "pump", V2, over=V1)
        assert (outcome.changed, log.end_offset) == (False, n_before)
        assert f"{V1} serves no more, {V3} does" in outcome.message
        assert (await promote(settings, "pump", V2, over=V3)).changed

    run(log, test)


def test_what_cannot_be_promoted_is_told(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        with pytest.raises(ArtefactError, match="nothing challenges under the name 'pump'"):
            await promote(settings, "pump")
        with pytest.raises(ArtefactError, match=f"pump has no version {V2} on topic 'models'"):
            await promote(settings, "pump", V2)

    run(log, test)
    assert log.end_offset == 3


def test_a_challenger_put_by_hand_serves_and_does_not_challenge_itself(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        log.publish(2.0)
        table = await seen()
        assert (serving(table), challengers(table), table.role_of(V2)) == (V2, [], "champion")
        await publish(settings, *made(3.0))
        table = await seen()
        assert (serving(table), challengers(table), table.role_of(V2)) == (V3, [], "former")

    run(log, test)


def test_what_could_never_serve_is_not_kept(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        log.append("pump", b"spoilt", made(1.0)[2])
        log.append("pump", *artefact([3.0], name="valve"))
        await publish(settings, *made(2.0))
        assert (await seen()).describe_decisions()[0]["previous"] == ""

    run(log, test)
    assert [len(batch) for batch in log.batches] == [1, 2]


def test_a_version_has_the_time_of_its_first_record(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        first = (await seen()).published_at("pump", V2)
        await promote(settings, "pump")
        assert (await seen()).published_at("pump", V2) == first
        await publish(settings, *made(3.0), role="challenger")
        await retire(settings, "pump", V3)
        assert (await seen()).published_at("pump", V3) is None

    run(log, test)


def test_what_is_too_large_is_not_sent(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        for part, limit, reason in (
            ({"plot": b"x" * (MAX_PLOT_BYTES + 1)}, MAX_PLOT_BYTES, "plot"),
            ({"report": b"x" * (MAX_REPORT_BYTES + 1)}, MAX_REPORT_BYTES, "report"),
            ({"evidence": {"x": "y" * 17_000}}, 16_384, "decision"),
            ({"reason": "x" * 1_001}, None, "decision"),
        ):
            with pytest.raises(ArtefactError, match=f"{reason}: at most {limit}" if limit else reason):
                await publish(settings, *made(1.0), **part)
        with pytest.raises(ArtefactError, match=f"metadata: at most {MAX_METADATA_BYTES} bytes"):
            await publish(settings, *made(1.0, trained_by="x" * MAX_METADATA_BYTES))
        with pytest.raises(ArtefactError, match="at most 1000 bytes"):
            await publish(settings_of(max_artefact_bytes=1_000), *made(1.0, padding_bytes=1_000))
        log.largest_batch = 100
        with pytest.raises(ArtefactError, match=r"set max\.message\.bytes of topic 'models' to 1196608"):
            await publish(settings, *made(1.0))

    run(log, test)
    assert log.records == []


def test_the_largest_of_everything_fits_into_a_batch(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        name, metadata = "n" * 200, b""
        onnx_bytes = b"x" * settings.max_artefact_bytes
        for n_bytes in range(MAX_METADATA_BYTES - 400, MAX_METADATA_BYTES):
            packed = pack_metadata(onnx_bytes, {**fields(name, n_features=1), "trained_by": "x" * n_bytes})
            if len(packed) <= MAX_METADATA_BYTES:
                metadata = packed
        await publish(
            settings,
            *(name, onnx_bytes, metadata),
            by="b" * 200,
            reason="r" * 1_000,
            evidence={"x": "y" * 14_500},
            plot=b"x" * MAX_PLOT_BYTES,
            report=b"x" * MAX_REPORT_BYTES,
        )

    run(log, test)
    n_bytes = sum(
        len(record.key) + len(record.value) + sum(len(header) + len(of) for header, of in record.headers)
        for record in log.records[1:]
    )
    assert 1_000_000 + 0.8 * HEADROOM_BYTES < n_bytes < 1_000_000 + HEADROOM_BYTES - 8_192


def test_a_topic_that_is_not_there_is_told(log: Log) -> None:
    log.topics = set()

    async def whole() -> None:
        with pytest.raises(TopicError, match="topic 'models' does not exist on kafka://broker:9092"):
            await publish(settings_of(), *made(1.0))

    asyncio.run(whole())
