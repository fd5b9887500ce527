"""Why an event could not be processed, as the headers of its dead letter: written, and read back.

The dead letter's key and value are the event's own bytes, and the event's own headers come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_NAMES = ("error", "error-message", "source-topic", "source-partition", "source-offset", "stage")


class Reason(NamedTuple):
    """Why and where an event could not be processed; topic, partition and offset are the event's."""

    code: str
    message: str
    topic: str
    partition: int
    offset: int
    stage: str


Headers = list[tuple[str, bytes]]


def fit_dead_letter(
    key: bytes | None, value: bytes | None, own: Headers, reasons: Headers, max_bytes: int
) -> tuple[bytes | None, bytes | None, Headers]:
    """Return key, value and headers of a dead letter that the broker will take.

    Nearly always they are the event's own. A topic bounds what arrives compressed, so an event can be larger
    than any topic takes once it is uncompressed; a dead letter that is refused would stop the worker at that
    event for ever. Such a one loses its own headers, and then the end of key and value, and says so in the
    header `truncated`: the bytes there were. The original is where the headers say.

    Examples
    --------
    >>> fit_dead_letter(b"pump", b"x" * 90, [("trace", b"1")], [("error", b"too-large")], max_bytes=60)[2]
    [('error', b'too-large'), ('truncated', b'100')]
    """
    size = len(key or b"") + len(value or b"") + sum(len(name) + len(data or b"") for name, data in own)
    if size <= max_bytes:
        return key, value, [*own, *reasons]
    key = key and key[: max_bytes // 2]
    value = value and value[: max_bytes - len(key or b"")]
    return key, value, [*reasons, ("truncated", str(size).encode())]


def dead_letter_headers(
    code: str, message: str, topic: str, partition: int, offset: int, stage: str
) -> list[tuple[str, bytes]]:
    """Return the headers that say why an event could not be processed, to follow its own headers.

    Examples
    --------
    >>> dict(dead_letter_headers("missing-key", "key: none", "events", 2, 1841, "decode"))["source-offset"]
    b'1841'
    """
    headers = {
        "error": code,
        "error-message": message,
        "source-topic": topic,
        "source-partition": str(partition),
        "source-offset": str(offset),
        "stage": stage,
    }
    return [(name, text.encode("utf-8", "backslashreplace")) for name, text in headers.items()]


def read_dead_letter_headers(
    headers: Sequence[tuple[str, bytes | None]],
) -> tuple[Reason, list[tuple[str, bytes | None]]] | None:
    """Return the reason that a dead letter's headers tell, and the headers that the event had itself.

    Of each name the last is ours: an event may have brought headers of the same names.

    Returns
    -------
    Reason and list of headers, or None
        None if the record is no dead letter.

    Examples
    --------
    >>> written = dead_letter_headers("missing-key", "key: none", "events", 2, 1841, "decode")
    >>> reason, own = read_dead_letter_headers([("trace", b"7"), *written])
    >>> reason.code, reason.offset, own
    ('missing-key', 1841, [('trace', b'7')])
    """
    last = {name: i for i, (name, _) in enumerate(headers) if name in _NAMES}
    if len(last) < len(_NAMES):
        return None
    code, message, topic, partition, offset, stage = (
        (headers[last[name]][1] or b"").decode("utf-8", "backslashreplace") for name in _NAMES
    )
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        return None
    ours = set(last.values())
    own = [header for i, header in enumerate(headers) if i not in ours]
    return Reason(code, message, topic, int(partition), int(offset), stage), own
