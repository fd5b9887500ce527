"""Reading the changelog of entity states into the store: all of some partitions at once, or ever on.

Owns the client, where reading begins and ends, and what to do when the broker is away. It reads without a
consumer group and in batches (`tables/changelog_reading.py`): Faust's own recovery handles a message at a
time, and takes some twenty times as long. What a record may replace is decided in `tables/restoring.py`.

A partition is restored when the position has reached the end that the topic had at the start. The last record
does not tell: markers of transactions and compacted records take offsets too, and there is none to be seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from tables.changelog_reading import ChangelogError, Place, Reading, Release, in_thread, one_line
from tables.progress import Progress
from tables.reading_client import open_reading_client
from tables.restoring import Restorer
from tables.stores import PartitionedStore

log = logging.getLogger(__name__)

MAX_PARTITION_BYTES = 2 * 1024 * 1024
"""Of a partition in a fetch; measured: larger fetches are not faster, and take more memory."""

_RETRY_MS = 500
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0


class Changelog:
    """Restores partitions of the changelog into the store.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: bootstrap_servers, group.
    topic : str
    store : PartitionedStore
        Written in a thread, by one call at a time; at rest when a method has returned or was cancelled.
    release : callable, optional
        Awaited with the numbers of partitions in which a transaction seems to be open that nobody holds.
    """

    def __init__(
        self, settings: Any, topic: str, store: PartitionedStore, release: Release | None = None
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._store = store
        self._release = release

    async def restore(self, partitions: Collection[int], progress: Progress) -> None:
        """Bring partitions to the end that the changelog has now, from wherever the store is.

        Raises
        ------
        ChangelogError
            The store has more than the topic, or cannot be written.
        """

        async def restore() -> None:
            places = await self._find_places(partitions)
            reading = Reading(places, progress, self._release)
            if reading.n_left:
                async with self._open_client("read_committed") as consumer:
                    await reading.read(consumer)
            await in_thread(self._settle, places)

        if partitions:
            await self._insist(restore)

    async def follow(self, partitions: Collection[int], on_caught_up: Callable[[], None]) -> None:
        """Bring partitions to the end of the changelog and keep them there, until cancelled.

        Raises
        ------
        ChangelogError
            As `restore`.
        """

        async def follow() -> None:
            reading = Reading(await self._find_places(partitions), Progress(len(partitions)))
            async with self._open_client("read_committed") as consumer:
                await reading.read(consumer, on_caught_up)

        await self._insist(follow)

    async def _insist(self, read: Callable[[], Awaitable[None]]) -> None:
        """Read, and when the broker fails read on from where the store is."""
        pause, told = _FIRST_PAUSE_SECONDS, ""
        while True:
            started = time.monotonic()
            try:
                return await read()
            except (KafkaError, OSError, asyncio.TimeoutError) as error:
                if time.monotonic() - started > _LONGEST_PAUSE_SECONDS:  # it was read for a while
                    pause, told = _FIRST_PAUSE_SECONDS, ""
                if (reason := one_line(error)) != told:
                    log.warning("changelog %s not read, trying again: %s", self._topic, reason)
                    told = reason
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _find_places(self, partitions: Collection[int]) -> dict[TopicPartition, Place]:
        tps = [TopicPartition(self._topic, number) for number in sorted(partitions)]
        # A reader of committed records is told an end before the first open transaction. What was committed
        # behind that would be missed; so it is the real end, which is reached once the transaction is over.
        async with self._open_client("read_uncommitted") as consumer:
            await consumer._client.set_topics(
                [self._topic]
            )  # else it finds out by a first attempt, and waits
            ends = await consumer.end_offsets(tps)
            beginnings = await consumer.beginning_offsets(tps)
        return {tp: await in_thread(self._find_place, tp.partition, beginnings[tp], ends[tp]) for tp in tps}

    def _find_place(self, number: int, beginning: int, end: int) -> Place:
        persisted = self._store.persisted_offset(TP(self._topic, number))
        if persisted is not None and persisted >= end:
            # The local state may be the only one that is left: nobody but the user removes it.
            raise ChangelogError(
                f"partition {number}: the local state is at offset {persisted} of topic {self._topic!r}, "
                f"which ends at {end}, so it was deleted or has lost records; to go on with what the topic "
                f"has, stop all workers and delete their data directories "
                f"(NOWCAST_DATA_DIR, here {self._store.place_of(number)})"
            )
        start = beginning if persisted is None else max(beginning, persisted + 1)
        return Place(Restorer(number, self._store, persisted), beginning, start, end)

    def _settle(self, places: Mapping[TopicPartition, Place]) -> None:
        for tp, place in places.items():
            self._store.settle(tp.partition)
            persisted = self._store.persisted_offset(TP(*tp))
            if place.end - 1 > (-1 if persisted is None else persisted):
                # Of what is left there is nothing to be seen, and what is written next is next to it.
                self._store.write(tp.partition, [], place.end - 1)

    def _open_client(self, isolation_level: str) -> Any:
        return open_reading_client(
            self._settings,
            "changelog",
            isolation_level=isolation_level,
            max_partition_fetch_bytes=MAX_PARTITION_BYTES,
            retry_backoff_ms=_RETRY_MS,
        )
