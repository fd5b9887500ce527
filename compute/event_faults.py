"""Why an event is refused: the record of it, and how a received value is shown to people.

The codes are part of the contract (``error`` header of a dead letter). ``compute/event_reading.py`` finds
what is wrong with one value, ``compute/events.py`` what is wrong with an event among others.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_SHOWN = 200
"""Characters of a received value that a message repeats; the dead letter carries the original bytes."""


class Rejected(NamedTuple):
    """An event that cannot be processed: position in its batch, a stable code, a sentence for people."""

    position: int
    code: str
    message: str


class EventError(ValueError):
    """Why one event is refused, on its way from where the reason was found.

    Parameters
    ----------
    code : str
        Stable code of the contract, such as ``invalid-json``.
    message : str
        A sentence that names the field, the bound and the value received.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def shown(value: bytes | str) -> str:
    r"""Return what was received, fit for one line of a log: printable, and cut where it is long.

    Examples
    --------
    >>> print(shown(b'{"t":\n\xff'), shown("warm"), len(shown("x" * 1000)))
    {"t":\u000a\xff warm 203
    """
    head = value[: MAX_SHOWN + 1]
    text = head.decode("utf-8", "backslashreplace") if isinstance(head, bytes) else head
    text = "".join([c if c.isprintable() else f"\\u{ord(c):04x}" for c in text])
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
