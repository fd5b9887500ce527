"""Labelled events read back from Kafka: from where, which labels, until there are enough.

Owns how far back is read. Statistics begin empty where reading begins, so it begins a window before the rows
that stay, or where the topic does; then rows are normalised as they were when they were scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.settings import Settings
from app.topic_reading import Offsets, TopicReading, open_topic
from app.topics import StartError
from app.training.labels import FirstLabels
from app.training.request import Offsets as Wanted
from app.training.request import Request
from app.training.rows import Rows

FURTHER = 4
"""How many times as far back the next attempt reaches: all together read a third more than the last."""

_LABEL_SLACK_SECONDS = 60.0
"""Clocks of those who send events and labels may differ."""


@dataclass(frozen=True)
class Gathered:
    """What was read of the topics.

    Attributes
    ----------
    rows : Rows
    ranges : dict of int to (int, int)
        Offsets of the events by partition, from the first and before the second.
    n_unreadable_labels : int
        Records of the labels topic that are no labels of these events.
    """

    rows: Rows
    ranges: dict[int, tuple[int, int]]
    n_unreadable_labels: int


async def read_topics(
    settings: Settings, wanted: Request, on_read: Callable[[int], object] = lambda n_events: None
) -> Gathered:
    """Read the newest labelled events, as many as are wanted, or those of the time or offsets asked for.

    Parameters
    ----------
    settings : Settings
    wanted : Request
    on_read : callable
        Called with the number of events read since the last call; what it raises ends the reading.

    Raises
    ------
    StartError
        There is no topic of events, or the broker stopped answering.
    """
    async with open_topic(settings, settings.topic_events) as events:
        if events is None:
            raise StartError(
                f"topic {settings.topic_events!r} (NOWCAST_TOPIC_EVENTS) does not exist at "
                f"{settings.broker}; name a file or a data set to train on"
            )
        async with open_topic(settings, settings.topic_labels) as labels:
            return await _Gathering(settings, wanted, events, labels, on_read).gather()


class _Gathering:
    def __init__(
        self,
        settings: Settings,
        wanted: Request,
        events: TopicReading,
        labels: TopicReading | None,
        on_read: Callable[[int], object],
    ) -> None:
        self._settings, self._wanted = settings, wanted
        self._events = events
        self._labels = labels if settings.label_delay_seconds else None
        self._on_read = on_read

    async def gather(self) -> Gathered:
        begins, latest = await self._events.begins(), await self._events.latest()
        wanted = self._wanted
        _check_partitions("--from", wanted.from_offsets, begins)
        _check_partitions("--to", wanted.to_offsets, begins)
        if wanted.from_offsets:
            starts = _named(wanted.from_offsets, self._events.partitions)
            return await self._attempt({number: starts.get(number, latest[number]) for number in latest})
        if wanted.from_seconds > 0:
            # No event is accepted that lies further ahead of its record than that.
            ahead = self._settings.allowed_future_seconds
            window = self._settings.window_seconds if wanted.normaliser == "window" else 0.0
            return await self._attempt(await self._events.offsets_at(wanted.from_seconds - window - ahead))
        n_back = wanted.max_events
        while True:
            starts = {number: max(begins[number], latest[number] - n_back) for number in latest}
            gathered = await self._attempt(starts)
            if starts == begins or self._is_enough(gathered.rows, starts, begins):
                return gathered
            n_back *= FURTHER

    def _is_enough(self, rows: Rows, starts: Offsets, begins: Offsets) -> bool:
        if len(rows.newest) < self._wanted.max_events:
            return False
        if self._wanted.normaliser == "none":
            return True
        window = self._settings.window_seconds
        return all(
            starts[number] == begins[number] or oldest - rows.first_seconds[number] >= window
            for number, oldest in rows.newest.oldest_seconds().items()
        )

    async def _attempt(self, starts: Offsets) -> Gathered:
        ends = _named(self._wanted.to_offsets, self._events.partitions) or None
        found = await self._read_labels(starts)
        rows = Rows(self._settings, self._wanted, found.find)
        ranges: dict[int, tuple[int, int]] = {}
        async for number, records in self._events.read(starts, ends):
            rows.add(number, records)
            first = ranges.get(number, (records[0].offset, 0))[0]
            ranges[number] = (first, records[-1].offset + 1)
            self._on_read(len(records))
        rows.finish()
        rows.tally.n_late_labels = found.n_late
        rows.tally.n_older = found.n_forgotten
        rows.tally.n_unlabelled -= found.n_forgotten
        return Gathered(rows, dict(sorted(ranges.items())), found.n_unreadable)

    async def _read_labels(self, starts: Offsets) -> FirstLabels:
        found = FirstLabels(
            self._events.topic, self._settings.label_delay_seconds, 2 * self._wanted.max_events
        )
        first = None if self._labels is None else await self._events.first_seconds(starts)
        if self._labels is None or first is None:
            return found
        for number, offset in starts.items():
            found.begin_at(number, offset)
        label_starts = await self._labels.offsets_at(first - _LABEL_SLACK_SECONDS)
        async for _, records in self._labels.read(label_starts):
            found.add(records)
            self._on_read(0)
        return found


def _check_partitions(option: str, offsets: Wanted, known: Offsets) -> None:
    unknown = [number for number in offsets if number is not None and number not in known]
    if unknown:
        raise StartError(f"{option}: the topic has partitions 0 to {max(known)}, received {unknown[0]}")


def _named(offsets: Wanted, partitions: list[int]) -> dict[int, int]:
    """Return offsets by partition, of those that are named or have a common one."""
    return {
        number: offsets[number] if number in offsets else offsets[None]
        for number in partitions
        if number in offsets or None in offsets
    }
