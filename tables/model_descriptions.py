"""Models as people see them: what `/api/models` and `models show` say.

Owns the form; which model has which role is found in `tables/models.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from compute.scoring import Model
from tables.model_history import ModelHistory
from tables.model_index import ModelIndex, Pictures


def describe_held(model: Model, pictures: Pictures) -> dict[str, Any]:
    """Return what an artefact that is loaded says of itself."""
    metadata = model.metadata
    return {
        "name": model.name,
        "version": model.version,
        "kind": model.kind,
        "features": list(model.features),
        "normaliser": model.normaliser,
        "missing": model.missing,
        "classes": list(model.classes),
        "threshold": model.threshold,
        "size_bytes": model.size_bytes,
        "content_hash": model.content_hash,
        "metrics": metadata.metrics,
        "trained_by": metadata.trained_by,
        "trained_on": metadata.trained_on,
        "created_at": metadata.created_at,
        "library_versions": metadata.library_versions,
        "plot": bool(pictures.plot),
        "report": _report(pictures),
    }


def describe_versions(
    name: str, history: ModelHistory, index: ModelIndex, role_of: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Return a model's versions with their roles, newest first: its records, and what is kept besides."""
    versions = history.versions(name)
    listed = {item["version"] for item in versions}
    for version in index.ledger.versions(name):
        kept = index.kept(name, version)
        if version not in listed and kept is not None:
            offset = index.ledger.sources(name, version)[0]
            versions.append(
                {"version": version, "offset": offset, "published_at": kept.published_at, "state": "kept"}
            )
    for item in versions:
        role = role_of(item["version"]) if item["version"] and item["state"] != "refused" else ""
        pictures = index.pictures(name, item["version"])
        item.update(role=role, plot=bool(pictures.plot), report=bool(pictures.report))
    return sorted(versions, key=lambda item: -item["offset"])


def _report(pictures: Pictures) -> Any:
    try:
        return msgspec.json.decode(pictures.report) if pictures.report else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
