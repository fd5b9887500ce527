"""Reading the dead-letters topic from its beginning to the end it has now.

Without a consumer group: nothing is committed, whoever else reads the topic is not disturbed. Committed
records only: what a transaction took back never was.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from app.settings import Settings
from app.topics import StartError

STALL_SECONDS = 40.0
"""Without any progress for so long, the broker is taken for gone; the client itself would try for ever."""

_POLL_MS = 500


class Reader:
    """The topic between two offsets in each partition, to be read as often as needed.

    Attributes
    ----------
    topics : frozenset of str
        All topics of the broker.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, places: list[TopicPartition], topics: frozenset[str]
    ) -> None:
        self._consumer = consumer
        self._places = places
        self._ends: dict[TopicPartition, int] = {}
        self.topics = topics

    async def read(self, max_records: int) -> AsyncIterator[list[Any]]:
        """Yield records, at most so many at once; the first reading fixes the ends for those that follow.

        Raises
        ------
        StartError
            The broker stopped answering.
        """
        consumer = self._consumer
        begins = await consumer.beginning_offsets(self._places)
        latest = await consumer.end_offsets(self._places)
        behind = {place for place in self._places if begins[place] < self._ends.get(place, latest[place])}
        for place in self._places:
            consumer.seek(place, begins[place])
        moved = time.monotonic()
        while behind:
            fetched = await consumer.getmany(*behind, timeout_ms=_POLL_MS, max_records=max_records)
            records = []
            for place in sorted(behind):
                end = self._end(place, latest[place])
                if end is None:
                    continue
                records += [record for record in fetched.get(place, ()) if record.offset < end]
                # Where transactions left no record, the position moves on without one.
                if await consumer.position(place) >= end:
                    behind.discard(place)
                    moved = time.monotonic()
            if fetched:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_SECONDS:
                topic = self._places[0].topic
                raise StartError(f"the broker sent nothing of topic {topic!r} for {STALL_SECONDS:g} s")
            if records:
                yield records
                moved = time.monotonic()  # what is done with them takes the time it takes

    def _end(self, place: TopicPartition, latest: int) -> int | None:
        """Return where to stop; None until the first fetch tells.

        To the question for the latest offset the embedded broker answers with that of its last batch's
        first record, plus one; what comes with a fetch is right.
        """
        if place not in self._ends:
            highwater, stable = self._consumer.highwater(place), self._consumer.last_stable_offset(place)
            if highwater is None:
                return None
            fetched_end = stable if stable is not None and 0 <= stable <= highwater else highwater
            self._ends[place] = max(latest, fetched_end)
        return self._ends[place]


@asynccontextmanager
async def open_reader(settings: Settings) -> AsyncIterator[Reader]:
    """Connect to the dead-letters topic.

    Raises
    ------
    StartError
        There is no such topic.
    aiokafka.errors.KafkaError
        The broker cannot be reached or refuses.
    """
    topic = settings.topic_dead_letters
    topics, n_partitions = await _look_at(settings, topic)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=f"{settings.group}-dead-letters",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=100,
    )
    try:
        await consumer.start()
        places = [TopicPartition(topic, number) for number in range(n_partitions)]
        consumer.assign(places)
        yield Reader(consumer, places, topics)
    finally:
        await consumer.stop()


async def _look_at(settings: Settings, topic: str) -> tuple[frozenset[str], int]:
    """Return the names of all topics, and how many partitions this one really has."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap_servers, client_id=f"{settings.group}-dead-letters"
    )
    try:
        await admin.start()
        topics = frozenset(await admin.list_topics())
        if topic not in topics:  # to describe it would create it on some brokers
            raise StartError(
                f"topic {topic!r} (NOWCAST_TOPIC_DEAD_LETTERS) does not exist at {settings.broker}; "
                "a worker creates it when it starts"
            )
        (described,) = await admin.describe_topics([topic])
        return topics, len(described["partitions"])
    except KafkaConnectionError:
        raise StartError(f"cannot reach Kafka at {settings.broker} (NOWCAST_BROKER)") from None
    except KafkaError as error:
        reason = str(error) or type(error).__name__
        raise StartError(f"cannot read from Kafka at {settings.broker} (NOWCAST_BROKER): {reason}") from None
    finally:
        await admin.close()
