"""Reading a topic between two offsets of each partition, without a consumer group.

Nothing is committed, and whoever else reads the topic is not disturbed. Committed records only: what a
transaction took back never was.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from app.settings import Settings
from app.topics import StartError
from tables.reading_client import open_reading_client

MAX_RECORDS = 4_000

STALL_SECONDS = 40.0
"""Without any progress for so long, the broker is taken for gone; the client itself would try for ever."""

_POLL_MS = 500

Offsets = Mapping[int, int]
"""By partition."""


class TopicReading:
    """One topic, to be read as often as needed; the first reading fixes the ends for those that follow.

    Attributes
    ----------
    topic : str
    topics : frozenset of str
        All topics of the broker.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, topic: str, n_partitions: int, topics: frozenset[str]
    ) -> None:
        self._consumer = consumer
        self._places = {number: TopicPartition(topic, number) for number in range(n_partitions)}
        self._ends: dict[int, int] = {}
        self.topic = topic
        self.topics = topics

    @property
    def partitions(self) -> list[int]:
        """Numbers of the partitions."""
        return list(self._places)

    async def begins(self) -> dict[int, int]:
        """Return the first offset of each partition."""
        found = await self._consumer.beginning_offsets(list(self._places.values()))
        return {place.partition: offset for place, offset in found.items()}

    async def latest(self) -> dict[int, int]:
        """Return about the offset after the last record of each partition; a reading finds out exactly."""
        found = await self._consumer.end_offsets(list(self._places.values()))
        return {place.partition: offset for place, offset in found.items()}

    async def offsets_at(self, seconds: float) -> dict[int, int]:
        """Return the first offset of each partition whose record is not older than a time.

        A broker that has no index by time may answer with an earlier one.
        """
        asked = {place: max(int(seconds * 1_000), 0) for place in self._places.values()}
        found = await self._consumer.offsets_for_times(asked)
        latest = await self.latest()
        return {
            place.partition: latest[place.partition] if answer is None else answer.offset
            for place, answer in found.items()
        }

    async def first_seconds(self, starts: Offsets) -> float | None:
        """Return the time of the earliest among the first records from `starts` on; None without records."""
        times: dict[int, float] = {}
        async for number, records in self.read(starts, max_records=1, one_each=True):
            times[number] = records[0].timestamp / 1_000
        return min(times.values(), default=None)

    async def read_all(self, max_records: int = MAX_RECORDS) -> AsyncIterator[list[Any]]:
        """Yield records of all partitions from their beginning on, at most so many at once.

        Raises
        ------
        StartError
            The broker stopped answering.
        """
        async for _, records in self.read(dict.fromkeys(self._places, 0), max_records=max_records):
            yield records

    async def read(
        self,
        starts: Offsets,
        ends: Offsets | None = None,
        *,
        max_records: int = MAX_RECORDS,
        one_each: bool = False,
    ) -> AsyncIterator[tuple[int, list[Any]]]:
        """Yield partitions and their records, from one offset on and before another.

        Parameters
        ----------
        starts, ends : mapping of int to int
            By partition; partitions without a start are not read, those without an end are read to the one
            that they had at the first reading.
        max_records : int
            Of one fetch.
        one_each : bool
            Leave a partition after its first records.

        Raises
        ------
        StartError
            The broker stopped answering.
        """
        consumer, places = self._consumer, self._places
        latest = await self.latest()
        begins = await self.begins()
        behind = set()
        for number, start in starts.items():
            position = max(start, begins[number])  # what retention took is gone
            end = self._end(number, ends, latest[number])
            if end is None or position < end:
                consumer.seek(places[number], position)
                behind.add(number)
        moved = time.monotonic()
        while behind:
            asked = [places[number] for number in sorted(behind)]
            fetched = await consumer.getmany(*asked, timeout_ms=_POLL_MS, max_records=max_records)
            for place in asked:
                number = place.partition
                end = self._end(number, ends, latest[number])
                if end is None:
                    continue
                records = [record for record in fetched.get(place, ()) if record.offset < end]
                if records:
                    yield number, records
                # Where transactions left no record, the position moves on without one.
                if (one_each and records) or await consumer.position(place) >= end:
                    behind.discard(number)
                    moved = time.monotonic()
            if fetched:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_SECONDS:
                raise StartError(f"the broker sent nothing of topic {self.topic!r} for {STALL_SECONDS:g} s")

    def _end(self, number: int, ends: Offsets | None, latest: int) -> int | None:
        """Return where to stop; None until the first fetch tells.

        To the question for the latest offset the embedded broker answers with that of its last batch's
        first record, plus one; what comes with a fetch is right.
        """
        if number not in self._ends:
            place = self._places[number]
            highwater, stable = self._consumer.highwater(place), self._consumer.last_stable_offset(place)
            if highwater is None:
                return None
            fetched_end = stable if stable is not None and 0 <= stable <= highwater else highwater
            self._ends[number] = max(latest, fetched_end)
        end = self._ends[number]
        return end if ends is None else min(end, ends.get(number, end))


@asynccontextmanager
async def open_topic(settings: Settings, topic: str) -> AsyncIterator[TopicReading | None]:
    """Connect to a topic; None if there is no such topic.

    Raises
    ------
    StartError
        The broker cannot be reached or refuses.
    """
    topics, n_partitions = await _look_at(settings, topic)
    if topic not in topics:
        yield None
        return
    async with open_reading_client(settings, "reading", fetch_max_wait_ms=100) as consumer:
        consumer.assign([TopicPartition(topic, number) for number in range(n_partitions)])
        yield TopicReading(consumer, topic, n_partitions, topics)


async def _look_at(settings: Settings, topic: str) -> tuple[frozenset[str], int]:
    """Return the names of all topics, and how many partitions this one has."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap_servers, client_id=f"{settings.group}-reading"
    )
    try:
        await admin.start()
        topics = frozenset(await admin.list_topics())
        if topic not in topics:  # to describe it would create it on some brokers
            return topics, 0
        (described,) = await admin.describe_topics([topic])
        return topics, len(described["partitions"])
    except KafkaConnectionError:
        raise StartError(f"cannot reach Kafka at {settings.broker} (NOWCAST_BROKER)") from None
    except KafkaError as error:
        reason = str(error) or type(error).__name__
        raise StartError(f"cannot read from Kafka at {settings.broker} (NOWCAST_BROKER): {reason}") from None
    finally:
        await admin.close()
