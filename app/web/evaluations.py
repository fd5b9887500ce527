"""`/api/evaluations`: how good each version is on labelled events, the same from every worker.

With `?local=1` it is what this worker alone has learnt, in a form that merges exactly; workers ask each other
so.
"""

from __future__ import annotations

from typing import Any

from aiohttp.web import Request, Response

from app.supervision.report import PATH, describe, gather, tell
from app.web.answers import answer, error, is_local
from app.web.health import why_not_ready


def register(app: Any) -> None:
    """Register `/api/evaluations`."""

    async def evaluations(view: Any, request: Request) -> Response:
        if is_local(request):
            reason = why_not_ready(app)
            return error(503, f"this worker is {reason}; ask again") if reason else answer(tell(app))
        return answer(describe(app, await gather(app)))

    app.page(PATH, name="evaluations")(evaluations)
