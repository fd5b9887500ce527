"""Writing to the models topic: what stands there now, and batches of records that come whole or not at all.

Owns the clients and the signatures of whoever publishes or decides. What is written is the business of
`tables/artefact_records.py` and `tables/promotion.py`.
"""

from __future__ import annotations

import asyncio
import getpass
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordTooLargeError

from compute.artefact import ArtefactError, version_of
from compute.decisions import Decision, decision_key, next_time
from compute.ledger import Claim
from compute.metadata import VERSION_LENGTH, parse_metadata
from tables.keys import load_signer, load_verifier
from tables.model_index import ModelIndex
from tables.model_loading import ModelLoader
from tables.model_records import HEADROOM_BYTES, Artefact, Record, decision_record, read_artefact
from tables.model_roles import find_roles, why_not_challenging
from tables.model_topic import ModelTopic


class ModelWriter:
    """What the topic holds, and a way to add to it, as an asynchronous context.

    It reads all of the topic first, without loading an artefact: who decides must know what was decided, and
    the time of a decision must be later than those of all before.

    Attributes
    ----------
    index : ModelIndex
    signer : Signer or None
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        verifier = load_verifier(settings)
        self.signer = load_signer(settings)
        if verifier is not None and (self.signer is None or self.signer.key_id not in verifier.key_ids):
            received = "none" if self.signer is None else f"key {self.signer.key_id}"
            raise ArtefactError(
                "NOWCAST_SIGNING_KEY: one of NOWCAST_TRUSTED_KEYS needed, since nothing else is taken, "
                f"received {received}"
            )
        self.index = ModelIndex(verifier)
        self._verifies = verifier is not None

    async def __aenter__(self) -> ModelWriter:
        self._topic = await ModelTopic(self._settings).__aenter__()
        try:
            async for records in self._topic.read_to_end():
                for record in records:
                    await self._add(record)
        except BaseException:
            await self._topic.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._topic.__aexit__()

    async def _add(self, record: Any) -> None:
        reason = await asyncio.to_thread(self.index.verify, record) if self._verifies else ""
        if reason:
            return  # nobody takes it
        try:
            self.index.add(record)
        except ArtefactError:
            return

    async def champion(self, name: str) -> tuple[Claim, str] | None:
        """Return the claim and the version of what is champion of a name, unless it cannot be loaded."""
        for claim in self.index.ledger.claims(name):
            if claim.is_decided:
                if claim.sources:
                    return claim, claim.version
                continue
            artefact = await self._fetch(name, claim.sources)
            if artefact is not None:
                return claim, _version_of(artefact)
        return None

    async def serving(self) -> tuple[str, str]:
        """Return name and version of what serves; both empty where nothing does."""
        preferred = self._settings.model
        names = [preferred] if preferred else self.index.ledger.names()
        champions = [found for name in names if (found := await self.champion(name)) is not None]
        if not champions:
            return "", ""
        claim, version = max(champions, key=lambda item: item[0].rank)
        return claim.name, version

    async def replaced_by(self, name: str) -> tuple[str, str]:
        """Return name and version of what a new champion of a name takes the place of; both may be empty.

        That is what serves, whatever its name, unless the new one is not to serve.
        """
        if self._settings.model in ("", name):
            return await self.serving()
        champion = await self.champion(name)
        return ("", "") if champion is None else (name, champion[1])

    async def why_not_challenging(self, name: str, version: str) -> str:
        """Return why workers have no place for a challenger, empty if they have one; artefacts are loaded.

        Raises
        ------
        ArtefactError
            There is no process to try artefacts in.
        """
        refused: dict[int, str] = {}
        loader = ModelLoader(
            self._settings.max_artefact_bytes,
            lambda _, record, reason: refused.update({record.offset: reason}),
        )
        try:
            roles = await find_roles(self.index, loader, self._settings, self._topic.fetch)
        except OSError as error:
            raise ArtefactError(f"artefacts cannot be tried: {error}") from None
        finally:
            await loader.close()
        return why_not_challenging(name, version, roles, refused, self.index, self._settings)

    async def artefact(self, name: str, version: str) -> Artefact:
        """Return an artefact that stands on the topic.

        Raises
        ------
        ArtefactError
            It does not, or is not what its version says.
        """
        sources = self.index.ledger.sources(name, version)
        claimed = await self.champion(name)
        if not sources and claimed is not None and claimed[1] == version:
            sources = claimed[0].sources
        artefact = await self._fetch(name, sources, version)
        if artefact is None:
            raise ArtefactError(
                f"{name} has no version {version} on topic {self._settings.topic_models!r} (any more): "
                "publish it again"
            )
        return artefact

    async def _fetch(self, name: str, sources: Sequence[int], version: str = "") -> Artefact | None:
        for offset in sources:
            record = await self._topic.fetch(offset)
            if record is None:
                continue
            try:
                artefact = read_artefact(record)
                fields = parse_metadata(artefact.metadata_json)
                found = await asyncio.to_thread(_version_of, artefact)
            except ArtefactError:
                continue
            declared = str(fields.get("version", ""))[:VERSION_LENGTH]
            if fields.get("name") == name and declared in ("", found) and version in ("", found):
                return artefact
        return None

    def decide(self, action: Any, name: str, version: str, by: str = "", **more: Any) -> Decision:
        """Return a decision that is made now; `by` is this process's user unless it is given."""
        at = next_time(time.time(), self.index.ledger.last_at)
        return Decision(action=action, model=name, version=version, by=by or default_author(), at=at, **more)

    def decision_record(self, decision: Decision, encoded: bytes) -> Record:
        """Return the record of a decision, under a key of its own."""
        return decision_record(decision_key(decision, secrets.token_hex(3)), encoded, self.signer)

    async def write(self, *batches: Sequence[Record]) -> list[int]:
        """Send batches one after the other, each atomic, and return the first offset of each.

        Raises
        ------
        ArtefactError
            A batch is larger than the broker allows; those before it stand on the topic.
        aiokafka.errors.KafkaError
            The broker cannot be reached or refuses.
        """
        settings = self._settings
        size = settings.max_artefact_bytes + HEADROOM_BYTES
        # Not idempotent: not every broker can, and the same record twice comes to the same.
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers,
            client_id=f"{settings.group}-models",
            acks="all",
            max_request_size=size,
            max_batch_size=size,
        )
        try:
            await producer.start()
            return [await self._send(producer, records) for records in batches]
        finally:
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, records: Sequence[Record]) -> int:
        batch, topic = producer.create_batch(), self._settings.topic_models
        n_bytes = sum(len(record.value or b"") for record in records)
        try:
            for record in records:
                appended = batch.append(
                    timestamp=None, key=record.key, value=record.value, headers=record.headers
                )
                if appended is None:
                    raise RecordTooLargeError
            batch.close()
            delivered = await producer.send_batch(batch, topic, partition=0)
            return int((await delivered).offset)
        except (MessageSizeTooLargeError, RecordTooLargeError):
            needed = self._settings.max_artefact_bytes + HEADROOM_BYTES
            raise ArtefactError(
                f"too large: the broker takes fewer than {n_bytes} bytes; set max.message.bytes of topic "
                f"{topic!r} to {needed}, or message.max.bytes of the broker"
            ) from None


def default_author() -> str:
    """Return user and host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:200]


def _version_of(artefact: Artefact) -> str:
    fields = parse_metadata(artefact.metadata_json)
    return version_of(artefact.onnx_bytes, fields)[:VERSION_LENGTH]
