"""The views about one entity: its statistics and its recent predictions, the same from every worker.

Owns routing by asking: this worker looks itself and asks all others at once. That costs a request per worker,
but so would asking only after looking here in vain, which is what happens to all but one of n workers; and
two producers that partition differently leave an entity with state in two places, of which every worker then
shows the same one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp.web import Request, Response

from app.web.answers import answer, error, is_local, read_limit
from app.web.health import why_not_ready
from app.web.peers import ask_peers, list_unplaced_partitions
from compute.predictions import decode_key

MAX_PREDICTIONS = 1_000

Lookup = Callable[[bytes], "dict[str, Any] | None"]
Choose = Callable[["list[dict[str, Any]]"], "dict[str, Any]"]


def register(app: Any) -> None:
    """Register `/api/statistics/{key}` and `/api/predictions/{key}`."""

    async def statistics(view: Any, request: Request, key: str) -> Response:
        raw_key = read_key(request, "/api/statistics/")
        return await find(app, request, raw_key, app.statistics.describe, choose_statistics)

    async def predictions(view: Any, request: Request, key: str) -> Response:
        limit = read_limit(request, default=100, maximum=MAX_PREDICTIONS)

        def lookup(raw_key: bytes) -> dict[str, Any] | None:
            recent = app.scorer.recent_predictions(raw_key)
            if not recent and app.statistics.describe(raw_key) is None:
                return None
            return {"key": decode_key(raw_key), "predictions": recent[:limit]}

        def choose(found: list[dict[str, Any]]) -> dict[str, Any]:
            lists = [item["predictions"] for item in found]
            return {"key": found[0]["key"], "predictions": merge_newest(lists, limit)}

        return await find(app, request, read_key(request, "/api/predictions/"), lookup, choose)

    # `.+`, since a key may hold slashes, encoded or not.
    app.page("/api/statistics/{key:.+}", name="statistics")(statistics)
    app.page("/api/predictions/{key:.+}", name="predictions")(predictions)


async def find(app: Any, request: Request, key: bytes, lookup: Lookup, choose: Choose) -> Response:
    """Answer a view about a key: 200, 404 when no worker knows it, 503 when that cannot be said now."""
    reason = why_not_ready(app)
    if reason:
        return error(503, f"this worker is {reason}; ask again")
    own = lookup(key)
    if is_local(request):
        return answer(own) if own is not None else error(404, "not held by this worker")
    peers = await ask_peers(app, request.rel_url.raw_path, request.rel_url.raw_query_string)
    found = [body for body in [own, *peers.bodies] if body is not None]
    if found:
        return answer(choose(found))
    if peers.unanswered:
        return error(503, "not every worker can answer now; ask again", unanswered=peers.unanswered)
    unplaced = list_unplaced_partitions(app)
    if unplaced:
        return error(
            503,
            f"no worker is known for partitions {unplaced}: do two workers advertise the same address? "
            "Set NOWCAST_WEB_ADVERTISED_HOST so that each can be reached by the others",
        )
    return error(404, f"no state for key {decode_key(key)!r}")


def read_key(request: Request, prefix: str) -> bytes:
    """Read the key from the path as the bytes that Kafka has, whatever the encoding."""
    return unquote_to_bytes(request.rel_url.raw_path.removeprefix(prefix))


def choose_statistics(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Choose the state with the most events; of equals, that of the lowest partition."""
    return max(found, key=lambda item: (item["n_events"], -item["partition"]))


def merge_newest(lists: list[list[dict[str, Any]]], limit: int) -> list[dict[str, Any]]:
    """Merge items of several workers, newest event time first, each id once.

    Examples
    --------
    >>> merge_newest([[{"id": "a", "timestamp": 1.0}], [{"id": "b", "timestamp": 2.0}]], 10)
    [{'id': 'b', 'timestamp': 2.0}, {'id': 'a', 'timestamp': 1.0}]
    """
    by_id = {item["id"]: item for items in lists for item in items}

    def age(item: dict[str, Any]) -> tuple[float, int, str]:
        # Ids end in the offset: of two at the same time the longer one is later, else the greater.
        return item["timestamp"], len(item["id"]), item["id"]

    return sorted(by_id.values(), key=age, reverse=True)[:limit]
