"""What became of each record of a model that a worker has seen since it started.

Owns the memory for views and commands; it decides nothing.
"""

from __future__ import annotations

import bisect
from typing import Any

from aiokafka import ConsumerRecord

from compute.scoring import Model
from tables.model_index import declared_version

N_VERSIONS = 50
"""Records of one model that are remembered."""

N_REFUSALS = 20


class ModelHistory:
    """Versions by model, and the last refusals.

    A version is "loaded" while it is the champion of its name, "superseded" before and after, "refused" if it
    cannot serve, and "removed" stands for a tombstone.

    Attributes
    ----------
    refusals : list of dict
        The last records that were refused, oldest first: name, version, reason, offset, time.
    """

    def __init__(self) -> None:
        self._versions: dict[str, list[dict[str, Any]]] = {}
        self.refusals: list[dict[str, Any]] = []

    def versions(self, name: str) -> list[dict[str, Any]]:
        """Return a model's versions, newest first."""
        return sorted((dict(item) for item in self._versions.get(name, ())), key=lambda item: -item["offset"])

    def published_at(self, name: str, offset: int) -> float | None:
        """Return when a version was published, in epoch seconds."""
        found = self._find(name, offset)
        return None if found is None else float(found["published_at"])

    def published(self, name: str, entry: dict[str, Any]) -> None:
        """Note a record under a model's name, as `describe_record` describes it; what comes of it is open."""
        if self._find(name, entry["offset"]) is None:
            self._note(name, entry)

    def chosen(self, name: str, offset: int | None, model: Model | None) -> None:
        """Note the champion of a name, and the record that has it; None without."""
        entries = self._versions.get(name, ())
        for item in entries:
            if item["state"] == "loaded":
                item["state"] = "superseded"
        if model is None:
            return
        found = None if offset is None else self._find(name, offset)
        for item in reversed(entries):
            if found is None and item["version"] == model.version and item["state"] != "refused":
                found = item
        if found is not None:
            found.update(state="loaded", version=model.version)

    def refused(self, name: str, record: ConsumerRecord, reason: str) -> None:
        """Note a record that was refused, and why."""
        entry = {**describe_record(record), "state": "refused", "reason": reason}
        found = self._find(name, record.offset)
        if found is None:
            self._note(name, entry)
        else:
            found.update(entry)
        refusal = {
            "name": name,
            "version": entry["version"],
            "reason": reason,
            "offset": record.offset,
            "time": entry["published_at"],
        }
        _insert(self.refusals, refusal, N_REFUSALS)

    def _find(self, name: str, offset: int) -> dict[str, Any] | None:
        return next((item for item in self._versions.get(name, ()) if item["offset"] == offset), None)

    def _note(self, name: str, entry: dict[str, Any]) -> None:
        _insert(self._versions.setdefault(name, []), entry, N_VERSIONS)


def describe_record(record: ConsumerRecord) -> dict[str, Any]:
    """Return what history keeps of a record."""
    is_tombstone = record.value is None
    return {
        "version": "" if is_tombstone else declared_version(record),
        "offset": record.offset,
        "published_at": record.timestamp / 1000.0,
        "state": "removed" if is_tombstone else "superseded",
    }


def _insert(entries: list[dict[str, Any]], entry: dict[str, Any], n_most: int) -> None:
    # In the order of the topic: at a start, claims are looked at from the newest on.
    bisect.insort(entries, entry, key=lambda item: item["offset"])
    del entries[:-n_most]
