"""Alerts that are on their topic though the state has not seen their events.

In `at_least_once` a crash between an alert and the next checkpoint leaves such. Their events are scored
again, from the state of before, and raise the same alerts under the same ids: these are not sent again,
whatever the delivery is by then. Owns which they are. With transactions there are none: an alert is there
together with the state that raised it, or not at all.

Another group may score the same events under the same ids: each alert has its group in a header. And a group
may begin anew: a partition's own record says where in the topic its alerts begin, and is written before the
first of them is sent. Where transactions were used from the first event on it says nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from compute.error_drift import RULE as LABELS_RULE
from tables.changelog_reading import one_line
from tables.reading_client import open_reading_client
from tables.reserved import read_alerts_begin, read_next_offset

log = logging.getLogger(__name__)

GROUP_HEADER = "group"
"""Name of the header of an alert that says whose it is."""

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
    read_about : callable
        Gives a partition's own record as it is stored, None where there is none.
    """

    def __init__(self, settings: Any, read_about: Callable[[int], bytes | None]) -> None:
        self._settings = settings
        self._group = settings.group.encode()
        self._read_about = read_about
        self._ids: dict[int, set[str]] = {}

    async def recall(self, numbers: Collection[int]) -> dict[int, int]:
        """Read which alerts were sent after the last checkpoint of these partitions, until the broker tells.

        Returns
        -------
        dict of int to int
            Of partitions whose own record must say where their alerts begin, and does not: that offset, where
            the topic ends now.
        """
        self._ids = {}
        new: dict[int, int] = {}
        abouts = {number: self._read_about(number) for number in numbers}
        if self._settings.delivery == "exactly_once":
            abouts = {
                number: about for number, about in abouts.items() if read_alerts_begin(about) is not None
            }
        while abouts:
            try:
                self._ids, new = await self._read(abouts)
                break
            except TopicAuthorizationFailedError as error:
                log.warning("alerts may be sent twice: this worker may not read them: %s", one_line(error))
                break
            except (KafkaError, OSError, asyncio.TimeoutError) as error:
                log.warning("alerts that were sent not read, trying again: %s", one_line(error))
                await asyncio.sleep(_RETRY_SECONDS)
        if n_sent := sum(map(len, self._ids.values())):
            log.info("%d alerts of events that are scored again were sent already", n_sent)
        return new

    def leave_out(
        self, number: int, keys: Sequence[bytes], values: Sequence[bytes]
    ) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return alerts of a partition, with their keys, without those that were sent."""
        sent = self._ids.get(number)
        if not sent or not values:
            return keys, values
        new = [row for row, value in enumerate(values) if _DECODER.decode(value).id not in sent]
        return [keys[row] for row in new], [values[row] for row in new]

    async def _read(self, abouts: Mapping[int, bytes | None]) -> tuple[dict[int, set[str]], dict[int, int]]:
        found, new = {}, {}
        async with open_reading_client(self._settings, "alerts", fetch_max_wait_ms=10) as consumer:
            tps = [TopicPartition(self._settings.topic_alerts, number) for number in abouts]
            # Before any is assigned: a fetch of an empty partition, which waits, would stand in the way.
            begins = await consumer.beginning_offsets(tps)
            ends = await consumer.end_offsets(tps)
            for tp in tps:
                about, end = abouts[tp.partition], ends[tp]
                own_begin = read_alerts_begin(about)
                if own_begin is None:
                    new[tp.partition] = end
                    continue
                # Where the topic ends before that, it was made anew.
                begin = max(begins[tp], own_begin if own_begin <= end else 0)
                if begin < end:
                    next_offset = read_next_offset(about)
                    found[tp.partition] = await self._read_back(consumer, tp, begin, end, next_offset)
        return found, new

    async def _read_back(
        self, consumer: Any, tp: TopicPartition, begin: int, end: int, next_offset: int
    ) -> set[str]:
        """Return ids of the alerts from the end back to the newest one that a checkpoint has behind it."""
        consumer.assign([tp])
        span = FIRST_SPAN
        while True:
            start = max(begin, end - span)
            ids: set[str] = set()
            for record in reversed(await _records(consumer, tp, start, end)):
                if dict(record.headers).get(GROUP_HEADER) != self._group:
                    continue
                alert = _id_of(record.value)
                if -1 < self._event_offset(alert, tp.partition) < next_offset:
                    return ids
                ids.add(alert)
            if start <= begin:
                return ids
            span *= 4

    def _event_offset(self, alert: str, number: int) -> int:
        """Return the offset of the event that raised an alert, -1 where a label did or it cannot be told."""
        prefix = f"{self._settings.topic_events}-{number}-"
        if not alert.startswith(prefix):
            return -1
        offset, _, rest = alert[len(prefix) :].partition("-")
        # A label raises it under the id of its event, which may have been scored long ago.
        by_label = rest.startswith(f"{LABELS_RULE}-")
        return int(offset) if offset.isdecimal() and len(offset) < 20 and not by_label else -1


async def _records(consumer: Any, tp: TopicPartition, start: int, end: int) -> list[Any]:
    found: list[Any] = []
    consumer.seek(tp, start)
    # The embedded broker tells an end that is too low; what comes with a fetch is right.
    while await consumer.position(tp) < max(end, consumer.last_stable_offset(tp) or 0):
        found += (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, ())
    return found


def _id_of(value: bytes | None) -> str:
    try:
        return _DECODER.decode(value or b"").id
    except msgspec.DecodeError:  # somebody else's
        return ""
