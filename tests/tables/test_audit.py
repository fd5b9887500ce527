"""Retirement, and what is told of versions and decisions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compute.artefact import ArtefactError
from tables.artefact_records import publish
from tables.model_index import N_DECISIONS, N_PICTURES
from tables.promotion import promote, retire, split
from tests.tables.deciding import PLOT, V1, V2, V3, challengers, made, run, serving, version_of
from tests.tables.model_log import Log


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
            await split(settings, "pump", version_of(N_PICTURES + 4.0), number / n_rounds)
        table = await seen()
        newest = [table.pictures("pump", version_of(float(number))).plot for number in range(N_PICTURES + 5)]
        assert newest == [b""] * 5 + [PLOT + bytes([number]) for number in range(5, N_PICTURES + 5)]
        shares = [item["share"] for item in table.describe_decisions()[:n_rounds]]
        assert shares == [number / n_rounds for number in reversed(range(n_rounds))]
        table._index._decisions.extend([("", {})] * N_DECISIONS)
        assert len(table._index._decisions) == N_DECISIONS

    run(log, test, max_challengers=1)


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
