"""The views about models: which are known, which serves, which challenge. Every worker holds them all."""

from __future__ import annotations

from typing import Any

from aiohttp.web import Request, Response

from app.web.answers import answer, error
from compute import detector


def name_serving(app: Any) -> tuple[str, str]:
    """Return name and version of what serves: the built-in detector until a model is published."""
    serving = app.models.serving
    return (detector.MODEL, detector.VERSION) if serving is None else (serving.name, serving.version)


def register(app: Any) -> None:
    """Register `/api/models`, `/api/models/{name}` and `/api/models/{name}/plot`."""

    async def models(view: Any, request: Request) -> Response:
        serving = dict(zip(("name", "version"), name_serving(app), strict=True))
        refusals = list(reversed(app.models.history.refusals))
        return answer({"serving": serving, "models": app.models.describe(), "refusals": refusals})

    async def model(view: Any, request: Request, name: str) -> Response:
        found = app.models.describe_one(name)
        return error(404, f"no model named {name!r} is published") if found is None else answer(found)

    async def plot(view: Any, request: Request, name: str) -> Response:
        image = app.models.pictures(name, request.query.get("version", "")).plot
        if not image:
            return error(404, f"no plot of {name!r} in this version is known")
        return Response(body=image, content_type="image/png")

    app.page("/api/models", name="models")(models)
    app.page("/api/models/{name}", name="model")(model)
    app.page("/api/models/{name}/plot", name="model-plot")(plot)
