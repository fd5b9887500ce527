"""The page at `/`: some files, which ask the JSON views for everything they show.

Owns serving them. Nothing is put into them here: what comes from events reaches the page as JSON and stands
in it as text. Style and script are files of their own so that the page can forbid all that is inline.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from aiohttp.web import Request, Response

FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    **{
        f"/{name}": (name, "text/javascript")
        for name in ("page.js", "page-elements.js", "page-learning.js", "page-chart.js")
    },
}


@cache
def read_file(name: str) -> str:
    """Read one of the page's files, once."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def register(app: Any) -> None:
    """Register the page and its files."""
    for path, (name, content_type) in FILES.items():
        _register(app, path, name, content_type)


def _register(app: Any, path: str, name: str, content_type: str) -> None:
    async def file(view: Any, request: Request) -> Response:
        return Response(text=read_file(name), content_type=content_type, charset="utf-8")

    app.page(path, name=name)(file)
