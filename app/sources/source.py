"""What a source is: a named iterable of events, and the error a user sees when it cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

Number = int | float
Label = int | float | str | bool | None


class SourceError(ValueError):
    """A source cannot be read; the message is one line that names the source, the row and the reason."""


class Event(NamedTuple):
    """One event, before it is encoded.

    Attributes
    ----------
    key : bytes
        The entity.
    timestamp : float
        Event time in epoch seconds.
    features : dict
        Numbers by name; None where missing.
    label : int, float, str, bool or None
        What was observed, where the source knows.
    id : str or None
        The event's own id, where the source has one.
    """

    key: bytes
    timestamp: float
    features: dict[str, Number | None]
    label: Label = None
    id: str | None = None


@dataclass(frozen=True)
class Source:
    """Events that can be iterated over any number of times.

    Attributes
    ----------
    name : str
        As the user named it.
    description : str
        One line about what was found or chosen (columns, number of entities).
    n_events : int or None
        How many events one pass has; None when that is unknown or there is no end.
    read : callable
        Starts one pass.
    """

    name: str
    description: str
    n_events: int | None
    read: Callable[[], Iterator[Event]]

    def __iter__(self) -> Iterator[Event]:
        return self.read()
