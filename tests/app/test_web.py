"""The web views over real HTTP, on Faust applications whose other parts are stubs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
import faust
import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from yarl import URL

from agents.metrics import Metrics
from app.web import views
from app.web.authorisation import is_allowed
from app.web.page import FILES, read_file

N_PARTITIONS = 4
Answer = tuple[int, Any, Any]


class Statistics:
    """Stands in for the table: the keys in `states`, by partition."""

    def __init__(self, partitions: list[int], states: dict[bytes, int]) -> None:
        self.partitions, self.states = partitions, states

    def held(self) -> list[int]:
        return self.partitions

    def n_entities(self) -> int:
        return len(self.states)

    def describe(self, key: bytes) -> dict[str, Any] | None:
        if key not in self.states:
            return None
        return {
            "key": key.decode(errors="backslashreplace"),
            "n_events": self.states[key],
            "partition": self.partitions[0],
        }


class Scorer:
    def __init__(self) -> None:
        self.predictions: dict[bytes, list[dict[str, Any]]] = {}
        self.alerts: list[dict[str, Any]] = []

    def recent_predictions(self, key: bytes) -> list[dict[str, Any]]:
        return self.predictions.get(key, [])

    def recent_alerts(self) -> list[dict[str, Any]]:
        return self.alerts


class Models:
    serving = None
    caught_up = True
    problem = ""
    history = SimpleNamespace(refusals=[{"name": "pumps", "reason": "not ONNX"}])

    def describe(self) -> list[dict[str, Any]]:
        return [{"name": "pumps", "version": "1"}]

    def describe_one(self, name: str) -> dict[str, Any] | None:
        return {"name": name, "version": "1"} if name == "pumps" else None


class Cluster:
    """Workers that listen on real ports and know of each other."""

    def __init__(self, apps: list[Any], servers: list[TestServer], session: aiohttp.ClientSession) -> None:
        self.apps, self.servers, self.session = apps, servers, session

    async def get(self, path: str, worker: int = 0, **kwargs: Any) -> Answer:
        url = URL(str(self.servers[worker].make_url("/")).rstrip("/") + path, encoded=True)
        async with self.session.get(url, **kwargs) as response:
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text()), response.headers


def make_app(number: int, states: dict[bytes, int], n_workers: int, token: str) -> Any:
    app: Any = faust.App(
        f"web-{number}", autodiscover=False, web_router_enabled=False, web_tables_enabled=False
    )
    app.nowcast_settings = SimpleNamespace(
        token=SecretStr(token), topic_events="events", partitions=N_PARTITIONS
    )
    app.statistics = Statistics([p for p in range(N_PARTITIONS) if p % n_workers == number], states)
    app.scorer, app.models, app.metrics = Scorer(), Models(), Metrics()
    views.register(app)
    app.tables.actives_ready = True
    app.tables._recovery = SimpleNamespace(progress=None)
    return app


def on_cluster(
    test: Callable[[Cluster], Awaitable[None]], *states: dict[bytes, int], token: str = ""
) -> None:
    """Run a test on one worker for each of `states` (one at least)."""

    async def run() -> None:
        apps = [make_app(i, held, len(states or [{}]), token) for i, held in enumerate(states or [{}])]
        servers = [TestServer(app.web.web_app) for app in apps]
        async with aiohttp.ClientSession() as session:
            for app, server in zip(apps, servers, strict=True):
                await server.start_server()
                app.conf.canonical_url = str(server.make_url("")).rstrip("/")
            held = {str(app.conf.canonical_url): {"events": app.statistics.held()} for app in apps}
            for app in apps:
                app.assignor.external_topic_distribution = held
            try:
                await test(Cluster(apps, servers, session))
            finally:
                for app, server in zip(apps, servers, strict=True):
                    await server.close()
                    await app._maybe_close_http_client()

    asyncio.run(run())


@pytest.mark.parametrize("view", ["statistics", "predictions"])
@pytest.mark.parametrize("key", ["pump-1", "a/b", "100%", "a%2Fb", "ü ?&#+=", "..x", "<b>", '"'])
def test_a_key_is_found_from_every_worker(view: str, key: str) -> None:
    async def test(cluster: Cluster) -> None:
        for worker in range(3):
            status, body, _ = await cluster.get(f"/api/{view}/{quote(key, safe='')}", worker)
            assert (status, body["key"]) == (200, key)

    on_cluster(test, {}, {key.encode(): 7}, {})


def test_a_slash_in_a_key_needs_no_encoding() -> None:
    async def test(cluster: Cluster) -> None:
        assert (await cluster.get("/api/statistics/site/1/pump"))[0] == 200

    on_cluster(test, {}, {b"site/1/pump": 7})


def test_a_key_that_is_not_utf8_is_found_by_its_bytes() -> None:
    async def test(cluster: Cluster) -> None:
        assert (await cluster.get("/api/statistics/%FFpump"))[1]["key"] == "\\xffpump"

    on_cluster(test, {}, {b"\xffpump": 7})


def test_a_key_with_state_in_two_partitions_answers_the_same_from_every_worker() -> None:
    async def test(cluster: Cluster) -> None:
        answers = [(await cluster.get("/api/statistics/pump", worker))[1] for worker in range(3)]
        assert answers == [{"key": "pump", "n_events": 9, "partition": 1}] * 3

    on_cluster(test, {b"pump": 5}, {b"pump": 9}, {b"pump": 9})


def test_a_key_that_no_worker_knows_is_404() -> None:
    async def test(cluster: Cluster) -> None:
        for view in ("statistics", "predictions"):
            status, body, _ = await cluster.get(f"/api/{view}/nobody")
            assert (status, body) == (404, {"error": "no state for key 'nobody'"})

    on_cluster(test, {}, {})


@pytest.mark.parametrize("broken", ["stopped", "recovering"])
def test_a_key_not_found_while_a_peer_cannot_answer_is_503(broken: str) -> None:
    async def test(cluster: Cluster) -> None:
        if broken == "stopped":
            await cluster.servers[1].close()
        else:
            cluster.apps[1].in_recovery = True
        status, body, headers = await cluster.get("/api/statistics/pump")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert body["unanswered"] == [str(cluster.apps[1].conf.canonical_url)]
        status, body, _ = await cluster.get("/api/statistics/mine")
        assert status == 200

    on_cluster(test, {b"mine": 1}, {b"pump": 5})


@pytest.mark.parametrize("flag", ["rebalancing", "in_recovery"])
def test_a_view_about_a_key_is_503_while_its_own_worker_recovers(flag: str) -> None:
    async def test(cluster: Cluster) -> None:
        setattr(cluster.apps[0], flag, True)
        for path in ("/api/statistics/pump", "/api/predictions/pump", "/health/ready"):
            status, body, headers = await cluster.get(path)
            assert (status, headers["Retry-After"]) == (503, "1")
            assert "recover" in body["error"] or "rebalanc" in body["error"]
        assert (await cluster.get("/health/live"))[0] == 200

    on_cluster(test, {b"pump": 5})


def test_who_asks_during_a_recovery_is_told_how_far_it_is() -> None:
    async def test(cluster: Cluster) -> None:
        cluster.apps[0].in_recovery = cluster.apps[0].rebalancing = (
            True  # for Faust it is part of a rebalance
        )
        cluster.apps[0].tables._recovery.progress = SimpleNamespace(describe=lambda: "25%, 6 s left")
        status, body, _ = await cluster.get("/health/ready")
        assert (status, body["error"]) == (503, "recovering state from the changelog (25%, 6 s left)")

    on_cluster(test)


def test_workers_that_advertise_one_address_are_noticed() -> None:
    async def test(cluster: Cluster) -> None:
        url = str(cluster.apps[0].conf.canonical_url)
        cluster.apps[0].assignor.external_topic_distribution = {url: {"events": [0, 2]}}
        status, body, _ = await cluster.get("/api/statistics/pump")
        assert status == 503
        assert "[1, 3]" in body["error"]
        assert "NOWCAST_WEB_ADVERTISED_HOST" in body["error"]

    on_cluster(test, {})


def test_ready_needs_an_assignment_and_zero_partitions_are_one() -> None:
    async def test(cluster: Cluster) -> None:
        assert (await cluster.get("/health/ready"))[0] == 200
        cluster.apps[0].tables.on_rebalance_start()  # what Faust does first
        assert (await cluster.get("/health/ready"))[1] == {"error": "waiting for partitions"}
        cluster.apps[0].tables.on_actives_ready()
        cluster.apps[0].models.caught_up = False
        assert "reading models" in (await cluster.get("/health/ready"))[1]["error"]
        cluster.apps[0].models.caught_up = True
        assert (await cluster.get("/health/ready"))[0] == 200

    on_cluster(test)


def test_a_crashed_worker_is_not_live() -> None:
    async def test(cluster: Cluster) -> None:
        cluster.apps[0]._crashed.set()
        assert (await cluster.get("/health/live"))[0] == 503
        assert (await cluster.get("/health/ready"))[1] == {"error": "crashed"}

    on_cluster(test)


def alert(number: int) -> dict[str, Any]:
    return {"id": f"events-0-{number}-score-firing", "timestamp": float(number), "key": "pump"}


def test_alerts_of_all_workers_come_newest_first_each_once() -> None:
    async def test(cluster: Cluster) -> None:
        for app, numbers in zip(cluster.apps, [(4, 1), (3, 2), (5, 4)], strict=True):
            app.scorer.alerts = [alert(number) for number in numbers]
        for worker in range(3):
            body = (await cluster.get("/api/alerts?limit=4", worker))[1]
            assert [item["timestamp"] for item in body["alerts"]] == [5, 4, 3, 2]
            assert body["unanswered"] == []

    on_cluster(test, {}, {}, {})


def test_predictions_of_a_key_with_state_but_without_recent_ones_are_an_empty_list() -> None:
    async def test(cluster: Cluster) -> None:
        assert (await cluster.get("/api/predictions/pump"))[1] == {"key": "pump", "predictions": []}

    on_cluster(test, {}, {b"pump": 1})


def test_predictions_come_newest_first_within_the_limit() -> None:
    async def test(cluster: Cluster) -> None:
        cluster.apps[1].scorer.predictions = {b"pump": [{"id": str(i), "timestamp": i} for i in (3, 2, 1)]}
        body = (await cluster.get("/api/predictions/pump?limit=2"))[1]
        assert [item["timestamp"] for item in body["predictions"]] == [3, 2]

    on_cluster(test, {}, {b"pump": 1})


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.5", "ten", "", "²", "9" * 30])
@pytest.mark.parametrize("path", ["/api/alerts", "/api/predictions/pump"])
def test_a_wrong_limit_is_refused_with_bound_and_value(path: str, limit: str) -> None:
    async def test(cluster: Cluster) -> None:
        status, body, _ = await cluster.get(f"{path}?limit={quote(limit)}")
        assert (status, body["error"]) == (
            400,
            f"limit must be a whole number from 1 to 1000, received {limit!r}",
        )

    on_cluster(test)


def test_workers_are_listed_with_who_did_not_answer() -> None:
    async def test(cluster: Cluster) -> None:
        cluster.apps[0].metrics.batch_scored(10, 8, 0.01, {"not-finite": 2}, [("firing", "warning")])
        cluster.apps[0].in_recovery = True
        await cluster.servers[2].close()
        for worker in range(2):
            body = (await cluster.get("/api/workers", worker))[1]
            assert body["unanswered"] == [str(cluster.apps[2].conf.canonical_url)]
            by_url = {row["url"]: row for row in body["workers"]}
            row = by_url[str(cluster.apps[0].conf.canonical_url)]
            assert row["state"].startswith("recovering")
            assert (row["n_events"], row["n_predictions"], row["n_alerts"]) == (10, 8, 1)
            assert row["n_dead_letters"] == {"not-finite": 2}
            assert row["partitions"] == [0, 3]
            assert row["model"]["name"]
            assert by_url[str(cluster.apps[1].conf.canonical_url)]["state"] == "ready"

    on_cluster(test, {}, {}, {})


def test_models_and_one_of_them() -> None:
    async def test(cluster: Cluster) -> None:
        assert (await cluster.get("/api/models"))[1] == {
            "serving": {"name": "detector", "version": "builtin-1"},
            "models": [{"name": "pumps", "version": "1"}],
            "refusals": [{"name": "pumps", "reason": "not ONNX"}],
        }
        assert (await cluster.get("/api/models/pumps"))[1] == {"name": "pumps", "version": "1"}
        assert (await cluster.get("/api/models/other"))[0] == 404

    on_cluster(test)


CLOSED = [
    "/api/statistics/pump",
    "/api/predictions/pump",
    "/api/alerts",
    "/api/workers",
    "/api/models",
    "/metrics",
]


@pytest.mark.parametrize(
    "path", [*CLOSED, "/api/models/pumps", "/no-such-path", "/api/statistics/pump?local=1"]
)
@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", "Bearer s3cre", "Basic s3cret", "s3cret", "Bearer ü"]
)
def test_without_the_token_nothing_but_page_and_health_answers(path: str, header: str | None) -> None:
    async def test(cluster: Cluster) -> None:
        headers = {} if header is None else {"Authorization": header}
        status, body, answered = await cluster.get(path, headers=headers)
        assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
        assert "pump" not in str(body)

    on_cluster(test, {b"pump": 1}, token="s3cret")


def test_with_the_token_workers_also_reach_each_other() -> None:
    async def test(cluster: Cluster) -> None:
        for path in CLOSED:
            assert (await cluster.get(path, headers={"Authorization": "Bearer s3cret"}))[0] == 200
        for path in (*FILES, "/health/live", "/health/ready"):
            assert (await cluster.get(path))[0] == 200

    on_cluster(test, {}, {b"pump": 1}, token="s3cret")


def test_a_path_that_only_looks_open_is_closed() -> None:
    for path in ("/health/live/", "/health", "//", "/page.js/../api/alerts"):
        assert not is_allowed(path, None, "s3cret")


def test_every_answer_carries_the_security_headers() -> None:
    async def test(cluster: Cluster) -> None:
        for path in ("/", "/page.js", "/api/alerts", "/api/statistics/nobody", "/no-such-path", "/metrics"):
            _, _, headers = await cluster.get(path)
            assert headers["Content-Security-Policy"].startswith("default-src 'self';")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "DENY"

    on_cluster(test)


def test_an_error_inside_a_view_is_500_without_its_reason() -> None:
    async def test(cluster: Cluster) -> None:
        cluster.apps[0].models.describe = lambda: 1 / 0
        status, body, _ = await cluster.get("/api/models")
        assert status == 500
        assert "division" not in str(body)

    on_cluster(test)


def test_unknown_paths_and_methods_are_json_errors() -> None:
    async def test(cluster: Cluster) -> None:
        assert (await cluster.get("/no-such-path"))[:2] == (404, {"error": "not found"})
        async with cluster.session.post(cluster.servers[0].make_url("/api/alerts")) as response:
            assert response.status == 405
            assert "GET" in response.headers["Allow"]

    on_cluster(test)


def test_a_peer_that_redirects_or_talks_nonsense_has_not_answered() -> None:
    async def test(cluster: Cluster) -> None:
        async def nonsense(request: aiohttp.web.Request) -> aiohttp.web.Response:
            if "alerts" in request.path:
                return aiohttp.web.Response(text="<html>")
            raise aiohttp.web.HTTPFound("http://127.0.0.1:9/")

        other = aiohttp.web.Application()
        other.router.add_get("/{path:.*}", nonsense)
        async with TestServer(other) as server:
            url = str(server.make_url("")).rstrip("/")
            cluster.apps[0].assignor.external_topic_distribution = {url: {"events": [0, 1, 2, 3]}}
            for path in ("/api/alerts", "/api/workers"):
                assert (await cluster.get(path))[1]["unanswered"] == [url]
            assert (await cluster.get("/api/statistics/pump"))[0] == 503

    on_cluster(test)


def test_metrics_speak_prometheus() -> None:
    async def test(cluster: Cluster) -> None:
        cluster.apps[0].metrics.batch_scored(10, 8, 0.01, {"not-finite": 2}, [("firing", "warning")])
        _, text, headers = await cluster.get("/metrics")
        assert headers["Content-Type"].startswith("text/plain; version=")
        for line in (
            "nowcast_events_total 10.0",
            "nowcast_predictions_total 8.0",
            'nowcast_alerts_total{severity="warning",state="firing"} 1.0',
            'nowcast_dead_letters_total{code="not-finite"} 2.0',
            "nowcast_entities 1.0",
            "nowcast_partitions 4.0",
        ):
            assert f"{line}\n" in text
        assert re.search(r'nowcast_model_info\{model="[^"]+",version="[^"]+"\} 1\.0', text)

    on_cluster(test, {b"pump": 1})


def test_the_page_holds_nothing_that_its_policy_forbids() -> None:
    html = read_file(FILES["/"][0])
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert not re.findall(r'(?:src|href)="(?!/|data:,)', html)
    scripts = [name for name, content_type in FILES.values() if content_type == "text/javascript"]
    assert len(scripts) == 4
    for name in scripts:
        script = read_file(name)
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://(?!www\.w3\.org)", script
        )
        # The policy would ignore a style that is set as an attribute.
        assert not re.search(r"setAttribute\(.style|style:", script)
    assert not re.search(r"url\(|@import", read_file(FILES["/page.css"][0]))


def test_every_script_that_a_script_imports_is_served() -> None:
    for name, content_type in FILES.values():
        if content_type == "text/javascript":
            imported = re.findall(r'^import .* from "\.(/[^"]+)";', read_file(name), re.MULTILINE)
            assert set(imported) <= set(FILES)
    assert "/page-learning.js" in re.findall(r'from "\.(/[^"]+)"', read_file("page.js"))


def test_every_element_that_a_script_looks_for_is_on_the_page() -> None:
    html = read_file(FILES["/"][0])
    for name, content_type in FILES.values():
        if content_type == "text/javascript":
            looked_for = re.findall(r'\$\("([^"]+)"\)|\bput\("([^"]+)"', read_file(name))
            missing = {one or other for one, other in looked_for if f'id="{one or other}"' not in html}
            assert not missing, name
