"""One consumer's way through the changelog to the ends of its partitions, and into the store.

Owns the loop: fetch, write what was fetched in a thread while the next fetch is taken apart, look where each
partition is. Where it begins, and what to do when the broker fails, is in `tables/changelog.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import ConsumerRecord, TopicPartition

from tables.progress import Progress
from tables.restoring import Restorer, StaleWriterError

log = logging.getLogger(__name__)

MAX_RECORDS = 1_000
"""Records given out and written at a time: the views get their turn in between, after some milliseconds."""

REPORT_SECONDS = 5.0

HELD_SECONDS = 10.0
"""Without getting on, after which a transaction that stands in the way is taken for one that nobody holds."""

Release = Callable[[list[int]], Awaitable[None]]
"""Ends what the broker keeps open in partitions of these numbers."""

_POLL_MS = 200

T = TypeVar("T")


class ChangelogError(RuntimeError):
    """The state cannot be restored; the message is one line and says what to do."""


@dataclass
class Place:
    """One partition on its way: from where the log begins or the store ends, to the end."""

    restorer: Restorer
    beginning: int
    position: int
    end: int

    @property
    def n_left(self) -> int:
        """Offsets up to the end."""
        return max(self.end - self.position, 0)


class Reading:
    """The way of one consumer through the changelog; one fetch is written while the next one is read."""

    def __init__(
        self, places: dict[TopicPartition, Place], progress: Progress, release: Release | None = None
    ) -> None:
        self._release = release
        self._places = places
        self._progress = progress
        self._writing: asyncio.Future[list[TopicPartition]] | None = None
        self._n_writing = 0
        self._note(0)

    @property
    def n_left(self) -> int:
        """Offsets up to the ends of all partitions."""
        return sum(place.n_left for place in self._places.values())

    async def read(self, consumer: Any, on_caught_up: Callable[[], None] | None = None) -> None:
        """Read to the end of every partition; with `on_caught_up` call that then, and read on."""
        consumer.assign(list(self._places))
        for tp, place in self._places.items():
            consumer.seek(tp, place.position)
        report_at = self._progress.seconds + REPORT_SECONDS
        tell_at, n_left = self._progress.seconds + HELD_SECONDS, self.n_left
        caught_up = False
        try:
            while True:
                if not self.n_left:
                    await self._end_writing(consumer)
                if not self.n_left:
                    if on_caught_up is None:
                        return
                    if not caught_up:
                        caught_up = True
                        on_caught_up()
                elif on_caught_up is None and self._progress.seconds >= report_at:
                    report_at = self._progress.seconds + REPORT_SECONDS
                    log.info("restoring state: %s", self._progress.describe())
                    if self.n_left != n_left:
                        tell_at, n_left = self._progress.seconds + HELD_SECONDS, self.n_left
                    elif self._progress.seconds >= tell_at:
                        tell_at = self._progress.seconds + HELD_SECONDS
                        await self._release_held()
                await self._read_fetch(consumer)
        finally:
            if self._writing is not None:
                await asyncio.wait([self._writing])

    async def _read_fetch(self, consumer: Any) -> None:
        fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=MAX_RECORDS)
        for tp in await self._end_writing(consumer):
            fetched.pop(tp, None)
        # Without a record too: positions move over what compaction and transactions left.
        for tp in fetched or self._places:
            self._places[tp].position = await consumer.position(tp)
        if fetched:
            self._n_writing = sum(map(len, fetched.values()))
            self._writing = start_in_thread(self._write, fetched)

    async def _end_writing(self, consumer: Any) -> list[TopicPartition]:
        """Wait for the fetch that is being written; return the partitions to be read from the beginning."""
        if self._writing is None:
            return []
        stale = await asyncio.shield(self._writing)
        self._writing = None
        for tp in stale:
            place = self._places[tp]
            log.warning(
                "changelog %s, partition %d: a worker that had lost it wrote there, before offset %d; "
                "restoring from the beginning, without what it wrote",
                *(tp.topic, tp.partition, place.position),
            )
            place.position, place.end = place.beginning, max(place.end, place.position)
            consumer.seek(tp, place.beginning)
        self._note(self._n_writing)
        return stale

    async def _release_held(self) -> None:
        held = {tp: place for tp, place in self._places.items() if place.n_left}
        for tp, place in held.items():
            log.warning(
                "topic %s, partition %d: nothing is given out behind offset %d, though it ends at %d; a "
                "transaction is open there that nobody holds (kafka-transactions.sh find-hanging, abort)",
                *(tp.topic, tp.partition, place.position, place.end),
            )
        if self._release is not None:
            await self._release([tp.partition for tp in held])

    def _note(self, n_records: int) -> None:
        n_partitions_left = sum(place.n_left > 0 for place in self._places.values())
        self._progress.read(n_records, self.n_left, n_partitions_left)

    def _write(self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> list[TopicPartition]:
        stale = []
        for tp, records in fetched.items():
            try:
                self._places[tp].restorer.apply(records)
            except StaleWriterError:
                stale.append(tp)
        return stale


def start_in_thread(function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
    """Let a thread work on the store; what fails there is a `ChangelogError`."""

    def work() -> T:
        try:
            return function(*args)
        except ChangelogError:
            raise
        except Exception as error:
            raise ChangelogError(f"the local store failed (NOWCAST_DATA_DIR): {one_line(error)}") from error

    return asyncio.get_running_loop().run_in_executor(None, work)


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Let a thread work on the store and wait for it, also when cancelled: a thread cannot be."""
    working = start_in_thread(function, *args)
    try:
        return await asyncio.shield(working)
    finally:
        await asyncio.wait([working])


def one_line(error: BaseException) -> str:
    """Return an error as one line.

    Examples
    --------
    >>> one_line(OSError("no  space left")), one_line(ValueError())
    ('no space left', 'ValueError')
    """
    return " ".join(str(error).split()) or type(error).__name__
