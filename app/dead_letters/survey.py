"""The survey: one pass over the dead-letters topic, counted. Pure bookkeeping.

Keeps an offset and a code for each event, never its bytes, beside a few samples cut to a line each. A dead
letter that was written again, for the same event, is the same dead letter.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.dead_letters.records import Choice, DeadLetter, Place, Retried, read_record
from compute.event_faults import shown


@dataclass(frozen=True)
class Sample:
    """A dead letter in a few words."""

    place: Place
    offset: int
    key: str | None
    seconds: float
    message: str
    value: str | None


@dataclass
class OfCode:
    """What is known of one code.

    Attributes
    ----------
    n : int
        Events.
    first, last : float
        When they became dead letters, in epoch seconds.
    samples : deque of Sample
        The latest.
    """

    n: int
    first: float
    last: float
    samples: deque[Sample]


class Survey:
    """Counts the dead letters of a choice.

    Attributes
    ----------
    n_foreign : int
        Records that Nowcast did not write.
    """

    def __init__(self, choice: Choice, n_samples: int = 0) -> None:
        self._choice = choice
        self._n_samples = n_samples
        self._codes: defaultdict[Place, dict[int, str]] = defaultdict(dict)
        self._retried: defaultdict[Place, set[int]] = defaultdict(set)
        self._by_code: dict[str, OfCode] = {}
        self.n_foreign = 0

    def add(self, records: Iterable[Any]) -> None:
        """Enter records of the topic."""
        for record in records:
            found = read_record(record)
            if isinstance(found, Retried):
                self._retried[found.place].add(found.offset)
            elif found is None:
                self.n_foreign += 1
            elif self._choice.takes(found):
                self._add_letter(found)

    def _add_letter(self, letter: DeadLetter) -> None:
        codes, reason, seconds = self._codes[letter.place], letter.reason, letter.seconds
        if reason.offset in codes:
            return
        known = self._by_code.get(reason.code)
        if known is None:
            known = OfCode(0, seconds, seconds, deque(maxlen=self._n_samples))
            self._by_code[reason.code] = known
        codes[reason.offset] = sys.intern(reason.code)  # one string for all, not one each
        known.n += 1
        known.first, known.last = min(known.first, seconds), max(known.last, seconds)
        if self._n_samples:
            known.samples.append(_sample(letter))

    def by_code(self) -> dict[str, OfCode]:
        """Return what was found, the most frequent code first."""
        return dict(sorted(self._by_code.items(), key=lambda item: (-item[1].n, item[0])))

    def n_retried(self, code: str) -> int:
        """Return how many dead letters of a code were sent again."""
        return sum(
            codes.get(offset) == code
            for place, codes in self._codes.items()
            for offset in self._retried.get(place, ())
        )

    def is_retried(self, sample: Sample) -> bool:
        """Whether the event of a sample was sent again."""
        return sample.offset in self._retried.get(sample.place, ())

    def open_offsets(self) -> dict[Place, set[int]]:
        """Return the events of the choice that were not sent again yet."""
        left = {place: codes.keys() - self._retried.get(place, set()) for place, codes in self._codes.items()}
        return {place: offsets for place, offsets in left.items() if offsets}


def _sample(letter: DeadLetter) -> Sample:
    return Sample(
        place=letter.place,
        offset=letter.reason.offset,
        key=None if letter.key is None else shown(letter.key),
        seconds=letter.seconds,
        message=shown(letter.reason.message),
        value=None if letter.value is None else shown(letter.value),
    )
