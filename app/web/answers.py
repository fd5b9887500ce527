"""What every view answers with: JSON, errors as JSON, and parameters checked.

Owns the form of answers and of errors: `{"error": reason}` with a status that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp.web import Request, Response

RETRY_SECONDS = 1
"""What `Retry-After` asks for: a rebalance or a recovery mostly takes a few seconds."""


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a value as JSON; NaN and infinity, which JSON does not know, become null."""
    return Response(
        body=msgspec.json.encode(value),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=dict(headers or {}),
    )


def error(status: int, reason: str, **details: Any) -> Response:
    """Answer with an error; one that passes by itself (503) says when to ask again."""
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    return answer({"error": reason, **details}, status, headers)


class ParameterError(ValueError):
    """A query parameter is wrong; the message names it, its bound and the value received."""


def read_limit(request: Request, default: int, maximum: int) -> int:
    """Read the query parameter `limit`.

    Raises
    ------
    ParameterError
        When it is no whole number from 1 to `maximum`.
    """
    text = request.query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= maximum):
        raise ParameterError(f"limit must be a whole number from 1 to {maximum}, received {text!r}")
    return int(text)


def is_local(request: Request) -> bool:
    """Tell whether another worker asks, which wants to know what this one holds and no more."""
    return request.query.get("local") == "1"
