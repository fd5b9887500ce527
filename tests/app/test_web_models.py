"""The views about models on a table that holds real ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tables.artefact_records import publish
from tables.model_index import PNG
from tables.models import ModelsTable
from tables.promotion import split
from tests.app.test_web import Cluster, on_cluster
from tests.artefacts import artefact
from tests.tables.model_log import SECONDS, install, settings_of

PLOT = PNG + b"a picture"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModelsTable:
    """Give a table with a champion, which has a plot, and a challenger that answers for a quarter."""
    install(monkeypatch)

    async def fill() -> ModelsTable:
        settings = settings_of()
        await publish(settings, "pump", *artefact([1.0], name="pump"), plot=PLOT, report=b'{"best": 1}')
        await publish(settings, "pump", *artefact([2.0], name="pump"), role="challenger")
        held = ModelsTable(settings)
        await held.start()
        await held.catch_up(SECONDS)
        await split(settings, "pump", held.challengers[0].version, 0.25)
        while held.split is None:
            await asyncio.sleep(0.01)
        await held.stop()
        return held

    return asyncio.run(fill())


def on_table(table: ModelsTable, test: Any, token: str = "") -> None:
    async def with_table(cluster: Cluster) -> None:
        cluster.apps[0].models = table
        await test(cluster)

    on_cluster(with_table, token=token)


def test_models_are_listed_with_their_roles(table: ModelsTable) -> None:
    async def test(cluster: Cluster) -> None:
        status, found, _ = await cluster.get("/api/models")
        assert status == 200
        assert [(item["role"], item["share"], item["plot"]) for item in found["models"]] == [
            ("champion", None, True),
            ("challenger", 0.25, False),
        ]

    on_table(table, test)


def test_one_model_is_told_with_its_versions_and_decisions(table: ModelsTable) -> None:
    async def test(cluster: Cluster) -> None:
        status, found, _ = await cluster.get("/api/models/pump")
        assert (status, found["role"], found["report"]) == (200, "champion", {"best": 1})
        assert [item["role"] for item in found["versions"]] == ["challenger", "champion"]
        assert [item["action"] for item in found["decisions"]] == ["split", "challenge", "promote"]

    on_table(table, test)


def test_the_plot_of_a_training_is_a_picture(table: ModelsTable) -> None:
    champion, challenger = table.serving.version, table.challengers[0].version  # type: ignore[union-attr]

    async def test(cluster: Cluster) -> None:
        server = cluster.servers[0]
        for path in ("/api/models/pump/plot", f"/api/models/pump/plot?version={champion}"):
            async with cluster.session.get(server.make_url(path)) as response:
                assert (response.status, response.content_type) == (200, "image/png")
                assert await response.read() == PLOT
                assert response.headers["X-Content-Type-Options"] == "nosniff"
        for path in (f"/api/models/pump/plot?version={challenger}", "/api/models/valve/plot"):
            status, found, _ = await cluster.get(path)
            assert (status, "no plot of" in found["error"]) == (404, True)

    on_table(table, test)


def test_the_plot_is_behind_the_token(table: ModelsTable) -> None:
    async def test(cluster: Cluster) -> None:
        assert (await cluster.get("/api/models/pump/plot"))[0] == 401

    on_table(table, test, token="s3cret")
