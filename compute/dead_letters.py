"""Why an event could not be processed, as the headers of its dead letter.

The dead letter's key and value are the event's own bytes, and the event's own headers come first.
"""

from __future__ import annotations


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
