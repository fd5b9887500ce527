"""What became of each version of a model that a worker has seen since it started.

Owns the memory for views and commands; it decides nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from aiokafka import ConsumerRecord

from compute.artefact import ArtefactError
from compute.metadata import parse_metadata
from compute.scoring import Model
from tables.artefact_records import read_metadata_header

N_VERSIONS = 50
"""Versions of one model that are remembered."""

N_REFUSALS = 20


class ModelHistory:
    """Versions by model, and the last refusals.

    Attributes
    ----------
    refusals : deque of dict
        The last artefacts that could not serve, oldest first: name, version, reason, offset, time.
    """

    def __init__(self) -> None:
        self._versions: dict[str, deque[dict[str, Any]]] = {}
        self.refusals: deque[dict[str, Any]] = deque(maxlen=N_REFUSALS)

    def versions(self, name: str) -> list[dict[str, Any]]:
        """Return a model's versions, newest first."""
        return sorted((dict(item) for item in self._versions.get(name, ())), key=lambda item: -item["offset"])

    def published_at(self, name: str, offset: int) -> float | None:
        """Return when a version was published, in epoch seconds."""
        found = (item for item in self._versions.get(name, ()) if item["offset"] == offset)
        return next((item["published_at"] for item in found), None)

    def loaded(self, name: str, record: ConsumerRecord, model: Model) -> None:
        """Note a version that may serve; the one before it no longer does."""
        for item in self._versions.get(name, ()):
            if item["state"] == "loaded":
                item["state"] = "superseded"
        self._note(name, record, "loaded", model.version)

    def superseded(self, name: str, record: ConsumerRecord) -> None:
        """Note a version that had a successor before it was looked at."""
        self._note(name, record, "superseded", _declared_version(record))

    def removed(self, name: str, record: ConsumerRecord) -> None:
        """Note a tombstone."""
        for item in self._versions.get(name, ()):
            if item["state"] == "loaded":
                item["state"] = "superseded"
        self._note(name, record, "removed", "")

    def refused(self, name: str, record: ConsumerRecord, reason: str) -> None:
        """Note a version that cannot serve, and why."""
        version = _declared_version(record)
        self._note(name, record, "refused", version, reason=reason)
        self.refusals.append(
            {
                "name": name,
                "version": version,
                "reason": reason,
                "offset": record.offset,
                "time": record.timestamp / 1000.0,
            }
        )

    def _note(self, name: str, record: ConsumerRecord, state: str, version: str, **more: Any) -> None:
        self._versions.setdefault(name, deque(maxlen=N_VERSIONS)).append(
            {
                "version": version,
                "offset": record.offset,
                "published_at": record.timestamp / 1000.0,
                "state": state,
                **more,
            }
        )


def _declared_version(record: ConsumerRecord) -> str:
    """Return the version that an artefact claims, for people to find it by; nothing is verified."""
    try:
        version = parse_metadata(read_metadata_header(record.headers)).get("version", "")
    except ArtefactError:
        return ""
    return version[:16] if isinstance(version, str) else ""
