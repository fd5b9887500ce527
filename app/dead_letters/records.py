"""Records of the dead-letters topic: a dead letter, or the marker that one was retried. Nothing is read here.

A marker follows the dead letter in the same partition: the same key, an empty value, and one header,
`retried`, with the id of the event, `<topic>-<partition>-<offset>`. It is written once the broker has the
event, and so it

- holds for every copy of the dead letter. A replay after a crash writes a dead letter again, at another
  offset of its topic; therefore a marker names the event and not the offset of the letter.
- works with any filter, where a committed position could only say "all up to here".
- needs no other topic, and retention removes it after the dead letter that stands before it.
- leaves one way to send events twice: a crash between the event's acknowledgement and the marker's. Without
  transactions, which not every broker has, it is this or the risk to lose the event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from compute.dead_letters import Reason, read_dead_letter_headers

RETRIED_HEADER = "retried"
TRUNCATED_HEADER = "truncated"

Place = tuple[str, int]
"""Topic and partition of an event."""

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class DeadLetter:
    """An event that could not be processed, as it came, with the reason.

    Attributes
    ----------
    reason : Reason
    key, value : bytes or None
    headers : list of (str, bytes or None)
        The event's own.
    partition : int
        Of the dead-letters topic.
    seconds : float
        When it became a dead letter, in epoch seconds.
    truncated : bool
        Only the beginning of the event is here; the whole did not fit into the topic.
    """

    reason: Reason
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int
    seconds: float
    truncated: bool = False

    @property
    def place(self) -> Place:
        """Topic and partition of the event."""
        return self.reason.topic, self.reason.partition

    @property
    def event_id(self) -> str:
        """Id of the event, as its prediction would have had it."""
        return f"{self.reason.topic}-{self.reason.partition}-{self.reason.offset}"


@dataclass(frozen=True)
class Retried:
    """A marker: the event was sent to its topic again."""

    place: Place
    offset: int


@dataclass(frozen=True)
class Choice:
    """Which dead letters are meant: of these codes (none: all), this source topic, in `[since, until)`."""

    codes: frozenset[str] = frozenset()
    topic: str | None = None
    since: float = -math.inf
    until: float = math.inf

    def takes(self, letter: DeadLetter) -> bool:
        """Whether it is one of them."""
        return (
            (not self.codes or letter.reason.code in self.codes)
            and self.topic in (None, letter.reason.topic)
            and self.since <= letter.seconds < self.until
        )


def read_record(record: Any) -> DeadLetter | Retried | None:
    """Return what a record of the dead-letters topic is; None for one that Nowcast did not write."""
    headers = [(name, None if value is None else bytes(value)) for name, value in record.headers]
    found = read_dead_letter_headers(headers)
    if found is not None:
        reason, own = found
        seconds = record.timestamp / 1000.0
        # Ours comes after the reason; one that the event had itself comes before.
        truncated = headers[-1][0] == TRUNCATED_HEADER
        return DeadLetter(reason, record.key, record.value, own, record.partition, seconds, truncated)
    for name, value in headers:
        if name == RETRIED_HEADER and value is not None:
            return _read_marker(value.decode("utf-8", "backslashreplace"))
    return None


def _read_marker(event_id: str) -> Retried | None:
    topic, *numbers = event_id.rsplit("-", 2)
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        return Retried((topic, int(numbers[0])), int(numbers[1]))
    return None


def marker_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Return the headers of the marker that says that a dead letter was retried."""
    return [(RETRIED_HEADER, letter.event_id.encode("utf-8", "backslashreplace"))]
