"""The views about all workers together: who they are and what they count, and the latest alerts.

Both answer also while this worker or another one recovers, and name the workers that did not: the page shows
a rebalance instead of going blank in it.
"""

from __future__ import annotations

from typing import Any

from aiohttp.web import Request, Response

from app.web.answers import answer, is_local, read_limit
from app.web.entities import merge_newest
from app.web.health import why_not_ready
from app.web.models import name_serving
from app.web.peers import ask_peers

MAX_ALERTS = 1_000


def register(app: Any) -> None:
    """Register `/api/workers` and `/api/alerts`."""

    async def workers(view: Any, request: Request) -> Response:
        own = [describe_worker(app)]
        if is_local(request):
            return answer({"workers": own, "unanswered": []})
        peers = await ask_peers(app, "/api/workers")
        rows = own + [row for body in peers.bodies for row in body["workers"]]
        return answer({"workers": sorted(rows, key=lambda row: row["url"]), "unanswered": peers.unanswered})

    async def alerts(view: Any, request: Request) -> Response:
        limit = read_limit(request, default=100, maximum=MAX_ALERTS)
        own = app.scorer.recent_alerts()
        if is_local(request):
            return answer({"alerts": merge_newest([own], limit), "unanswered": []})
        peers = await ask_peers(app, "/api/alerts", f"limit={limit}")
        lists = [own, *(body["alerts"] for body in peers.bodies)]
        return answer({"alerts": merge_newest(lists, limit), "unanswered": peers.unanswered})

    app.page("/api/workers", name="workers")(workers)
    app.page("/api/alerts", name="alerts")(alerts)


def describe_worker(app: Any) -> dict[str, Any]:
    """Return what this worker is, holds and has counted since it started."""
    name, version = name_serving(app)
    return {
        "url": str(app.conf.canonical_url).rstrip("/"),
        "state": why_not_ready(app) or "ready",
        "partitions": app.statistics.held(),
        "n_entities": app.statistics.n_entities(),
        "model": {"name": name, "version": version},
        **app.metrics.totals(),
    }
