"""Alerts that are on their topic though the state has not seen their events (`at_least_once`).

A crash between an alert and the next checkpoint leaves such. Their events are scored again, from the state of
before, and raise the same alerts under the same ids: these are not sent again. Owns which they are. With
transactions there are none: an alert is there together with the state that raised it, or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tables.calm import calm
from tables.changelog_reading import one_line

log = logging.getLogger(__name__)

FIRST_SPAN = 1_000
"""Offsets looked at from the end of a partition on; four times as many each time that was not enough."""

_POLL_MS = 200
_RETRY_SECONDS = 1.0


class _Alert(msgspec.Struct):
    id: str


_DECODER = msgspec.json.Decoder(_Alert)


class SentAlerts:
    """Remembers by partition which alerts are not to be sent again.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: bootstrap_servers, delivery, group, topic_alerts, topic_events.
    next_offset : callable
        Gives the offset of the first event that the stored state of a partition has not seen, 0 where there
        is no state.
    """

    def __init__(self, settings: Any, next_offset: Callable[[int], int]) -> None:
        self._settings = settings
        self._next_offset = next_offset
        self._ids: dict[int, set[str]] = {}

    async def recall(self, numbers: Collection[int]) -> None:
        """Read which alerts of events that the states have not seen are there, until the broker tells.

        A partition without a state is left out: a new group that scores history again has its own alerts.
        """
        self._ids = {}
        if self._settings.delivery != "at_least_once":
            return
        wanted = {number: offset for number in numbers if (offset := self._next_offset(number))}
        while wanted:
            try:
                async with self._open_consumer() as consumer:
                    for number in sorted(wanted):
                        self._ids[number] = await self._read_back(consumer, number, wanted[number])
                        del wanted[number]
            except (KafkaError, OSError) as error:
                log.warning("alerts that were sent not read, trying again: %s", one_line(error))
                await asyncio.sleep(_RETRY_SECONDS)
        if n_sent := sum(map(len, self._ids.values())):
            log.info("%d alerts of events that are scored again were sent already", n_sent)

    def leave_out(
        self, number: int, keys: Sequence[bytes], values: Sequence[bytes]
    ) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return alerts of a partition, with their keys, without those that were sent."""
        sent = self._ids.get(number)
        if not sent or not values:
            return keys, values
        new = [row for row, value in enumerate(values) if _DECODER.decode(value).id not in sent]
        return [keys[row] for row in new], [values[row] for row in new]

    async def _read_back(self, consumer: Any, number: int, next_offset: int) -> set[str]:
        """Return ids of alerts of events from an offset on, reading back to the first of an event before."""
        tp = TopicPartition(self._settings.topic_alerts, number)
        consumer.assign([tp])
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        span = FIRST_SPAN
        while True:
            start = max(begin, end - span)
            found = [] if start >= end else await self._read(consumer, tp, start, end)
            if start <= begin or any(offset < next_offset for offset, _ in found):
                return {alert for offset, alert in found if offset >= next_offset}
            span *= 4

    async def _read(self, consumer: Any, tp: TopicPartition, start: int, end: int) -> list[tuple[int, str]]:
        """Return offsets of events, and ids, of the alerts of this partition from one offset to the end."""
        prefix = f"{self._settings.topic_events}-{tp.partition}-"
        found = []
        consumer.seek(tp, start)
        # The embedded broker tells an end that is too low; what comes with a fetch is right.
        while await consumer.position(tp) < max(end, consumer.last_stable_offset(tp) or 0):
            for record in (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, ()):
                if (alert := _id_of(record.value)).startswith(prefix):
                    offset = alert[len(prefix) :].partition("-")[0]
                    if offset.isdecimal():
                        found.append((int(offset), alert))
        return found

    @asynccontextmanager
    async def _open_consumer(self) -> AsyncIterator[Any]:
        settings = self._settings
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap_servers,
            client_id=f"{settings.group}-alerts",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        calm(consumer._client)
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


def _id_of(value: bytes | None) -> str:
    try:
        return _DECODER.decode(value or b"").id
    except msgspec.DecodeError:  # somebody else's
        return ""
