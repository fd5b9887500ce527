"""Loading artefacts: from the records that have them to models that can serve, each content once.

Owns what is held in memory, and what was refused and is not tried again. What an artefact must be is checked
in `compute/artefact.py`, in a process of its own first (`tables/artefact_trial.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aiokafka import ConsumerRecord

from compute.artefact import ArtefactError, load_artefact, version_of
from compute.metadata import parse_metadata
from compute.scoring import Model
from tables.artefact_trial import ArtefactTrial
from tables.model_records import read_metadata_header

Reader = Callable[[int], Awaitable[ConsumerRecord | None]]
"""Gives the record at an offset, or None where compaction took it."""


class ModelLoader:
    """Loads artefacts and holds them.

    Parameters
    ----------
    max_bytes : int
        Largest size of an artefact.
    refuse : callable
        Called with name, record and reason of each record whose artefact cannot serve.
    """

    def __init__(self, max_bytes: int, refuse: Callable[[str, ConsumerRecord, str], None]) -> None:
        self._max_bytes = max_bytes
        self._refuse = refuse
        self._trial = ArtefactTrial(max_bytes)
        self._held: dict[str, Model] = {}
        self._refused_contents: set[tuple[str, str]] = set()
        self.forget_offsets()

    def forget_offsets(self) -> None:
        """Forget where artefacts stand: the topic is another one. What is held stays."""
        self._contents: dict[int, str] = {}
        self._refused_offsets: set[int] = set()

    def keep_only(self, models: Iterable[Model]) -> None:
        """Let go of all other models."""
        used = {model.content_hash for model in models}
        self._held = {content: model for content, model in self._held.items() if content in used}

    async def close(self) -> None:
        """End the process that tries artefacts; the next one starts another."""
        await self._trial.close()

    async def hold(self, name: str, version: str, sources: tuple[int, ...], read: Reader) -> Model | None:
        """Return an artefact that is held, or load it; None where no record has one that can serve.

        Parameters
        ----------
        name : str
        version : str
            Empty where only the record itself counts, whatever it says that it is.
        sources : tuple of int
            Offsets of the records to look at, in this order.
        read : callable

        Raises
        ------
        OSError
            There is no process for the trial; this says nothing about the artefact.
        """
        if version and sources:
            for model in self._held.values():
                if (model.name, model.version) == (name, version):
                    return model
        for offset in sources:
            if offset in self._refused_offsets:
                continue
            held = self._held.get(self._contents.get(offset, ""))
            if held is None:
                record = await read(offset)
                held = None if record is None else await self._load(name, version, record)
            if held is not None:
                self._contents[offset] = held.content_hash
                self._held[held.content_hash] = held
                return held
            self._refused_offsets.add(offset)
        return None

    async def _load(self, name: str, version: str, record: ConsumerRecord) -> Model | None:
        onnx_bytes, content = record.value or b"", ""
        try:
            header = read_metadata_header(record.headers)
            content = await asyncio.to_thread(_identify, onnx_bytes, header, self._max_bytes)
            if (name, content) in self._refused_contents:  # a copy of what was refused: told once is enough
                return None
            model = self._held.get(content)
            if model is None:
                await self._trial.attempt(onnx_bytes, header)
                # In a thread: a session takes from milliseconds to seconds, and events wait for nobody.
                model = await asyncio.to_thread(load_artefact, onnx_bytes, header, max_bytes=self._max_bytes)
            if model.name != name:
                raise ArtefactError(f"name: the record's key is {name!r}, its metadata says {model.name!r}")
        except OSError:
            raise  # no process for the trial: that is not the artefact's fault, and is tried again
        except Exception as error:  # a surprise must not keep the versions behind it from being read
            if content:
                self._refused_contents.add((name, content))
            self._refuse(name, record, str(error) if isinstance(error, ArtefactError) else repr(error))
            return None
        if version and model.version != version:
            told = f"the record's key says {version!r}, the content is {model.version!r}"
            self._refuse(name, record, f"version: {told}")
            return None
        return model


def _identify(onnx_bytes: bytes, header: bytes, max_bytes: int) -> str:
    """Return the content hash of an artefact that is what it says; empty where loading it will tell."""
    if len(onnx_bytes) > max_bytes:
        return ""
    fields = parse_metadata(header)
    content, declared = version_of(onnx_bytes, fields), fields.get("version", "")
    return content if isinstance(declared, str) and content.startswith(declared) else ""
