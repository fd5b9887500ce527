"""Publishing and deciding, and what a table that follows makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from compute.artefact import ArtefactError
from compute.decisions import read_key
from compute.signatures import key_pair_of
from tables import model_loading
from tables.artefact_records import pack_metadata, publish
from tables.keys import KeyFileError
from tables.model_index import N_DECISIONS, N_PICTURES, PNG
from tables.model_records import HEADROOM_BYTES, MAX_METADATA_BYTES, MAX_PLOT_BYTES, MAX_REPORT_BYTES
from tables.model_topic import TopicError
from tables.models import ModelsTable, Split
from tables.promotion import promote, retire, rollback, split
from tests.artefacts import artefact, fields, linear
from tests.tables.model_log import SECONDS, Log, install, settings_of, until

PLOT = PNG + b"a picture"


def made(weight: float, name: str = "pump", **more: Any) -> tuple[str, bytes, bytes]:
    return name, *artefact([weight], name=name, **more)


def version_of(weight: float, name: str = "pump", **more: Any) -> str:
    return str(json.loads(made(weight, name, **more)[2])["version"][:16])


V1, V2, V3, V4 = (version_of(float(number)) for number in (1, 2, 3, 4))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    return install(monkeypatch)


def run(
    log: Log, test: Callable[[Any, Callable[[], Coroutine[Any, Any, ModelsTable]]], Any], **changed: Any
) -> None:
    """Run a test with settings, and with a function that gives a table that has seen everything so far."""
    settings = settings_of(**changed)

    async def whole() -> None:
        table = ModelsTable(settings)
        await table.start()
        await table.catch_up(SECONDS)

        async def seen() -> ModelsTable:
            await until(lambda: table._position == log.end_offset and not table._is_behind)
            return table

        try:
            await test(settings, seen)
        finally:
            await table.stop()

    asyncio.run(whole())


def serving(table: ModelsTable) -> str:
    return table.serving.version if table.serving else ""


def challengers(table: ModelsTable) -> list[str]:
    return [model.version for model in table.challengers]


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    return write_keys(tmp_path, b"k" * 32)


def write_keys(folder: Path, seed: bytes) -> dict[str, Path]:
    private, public = key_pair_of(seed)
    (folder / "private.pem").write_bytes(private)
    (folder / "public.pem").write_bytes(public)
    return {"signing_key": folder / "private.pem", "trusted_keys": folder / "public.pem"}


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


def test_only_what_has_a_role_is_held(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        for weight in (1.0, 2.0, 3.0):
            await publish(settings, *made(weight))
        await publish(settings, *made(4.0), role="challenger")
        assert {model.version for model in (await seen())._loader._held.values()} == {V3, V4}

    run(log, test)


def test_the_version_before_is_that_of_the_same_name(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(4.0, "valve"))
        await publish(settings, *made(2.0))
        previous = [item["previous"] for item in (await seen()).describe_decisions()]
        assert previous == [V1, V1, ""]  # valve had no champion: what served before it

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


def test_a_retired_version_leaves_the_topic_and_its_decisions_stay(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        await publish(settings, *made(2.0), role="challenger")
        with pytest.raises(ArtefactError, match=f"pump {V1} is champion"):
            await retire(settings, "pump", V1)
        with pytest.raises(ArtefactError, match=f"pump has no version {V3}"):
            await retire(settings, "pump", V3)
        assert (await retire(settings, "pump", V2, reason="worse")).changed
        table = await seen()
        assert (challengers(table), table.role_of(V2)) == ([], "retired")
        assert [item["action"] for item in table.describe_decisions("pump")] == [
            *("retire", "challenge", "promote")
        ]
        assert not (await retire(settings, "pump", V2)).changed
        with pytest.raises(ArtefactError, match="publish it again"):
            await promote(settings, "pump", V2)
        await publish(settings, *made(2.0), role="challenger")
        assert challengers(await seen()) == [V2]

    run(log, test)
    tombstones = [record.key for record in log.records if record.value is None]
    assert tombstones == [f"pump@{V2}".encode()]


def test_a_table_describes_versions_decisions_and_pictures(log: Log) -> None:
    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0), plot=PLOT, report=b'{"best": "ridge"}')
        await publish(settings, *made(2.0), role="challenger", plot=b"GIF89a")
        table = await seen()
        described = table.describe_one("pump")
        assert (described["role"], described["plot"], described["report"]) == (
            "champion",
            True,
            {"best": "ridge"},
        )
        assert [(item["version"], item["role"], item["state"]) for item in described["versions"]] == [
            (V2, "challenger", "kept"),
            (V1, "champion", "loaded"),
        ]
        assert [item["plot"] for item in described["versions"]] == [False, True]
        assert [item["action"] for item in described["decisions"]] == ["challenge", "promote"]
        assert table.pictures("pump").plot == table.pictures("pump", V1).plot == PLOT
        assert table.pictures("pump", V2).plot == b""  # what is no PNG is not given out as one
        assert [(item["version"], item["role"]) for item in table.describe()] == [
            (V1, "champion"),
            (V2, "challenger"),
        ]
        assert table.published_at("pump", V2) == 1_700_000_000.003
        assert table.published_at("pump", V3) is None

    run(log, test)


def test_pictures_and_decisions_are_remembered_within_bounds(log: Log) -> None:
    n_rounds = 10

    async def test(settings: Any, seen: Any) -> None:
        for number in range(N_PICTURES + 5):
            await publish(settings, *made(float(number)), role="challenger", plot=PLOT + bytes([number]))
        for number in range(n_rounds):
            await split(settings, "pump", version_of(0.0), number / n_rounds)
        table = await seen()
        newest = [table.pictures("pump", version_of(float(number))).plot for number in range(N_PICTURES + 5)]
        assert newest == [b""] * 5 + [PLOT + bytes([number]) for number in range(5, N_PICTURES + 5)]
        shares = [item["share"] for item in table.describe_decisions()[:n_rounds]]
        assert shares == [number / n_rounds for number in reversed(range(n_rounds))]
        table._index._decisions.extend([("", {})] * N_DECISIONS)
        assert len(table._index._decisions) == N_DECISIONS

    run(log, test, max_challengers=0)


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


def test_who_decides_is_told_unless_it_is_given(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    monkeypatch.setattr("socket.gethostname", lambda: "engine")

    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(1.0))
        assert (await seen()).describe_decisions()[0]["by"] == "ada@engine"

        def nobody() -> str:
            raise KeyError("no such user")

        monkeypatch.setattr("getpass.getuser", nobody)
        await publish(settings, *made(2.0))
        assert (await seen()).describe_decisions()[0]["by"] == "unknown@engine"

    run(log, test)


BROKEN = {
    "no JSON": (V2, b"promote it", "decision: JSON is malformed"),
    "another version": (V3, None, f"it speaks of pump@{V2}"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_decision_that_is_none_is_refused(log: Log, case: str) -> None:
    version, value, reason = BROKEN[case]

    async def test(settings: Any, seen: Any) -> None:
        await publish(settings, *made(2.0), role="challenger")
        await publish(settings, *made(1.0))
        good = json.dumps({"action": "retire", "model": "pump", "version": V2, "at": 2e9}).encode()
        log.add(f"pump@{version}/decision-1-0a1b2c".encode(), value or good)
        table = await seen()
        assert reason in table.history.refusals[0]["reason"]
        assert (serving(table), challengers(table)) == (V1, [V2])
        assert len(table.describe_decisions()) == 2

    run(log, test)


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
