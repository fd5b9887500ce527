"""All web views, registered on the application."""

from __future__ import annotations

from typing import Any

from app.web import entities, evaluations, exposition, health, models, page, workers
from app.web.middleware import create_middleware


def register(app: Any) -> None:
    """Register every view, behind the token if one is set.

    Parameters
    ----------
    app : App
        The application; a view asks its parts (statistics, scorer, models, metrics) when it is called.
    """
    app.web.web_app.middlewares.append(create_middleware(app.nowcast_settings.token.get_secret_value()))
    for part in (page, health, exposition, entities, workers, models, evaluations):
        part.register(app)
