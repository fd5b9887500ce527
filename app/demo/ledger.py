"""The ledger: every event against its answer, a prediction or a dead letter. Pure bookkeeping.

Topics are read side by side, so an answer may be seen before its event, and at-least-once delivery may
answer twice. Only what is still open is kept in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

Place = tuple[int, int]


class Ledger:
    """Counts of a run.

    Parameters
    ----------
    first_offsets : mapping
        Per partition of the events, the first offset that belongs to this run.

    Attributes
    ----------
    n_events, n_predictions, n_dead_letters : int
        Events seen, and how they were answered, each event once.
    n_repeats : int
        Answers to an event that had one already.

    Examples
    --------
    >>> ledger = Ledger({0: 0})
    >>> ledger.add_event(0, 0, 1_000)
    >>> ledger.add_answer(0, 0, 1_007)
    >>> ledger.n_events, ledger.n_predictions, ledger.n_open, ledger.latency_ms(0.99)
    (1, 1, 0, 7)
    """

    def __init__(self, first_offsets: Mapping[int, int]) -> None:
        self._next = dict(first_offsets)
        self._first = dict(first_offsets)
        self._open: dict[Place, int] = {}
        self._early: dict[Place, int | None] = {}
        self._latencies_ms: Counter[int] = Counter()
        self.n_events = self.n_predictions = self.n_dead_letters = self.n_repeats = 0

    @property
    def n_open(self) -> int:
        """Events without an answer so far."""
        return len(self._open)

    def add_event(self, partition: int, offset: int, sent_ms: int) -> None:
        """Enter an event with its record's timestamp; offsets of a partition come in order."""
        self.n_events += 1
        self._next[partition] = offset + 1
        place = (partition, offset)
        if place in self._early:
            self._settle(sent_ms, self._early.pop(place))
        else:
            self._open[place] = sent_ms

    def add_answer(self, partition: int, offset: int, answered_ms: int | None) -> None:
        """Enter a prediction with its record's timestamp, or a dead letter with None."""
        place = (partition, offset)
        if place in self._open:
            self._settle(self._open.pop(place), answered_ms)
        elif offset >= self._next.get(partition, 0) and place not in self._early:
            self._early[place] = answered_ms
        elif offset >= self._first.get(partition, 0):
            self.n_repeats += 1

    def latency_ms(self, quantile: float) -> int | None:
        """Return a quantile of the time from event to prediction; None without predictions."""
        rank = quantile * (sum(self._latencies_ms.values()) - 1)
        n_below = 0
        for latency, n in sorted(self._latencies_ms.items()):
            n_below += n
            if n_below > rank:
                return latency
        return None

    def _settle(self, sent_ms: int, answered_ms: int | None) -> None:
        if answered_ms is None:
            self.n_dead_letters += 1
        else:
            self.n_predictions += 1
            self._latencies_ms[answered_ms - sent_ms] += 1
