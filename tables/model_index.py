"""What stands on the models topic, record by record, without the artefacts themselves.

Owns what each record adds: a claim, a kept artefact, a decision, a removal, or a refusal. Whoever follows the
topic (`tables/models.py`) and whoever writes to it (`tables/promotion.py`) read it alike.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import msgspec

from compute.artefact import ArtefactError
from compute.decisions import Decision, Key, decode_decision, read_key
from compute.ledger import Ledger
from compute.metadata import VERSION_LENGTH, parse_metadata
from compute.signatures import SignatureError, Verifier
from tables.model_records import check_signature, read_artefact, read_metadata_header

N_DECISIONS = 500
"""Newest decisions that are remembered whole."""

N_PICTURES = 20
"""Artefacts whose plot and report are remembered, 100 KB each at most."""

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Kept:
    """An artefact that stands on the topic, by what its record says of itself; nothing is verified.

    `published_at` is that of its first record, in epoch seconds.
    """

    name: str
    version: str
    kind: str
    size_bytes: int
    published_at: float


@dataclass(frozen=True)
class Pictures:
    """What a training left beside its artefact: a PNG and a JSON report; either may be empty."""

    plot: bytes
    report: bytes


class ModelIndex:
    """The records of the topic, in short.

    Parameters
    ----------
    verifier : Verifier or None
        Checks signatures; None where none is needed.

    Attributes
    ----------
    ledger : Ledger
    """

    def __init__(self, verifier: Verifier | None = None) -> None:
        self._verifier = verifier
        self.ledger = Ledger(by_decision=verifier is not None)
        self._decisions: deque[tuple[str, dict[str, Any]]] = deque(maxlen=N_DECISIONS)
        self._kept: dict[tuple[str, str], Kept] = {}
        self._pictures: dict[tuple[str, str], Pictures] = {}

    def verify(self, record: Any) -> str:
        """Return why a record's signature is refused, empty if it is not; some ms for a large artefact."""
        if self._verifier is None or record.value is None:
            return ""
        try:
            check_signature(self._verifier, record)
        except SignatureError as error:
            return str(error)
        return ""

    def add(self, record: Any) -> None:
        """Take a record, in the order of the topic, whose signature was verified.

        Raises
        ------
        ArtefactError
            It is a decision that is none, or a tombstone where signatures count; nothing has changed.
        """
        key = key_of(record)
        where = read_key(key)
        if where.is_decision:
            if record.value is not None:
                self._add_decision(record, key, where)
        elif record.value is None:
            self._remove(record, where)
        elif where.version:
            self.ledger.keep(record.offset, where.name, where.version)
            self._describe(record, where.name, where.version)
        else:
            version = declared_version(record)
            self.ledger.publish(record.offset, where.name, version)
            self._describe(record, where.name, version)

    def decisions(self) -> list[dict[str, Any]]:
        """Return the newest decisions, the newest first."""
        return [item for _, item in reversed(self._decisions)]

    def kept(self, name: str, version: str) -> Kept | None:
        """Return what is known of an artefact that stands on the topic."""
        return self._kept.get((name, version))

    def pictures(self, name: str, version: str) -> Pictures:
        """Return plot and report of an artefact, both empty where they are not remembered."""
        return self._pictures.get((name, version), Pictures(b"", b""))

    def _remove(self, record: Any, where: Key) -> None:
        if self._verifier is None:
            self.ledger.remove(where.name, where.version)
            self._kept.pop((where.name, where.version), None)
        elif not where.version:  # of a retired artefact there is the decision, which counts
            raise ArtefactError("signature: a tombstone has none; what it was to remove stays")

    def _add_decision(self, record: Any, key: str, where: Key) -> None:
        decision = decode_decision(record.value)
        if (decision.model, decision.version) != (where.name, where.version):
            raise ArtefactError(
                f"decision: the record's key is {key!r}, it speaks of {decision.model}@{decision.version}"
            )
        self.ledger.decide(record.offset, key, decision)
        if all(known != key for known, _ in self._decisions):
            self._decisions.append((key, _describe_decision(decision, record)))

    def _describe(self, record: Any, name: str, version: str) -> None:
        published_at = record.timestamp / 1000.0
        if version and (known := self._kept.get((name, version))) is not None:
            published_at = min(published_at, known.published_at)
        kind = _declared(record, "kind")
        self._kept[name, version] = Kept(name, version, kind, len(record.value), published_at)
        try:
            artefact = read_artefact(record)
        except ArtefactError:
            return
        plot = artefact.plot if artefact.plot.startswith(PNG) else b""
        if plot or artefact.report:
            self._pictures.pop((name, version), None)
            self._pictures[name, version] = Pictures(plot, artefact.report)
            while len(self._pictures) > N_PICTURES:
                del self._pictures[next(iter(self._pictures))]


def key_of(record: Any) -> str:
    """Return the key of a record as text, whatever bytes it is."""
    return str((record.key or b"").decode("utf-8", "backslashreplace"))


def declared_version(record: Any) -> str:
    """Return the version that an artefact claims, in short; nothing is verified."""
    return _declared(record, "version")[:VERSION_LENGTH]


def _declared(record: Any, field: str) -> str:
    try:
        value = parse_metadata(read_metadata_header(record.headers)).get(field, "")
    except ArtefactError:
        return ""
    return value if isinstance(value, str) else ""


def _describe_decision(decision: Decision, record: Any) -> dict[str, Any]:
    fields = msgspec.to_builtins(decision)
    if decision.share is None:
        del fields["share"]
    return {**fields, "offset": record.offset}
