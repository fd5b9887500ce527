"""Health: is this worker alive, and is it ready.

Owns what "ready" means, which the other views ask too. Faust starts its web server before the consumer joins
its group, so both answer while partitions are assigned and state is recovered.
"""

from __future__ import annotations

from typing import Any

from aiohttp.web import Request, Response

from app.web.answers import answer, error


def why_not_ready(app: Any) -> str | None:
    """Return why this worker cannot answer for its partitions, or None when it can.

    A worker that a completed rebalance left without partitions is ready: it answers with "not here".
    """
    if app.crashed:
        return "crashed"
    if app.should_stop:
        return "stopping"
    if app.in_recovery:  # asked first: for Faust a rebalance lasts until recovery is over
        progress = app.tables.recovery.progress
        return f"recovering state from the changelog{f' ({progress.describe()})' if progress else ''}"
    if app.rebalancing:
        return "rebalancing"
    # Faust clears it when a rebalance starts and sets it as the last step of recovery, also when there was
    # nothing to recover. False with neither of the two flags above: not yet a member of the group.
    if not app.tables.actives_ready:
        return "waiting for partitions"
    # The first batch waits for the models, so an event sent now would not be answered yet.
    if not app.models.caught_up:
        return f"reading models: {app.models.problem or 'not at the end of the topic yet'}"
    return None


def register(app: Any) -> None:
    """Register `/health/live` and `/health/ready`."""

    async def live(view: Any, request: Request) -> Response:
        # That this runs shows that the event loop turns. Kafka being away is no reason for a restart.
        return error(503, "crashed") if app.crashed else answer({"status": "live"})

    async def ready(view: Any, request: Request) -> Response:
        reason = why_not_ready(app)
        return error(503, reason) if reason else answer({"status": "ready"})

    app.page("/health/live", name="live")(live)
    app.page("/health/ready", name="ready")(ready)
