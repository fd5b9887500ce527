"""Pacing: when each event of a replay is due. Pure; the clock is the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.sources import Event


@dataclass(frozen=True)
class Pace:
    """How fast a replay goes.

    Attributes
    ----------
    rate : float
        Events per second at most; 0: no limit.
    speed : float
        Seconds of event time per second, by the recorded gaps; 0: gaps do not matter.
    now : bool
        Whether events carry the time at which they are due instead of the recorded one.
    """

    rate: float = 0.0
    speed: float = 0.0
    now: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to wait for."""
        return self.rate > 0 or self.speed > 0

    def schedule(self, events: Iterable[Event]) -> Iterator[tuple[float, Event]]:
        """Yield each event with the seconds after the start at which it is due; these never decrease.

        Examples
        --------
        >>> events = [Event(b"a", 100.0, {}), Event(b"a", 160.0, {}), Event(b"a", 130.0, {})]
        >>> [due for due, _ in Pace(speed=60).schedule(events)]
        [0.0, 1.0, 1.0]
        >>> [due for due, _ in Pace(rate=2, speed=60).schedule(events)]
        [0.0, 1.0, 1.5]
        """
        gap = 1.0 / self.rate if self.rate else 0.0
        due = -gap
        first: float | None = None
        for event in events:
            due += gap
            if self.speed:
                first = event.timestamp if first is None else first
                due = max(due, (event.timestamp - first) / self.speed)
            yield due, event


def repeat(events: Iterable[Event]) -> Iterator[Event]:
    """Go through the events again and again, each pass later than the one before by the span of all.

    A second pass with the times of the first would be late events, so each pass starts one mean gap
    after the last event of the pass before.

    Examples
    --------
    >>> from itertools import islice
    >>> two = [Event(b"a", 10.0, {}), Event(b"a", 14.0, {})]
    >>> [event.timestamp for event in islice(repeat(two), 5)]
    [10.0, 14.0, 18.0, 22.0, 26.0]
    """
    shift = 0.0
    while True:
        n_events, first, last = 0, float("inf"), float("-inf")
        for event in events:
            n_events += 1
            first, last = min(first, event.timestamp), max(last, event.timestamp)
            yield event if not shift else event._replace(timestamp=event.timestamp + shift)
        if not n_events:
            return
        shift += (last - first) * n_events / (n_events - 1) if last > first else 1.0
