"""The models table: which model serves on this worker, which challenge it, and who answers whom.

Owns the roles that come of the topic: they change at the end of what was read, all in one step. What its
records come to is in `compute/ledger.py`; following it, loading artefacts, choosing among them, publishing
and deciding are in `tables/model_following.py`, `model_loading.py`, `model_roles.py`, `artefact_records.py`
and `promotion.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiokafka import ConsumerRecord

from compute.artefact import ArtefactError
from compute.challenges import number_challengers
from compute.decisions import read_key
from compute.ledger import Claim
from compute.scoring import Model
from compute.signatures import Verifier
from tables.keys import load_verifier
from tables.model_descriptions import describe_held, describe_versions
from tables.model_following import ModelFollower
from tables.model_history import ModelHistory, describe_record
from tables.model_index import ModelIndex, Pictures, key_of
from tables.model_loading import ModelLoader, Reader
from tables.model_roles import find_roles

log = logging.getLogger(__name__)


class Split(NamedTuple):
    """A share of the entities that a challenger answers for, see `compute.decisions.arm_of`."""

    name: str
    version: str
    share: float


class ModelsTable(ModelFollower):
    """What the models topic holds.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: bootstrap_servers, broker, topic_models, max_artefact_bytes, model, max_challengers,
        trusted_keys, group.
    on_change : callable, optional
        Called with the model that serves from now on, or None, whenever that changes.

    Attributes
    ----------
    serving : Model or None
        The champion; None while nothing that may serve is published.
    challengers : tuple of Model
        Those that are scored in its shadow, the newest first.
    split : Split or None
        Which challenger answers for a share of the entities.
    history : ModelHistory
        What was seen, for views; `history.refusals` lists what was refused.
    """

    def __init__(self, settings: Any, on_change: Callable[[Model | None], None] | None = None) -> None:
        super().__init__(settings)
        self._on_change = on_change
        self._loader = ModelLoader(settings.max_artefact_bytes, self._refuse)
        self._verifier: Verifier | None = None
        self.serving: Model | None = None
        self.challengers: tuple[Model, ...] = ()
        self.split: Split | None = None
        self._decisions: list[dict[str, Any]] = []
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget what the topic had; what serves goes on until it is read again."""
        self.history = ModelHistory()
        self._index = ModelIndex(self._verifier)
        self._champions: Mapping[str, tuple[Claim, Model]] = {}
        self._loader.forget_offsets()
        self._seen: list[tuple[str, dict[str, Any]]] = []

    async def start(self) -> None:
        """Begin to read, and go on until `stop`.

        Raises
        ------
        KeyFileError
            The trusted keys cannot be read.
        """
        if not self.is_following:
            self._verifier = load_verifier(self._settings)
            await super().start()

    def role_of(self, version: str) -> str:
        """Return the role of a version.

        Returns
        -------
        str
            champion, challenger, waiting (it challenges, but has no place or cannot), former (it was
            champion), retired, kept, or nothing where the version is not known.
        """
        if self.serving is not None and self.serving.version == version:
            return "champion"
        if any(model.version == version for model in self.challengers):
            return "challenger"
        standing = self._index.ledger.standing(version)
        if standing is not None:
            return {"challenge": "waiting", "retire": "retired"}.get(standing.action, "former")
        if any(model.version == version for _, model in self._champions.values()):
            return "former"
        return "kept" if self._index.ledger.owner(version) else ""

    def describe_decisions(self, name: str = "") -> list[dict[str, Any]]:
        """Return the audit trail, newest first, of one model or of all; bounded."""
        return [item for item in self._decisions if name in ("", item["model"])]

    def number_challengers(self, champion: str) -> dict[str, int]:
        """Return by version which number each challenger of a champion has, see `compute/challenges.py`."""
        return number_challengers(self._index.ledger.turns(), champion, self._settings.model)

    def published_at(self, name: str, version: str) -> float | None:
        """Return when a version came to the topic first, in epoch seconds; None where it is not known."""
        kept = self._index.kept(name, version)
        return None if kept is None else kept.published_at

    def pictures(self, name: str, version: str = "") -> Pictures:
        """Return plot and report of a version, or of the champion of that name; empty where not known."""
        if not version and name in self._champions:
            version = self._champions[name][1].version
        return self._index.pictures(name, version)

    def describe(self) -> list[dict[str, Any]]:
        """Return the models that are held: what serves first, then challengers, then by name."""
        champions = [self._describe(claim, model) for _, (claim, model) in sorted(self._champions.items())]
        challengers = [self._describe(None, model) for model in self.challengers]
        champions.sort(key=lambda item: not item["serving"])
        return champions[:1] + challengers + champions[1:] if self.serving else challengers + champions

    def describe_one(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a model, with its versions newest first; None if there was never one."""
        versions = describe_versions(name, self.history, self._index, self.role_of)
        if not versions and name not in self._champions:
            return None
        described: dict[str, Any] = {"name": name, "serving": False, "role": ""}
        if name in self._champions:
            described = self._describe(*self._champions[name])
        return {**described, "versions": versions, "decisions": self.describe_decisions(name)}

    def _describe(self, claim: Claim | None, model: Model) -> dict[str, Any]:
        offsets = claim.sources if claim is not None else ()
        offsets = offsets or self._index.ledger.sources(model.name, model.version)
        offset = offsets[0] if offsets else -1
        published_at = self.history.published_at(model.name, offset)
        return {
            **describe_held(model, self._index.pictures(model.name, model.version)),
            "serving": model is self.serving,
            "role": self.role_of(model.version),
            "share": self.split.share if self.split and self.split.version == model.version else None,
            "offset": offset,
            "published_at": published_at or self.published_at(model.name, model.version),
        }

    async def _add(self, record: ConsumerRecord) -> None:
        where = read_key(key_of(record))
        if not where.version:
            self._seen.append((where.name, describe_record(record)))
        reason = "" if self._verifier is None else await asyncio.to_thread(self._index.verify, record)
        try:
            if reason:
                raise ArtefactError(reason)
            self._index.add(record)
        except ArtefactError as error:
            self._refuse(where.name, record, str(error))

    def _refuse(self, name: str, record: ConsumerRecord, reason: str) -> None:
        self.history.refused(name, record, reason)
        log.warning("model %s at offset %d refused: %s", name, record.offset, reason)

    async def _settle(self, read: Reader) -> None:
        """Load what roles need and is not held, then give out the roles."""
        try:
            roles = await find_roles(self._index, self._loader, self._settings, read)
        finally:
            await self._loader.close()
        for name, entry in self._seen:
            self.history.published(name, entry)
        self._seen = []
        for name in self._index.ledger.names():
            claim, model = roles.champions.get(name, (None, None))
            self.history.chosen(name, claim.sources[0] if claim else None, model)
        self._loader.keep_only([*roles.challengers, *(model for _, model in roles.champions.values())])
        self._champions = roles.champions
        self._take(roles.serving, roles.challengers)

    def _take(self, serving: tuple[Claim, Model] | None, challengers: tuple[Model, ...]) -> None:
        """Give out the roles, in one step: whoever scores sees those before or those after it."""
        claim, model = serving or (None, None)
        split = self._index.ledger.split_against(claim)
        arm = next((one for one in challengers if split is not None and one.version == split[0]), None)
        before = self.serving, self.challengers, self.split
        self._decisions = self._index.decisions()
        self.serving, self.challengers = model, challengers
        self.split = Split(arm.name, arm.version, split[1]) if arm is not None and split is not None else None
        if challengers != before[1]:
            log.info(
                "challengers: %s", ", ".join(f"{one.name} {one.version}" for one in challengers) or "none"
            )
        if self.split != before[2]:
            log.info("split: %s", self.split or "none")
        if model is before[0]:
            return
        if model is None:
            log.info("no model serves any more, the built-in detector does")
        else:
            log.info("model %s version %s serves", model.name, model.version)
        if self._on_change is not None:
            self._on_change(model)
