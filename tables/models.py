"""The models table: every published artefact, held by every worker, and which of them serves.

Owns reading the compacted topic and what is known of each version. It reads without a consumer group, since
every worker needs all of it: Faust's GlobalTable can lose keys at the end of a recovery. What an artefact
must be is checked in `compute/artefact.py`; publishing one is in `tables/artefact_records.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError

from compute.artefact import ArtefactError, load_artefact
from compute.scoring import Model
from tables.artefact_records import HEADROOM_BYTES, read_metadata_header
from tables.artefact_trial import ArtefactTrial
from tables.calm import calm
from tables.model_history import ModelHistory

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
_POLL_MS = 500


class ModelsTable:
    """What the models topic holds.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: bootstrap_servers, topic_models, max_artefact_bytes, model, group.
    on_change : callable, optional
        Called with the model that serves from now on, or None, whenever that changes.

    Attributes
    ----------
    serving : Model or None
        None while nothing that may serve is published.
    history : ModelHistory
        What was seen, for views; `history.refusals` lists what could not serve.
    problem : str
        Why the topic cannot be read at the moment; empty while it can.
    """

    def __init__(self, settings: Any, on_change: Callable[[Model | None], None] | None = None) -> None:
        self._settings = settings
        self._on_change = on_change
        self._models: dict[str, tuple[int, Model]] = {}
        self._trial = ArtefactTrial(settings.max_artefact_bytes)
        self._position = 0
        self._end: int | None = None
        self._caught_up = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self.problem = ""
        self.history = ModelHistory()
        self.serving: Model | None = None

    async def start(self) -> None:
        """Begin to read, and go on until `stop`."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="models-table")

    @property
    def caught_up(self) -> bool:
        """Whether everything that was published before the start is held."""
        return self._caught_up.is_set()

    async def catch_up(self, timeout: float) -> None:
        """Wait until everything that was published before the start is held.

        Raises
        ------
        TimeoutError
            Not within `timeout` seconds; the message says what is in the way.
        """
        try:
            await asyncio.wait_for(self._caught_up.wait(), timeout)
        except asyncio.TimeoutError:
            reason = self.problem or f"it is still being read after {timeout:g} s"
            raise TimeoutError(
                f"topic {self._settings.topic_models!r} is not read to its end: {reason}"
            ) from None

    async def stop(self) -> None:
        """Stop reading; what is held stays."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    def describe(self) -> list[dict[str, Any]]:
        """Return the models that are held, the one that serves first, then by name."""
        known = [self._describe_held(name) for name in sorted(self._models)]
        return sorted(known, key=lambda item: not item["serving"])

    def describe_one(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a model, with its versions newest first; None if there was never one."""
        versions = self.history.versions(name)
        if not versions and name not in self._models:
            return None
        described = self._describe_held(name) if name in self._models else {"name": name, "serving": False}
        return {**described, "versions": versions}

    def _describe_held(self, name: str) -> dict[str, Any]:
        offset, model = self._models[name]
        metadata = model.metadata
        return {
            "name": name,
            "version": model.version,
            "kind": model.kind,
            "features": list(model.features),
            "normaliser": model.normaliser,
            "missing": model.missing,
            "classes": list(model.classes),
            "threshold": model.threshold,
            "size_bytes": model.size_bytes,
            "content_hash": model.content_hash,
            "serving": model is self.serving,
            "offset": offset,
            "published_at": self.history.published_at(name, offset),
            "metrics": metadata.metrics,
            "trained_by": metadata.trained_by,
            "trained_on": metadata.trained_on,
            "created_at": metadata.created_at,
            "library_versions": metadata.library_versions,
        }

    async def _follow(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                async with self._open_consumer() as consumer:
                    async for records in self._poll(consumer):
                        pause = _FIRST_PAUSE_SECONDS
                        await self._apply(records)
            except Exception as error:  # without this task a worker would serve an old model for ever
                told = str(error) or type(error).__name__
                if isinstance(error, KafkaConnectionError):
                    told = f"cannot reach Kafka at {self._settings.broker} (NOWCAST_BROKER)"
                if told != self.problem:
                    log.warning("models topic not read, trying again: %s", told)
                self.problem = told
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    @contextlib.asynccontextmanager
    async def _open_consumer(self) -> Any:
        settings = self._settings
        size = settings.max_artefact_bytes + HEADROOM_BYTES
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap_servers,
            client_id=f"{settings.group}-models",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=size,
            fetch_max_bytes=size,
        )
        calm(consumer._client)
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    async def _poll(self, consumer: AIOKafkaConsumer) -> Any:
        """Yield what each fetch brings, from where the last consumer ended."""
        topic = self._settings.topic_models
        # Asked for by name, a missing topic would be created with the broker's defaults.
        if topic not in await consumer.topics():
            raise LookupError(f"topic {topic!r} does not exist on {self._settings.broker}")
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        # Known only now: the list of topics brings no partitions.
        partitions = consumer.partitions_for_topic(topic) or set()
        if partitions != {0}:
            raise LookupError(f"topic {topic!r}: one partition needed, found {len(partitions)}")
        beginning = (await consumer.beginning_offsets([place]))[place]
        if not beginning <= self._position <= end:
            self._position = beginning  # the topic was made anew, or compaction took what was left off at
        consumer.seek(place, self._position)
        if self._end is None:
            self._end = end
        self.problem = ""
        while True:
            if self._position >= self._end:
                self._caught_up.set()
            fetched = await consumer.getmany(place, timeout_ms=_POLL_MS)
            if fetched.get(place):
                yield fetched[place]
            # Where compaction or transactions left no record, the position moves on without one.
            self._position = await consumer.position(place)

    async def _apply(self, records: list[ConsumerRecord]) -> None:
        by_name: dict[bytes, list[ConsumerRecord]] = {}
        for record in records:
            by_name.setdefault(record.key or b"", []).append(record)
        try:
            for key, versions in by_name.items():
                await self._apply_newest(key.decode("utf-8", "backslashreplace"), versions)
        finally:
            await self._trial.close()
        self._choose()

    async def _apply_newest(self, name: str, versions: list[ConsumerRecord]) -> None:
        """Take the newest version that may serve; older ones of the same fetch are not even loaded."""
        taken = False
        for record in reversed(versions):
            if taken:
                self.history.superseded(name, record)
            elif record.value is None:
                self._models.pop(name, None)
                self.history.removed(name, record)
                taken = True
            else:
                taken = await self._load(name, record)

    async def _load(self, name: str, record: ConsumerRecord) -> bool:
        try:
            header = read_metadata_header(record.headers)
            await self._trial.attempt(record.value or b"", header)
            # In a thread: making a session takes from milliseconds to seconds, and events wait for nobody.
            model = await asyncio.to_thread(
                load_artefact, record.value, header, max_bytes=self._settings.max_artefact_bytes
            )
            if model.name != name:
                raise ArtefactError(f"name: the record's key is {name!r}, its metadata says {model.name!r}")
        except OSError:
            raise  # no process for the trial: that is not the artefact's fault, and is tried again
        except Exception as error:  # a surprise must not keep the versions behind it from being read
            reason = str(error) if isinstance(error, ArtefactError) else repr(error)
            self.history.refused(name, record, reason)
            log.warning("model %s at offset %d refused: %s", name, record.offset, reason)
            return False
        self._models[name] = record.offset, model
        self.history.loaded(name, record, model)
        return True

    def _choose(self) -> None:
        preferred = self._settings.model
        known: Iterable[tuple[int, Model]] = (
            self._models.values() if not preferred else filter(None, [self._models.get(preferred)])
        )
        newest = max(known, key=lambda item: item[0], default=None)
        serving = newest[1] if newest else None
        if serving is self.serving:
            return
        self.serving = serving
        if serving is None:
            log.info("no model serves any more, the built-in detector does")
        else:
            log.info("model %s version %s serves", serving.name, serving.version)
        if self._on_change is not None:
            self._on_change(serving)
