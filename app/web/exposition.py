"""`/metrics`: this worker's metrics as Prometheus reads them. Each worker is scraped by itself."""

from __future__ import annotations

from typing import Any

from aiohttp.web import Request, Response
from prometheus_client import exposition

from app.web.models import name_serving


def register(app: Any) -> None:
    """Register `/metrics`."""

    async def metrics(view: Any, request: Request) -> Response:
        app.metrics.model_serving(*name_serving(app))
        app.metrics.state_held(app.statistics.n_entities(), len(app.statistics.held()))
        encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
        return Response(body=encode(app.metrics.registry), headers={"Content-Type": content_type})

    app.page("/metrics", name="metrics")(metrics)
