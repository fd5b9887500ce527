"""Reading the models topic: from its beginning, on and on, and single records once more.

Owns the client and where it is. It reads without a consumer group, since every worker needs all of it, and
Faust's GlobalTable can lose keys at the end of a recovery. What records mean is in `tables/model_index.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

from tables.model_records import HEADROOM_BYTES
from tables.reading_client import new_reading_client

_POLL_MS = 500
_FETCH_SECONDS = 60.0


class TopicError(LookupError):
    """The topic is not there, or is not as it must be; the message is one line."""


class ModelTopic:
    """A reader of the topic, as an asynchronous context.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: bootstrap_servers, broker, topic_models, max_artefact_bytes, group.

    Attributes
    ----------
    position : int
        Offset of what comes next.
    beginning, end : int
        Of the topic when reading began.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        size = settings.max_artefact_bytes + HEADROOM_BYTES
        # A reader of committed records is told an end before what was committed a moment ago.
        self._consumer = new_reading_client(
            settings,
            "models",
            isolation_level="read_uncommitted",
            max_partition_fetch_bytes=size,
            fetch_max_bytes=size,
        )
        self._place = TopicPartition(settings.topic_models, 0)
        self.position = self.beginning = self.end = 0

    async def __aenter__(self) -> ModelTopic:
        try:
            await self._consumer.start()
            await self._open()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._consumer.stop()

    async def _open(self) -> None:
        consumer, place = self._consumer, self._place
        # Asked for by name, a missing topic would be created with the broker's defaults.
        if place.topic not in await consumer.topics():
            raise TopicError(f"topic {place.topic!r} does not exist on {self._settings.broker}")
        consumer.assign([place])
        self.end = (await consumer.end_offsets([place]))[place]
        # Known only now: the list of topics brings no partitions.
        partitions = consumer.partitions_for_topic(place.topic) or set()
        if partitions != {0}:
            raise TopicError(f"topic {place.topic!r}: one partition needed, found {len(partitions)}")
        self.beginning = (await consumer.beginning_offsets([place]))[place]

    def seek(self, offset: int) -> None:
        """Go to an offset."""
        self._consumer.seek(self._place, offset)
        self.position = offset

    async def read(self) -> list[ConsumerRecord]:
        """Return what comes next, waiting half a second for it, and go behind it."""
        fetched = await self._consumer.getmany(self._place, timeout_ms=_POLL_MS)
        # Where compaction or transactions left no record, the position moves on without one.
        self.position = await self._consumer.position(self._place)
        return list(fetched.get(self._place, ()))

    async def read_to_end(self) -> AsyncIterator[list[ConsumerRecord]]:
        """Give all that stood there when reading began."""
        self.seek(self.beginning)
        while self.position < self.end:
            if records := await self.read():
                yield records

    async def fetch(self, offset: int) -> ConsumerRecord | None:
        """Return one record; None where it is no longer there. What comes next stays what it was.

        Raises
        ------
        TimeoutError
            The broker does not give it.
        """
        position = self.position
        try:
            self.seek(offset)
            deadline = time.monotonic() + _FETCH_SECONDS
            while time.monotonic() < deadline:
                records = await self.read()
                if records or self.position > offset:
                    return next((record for record in records if record.offset == offset), None)
        finally:
            self.seek(position)
        raise TimeoutError(f"record {offset} of topic {self._place.topic!r} was not read")


async def fetch_record(settings: Any, offset: int) -> ConsumerRecord | None:
    """Return one record by a client of its own; None where it is no longer there."""
    async with ModelTopic(settings) as topic:
        return await asyncio.wait_for(topic.fetch(offset), _FETCH_SECONDS)
