"""What happens around every view: the token, security headers, and errors as JSON.

It is a middleware of the web server, not a decorator of views, so that a view that somebody adds later is
closed unless `authorisation.OPEN_PATHS` names it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp.web import HTTPException, Request, StreamResponse, middleware

from app.web.answers import ParameterError, error
from app.web.authorisation import is_allowed

log = logging.getLogger(__name__)

HEADERS = {
    # Scripts and styles come from here alone, none stands in the page itself, and nobody frames it. The
    # page's icon is an empty `data:` address, so that browsers do not ask for one.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[Request], Awaitable[StreamResponse]]


def create_middleware(token: str) -> Any:
    """Make the middleware that asks for this token (none when empty)."""

    @middleware
    async def protect(request: Request, handler: Handler) -> StreamResponse:
        if is_allowed(request.path, request.headers.get("Authorization"), token):
            response = await _call(request, handler)
        else:
            response = error(401, "a token is needed: send Authorization: Bearer <NOWCAST_TOKEN>")
            response.headers["WWW-Authenticate"] = "Bearer"
        response.headers.update(HEADERS)
        return response

    return protect


async def _call(request: Request, handler: Handler) -> StreamResponse:
    try:
        return await handler(request)
    except ParameterError as wrong:
        return error(400, str(wrong))
    except HTTPException as known:  # aiohttp's own: no such path, method not allowed
        response = error(known.status, (known.reason or "").lower())
        if "Allow" in known.headers:
            response.headers["Allow"] = known.headers["Allow"]
        return response
    except Exception:
        # The reason is for the log; it may hold what the asker must not see.
        log.exception("web view %s failed", request.path)
        return error(500, "internal error, see the worker's log")
