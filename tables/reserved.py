"""Keys of a partition's own records: what it keeps beside its entities, in the same store and changelog.

So it is written by the same checkpoints and restored by the same recovery. No event may have such a key
(`reserved-key`). How the values begin is in `compute/own_values.py`.
"""

from __future__ import annotations

PREFIX, BEHIND = b"\x00nowcast-", b"\x00nowcast."
"""Beginning of these keys, and a key behind all of them."""

PARTITION_KEY = PREFIX + b"partition"
"""Record of the partition itself, written behind all others: watermark, next offsets, whose it is, and where
its alerts begin."""


def read_next_offset(stored: bytes | None) -> int:
    """Return the next offset of events in a partition's own record, 0 where it cannot be read.

    Examples
    --------
    >>> read_next_offset(b"5666666 1841 300.0"), read_next_offset(b"?"), read_next_offset(None)
    (1841, 0, 0)
    """
    try:
        return int((stored or b"").split()[1])
    except (IndexError, ValueError):
        return 0


def read_alerts_begin(stored: bytes | None) -> int | None:
    """Return where in its topic the alerts begin that this group sent of a partition, by its own record.

    None where the record does not say.

    Examples
    --------
    >>> read_alerts_begin(b"5666666 1841 300.0 20 1700 90 7"), read_alerts_begin(b"5666666 1841 300.0 20")
    (7, None)
    """
    try:
        return int((stored or b"").split()[6])
    except (IndexError, ValueError):
        return None


def read_progress(stored: bytes | None) -> int:
    """Return how many events and labels a partition's own record has seen: next offsets of both, added up.

    Examples
    --------
    >>> read_progress(b"5666666 1841 300.0 20"), read_progress(b"5666666 1841 300.0"), read_progress(b"?")
    (1861, 1841, 0)
    """
    fields = (stored or b"").split()
    try:
        return int(fields[1]) + (int(fields[3]) if fields[3:] else 0)
    except (IndexError, ValueError):
        return 0
