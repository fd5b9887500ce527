"""Models to publish and decide about, and a table that follows the topic, for tests of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from compute.signatures import key_pair_of
from tables.model_index import PNG
from tables.models import ModelsTable
from tests.artefacts import artefact
from tests.tables.model_log import SECONDS, Log, settings_of, until

PLOT = PNG + b"a picture"


def made(weight: float, name: str = "pump", **more: Any) -> tuple[str, bytes, bytes]:
    return name, *artefact([weight], name=name, **more)


def version_of(weight: float, name: str = "pump", **more: Any) -> str:
    return str(json.loads(made(weight, name, **more)[2])["version"][:16])


V1, V2, V3, V4 = (version_of(float(number)) for number in (1, 2, 3, 4))


def run(
    log: Log, test: Callable[[Any, Callable[[], Coroutine[Any, Any, ModelsTable]]], Any], **changed: Any
) -> None:
    """Run a test with settings, and with a function that gives a table that has seen everything so far."""
    settings = settings_of(**changed)

    async def whole() -> None:
        table = ModelsTable(settings)
        await table.start()
        await table.catch_up(SECONDS)

        async def seen() -> ModelsTable:
            await until(lambda: table._position == log.end_offset and not table._is_behind)
            return table

        try:
            await test(settings, seen)
        finally:
            await table.stop()

    asyncio.run(whole())


def serving(table: ModelsTable) -> str:
    return table.serving.version if table.serving else ""


def challengers(table: ModelsTable) -> list[str]:
    return [model.version for model in table.challengers]


def write_keys(folder: Path, seed: bytes) -> dict[str, Path]:
    private, public = key_pair_of(seed)
    (folder / "private.pem").write_bytes(private)
    (folder / "public.pem").write_bytes(public)
    return {"signing_key": folder / "private.pem", "trusted_keys": folder / "public.pem"}
