"""Nowcast: real-time machine learning on Kafka with Faust.

`faust -A app worker` finds the application here. It is made when first asked for, so that importing
a module of this package reads no environment and opens nothing.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "app":
        from app.main import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
