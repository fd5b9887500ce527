"""Who writes a partition's changelog (`at_least_once`): each owner has a term, above those of all before it.

Owns the header of the records that says so, and its place in the partition's own record. What a reader makes
of it is in `tables/restoring.py`. Where transactions fence off whoever had the partition it is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HEADER_NAME = "owner"

_PLACES = slice(4, 6)
"""Among the fields of the partition's own record (`tables/partition.py`)."""


class Owner(NamedTuple):
    """An owner of a partition.

    Attributes
    ----------
    term : int
        Above those of all owners whose records it has read; epoch milliseconds, where that is above them.
    begin : int
        Offset of the changelog behind what it has read. Whatever an owner before it writes from there on
        is stale: nobody knew of it when the partition went on.
    """

    term: int
    begin: int


def next_owner(about: bytes | None, begin: int, now_ms: int) -> Owner:
    """Return who takes a partition after the one that wrote its own record.

    Two that have read the same differ by the time at which they took it, which is a session or more.

    Examples
    --------
    >>> next_owner(b"5666666 1841 300.0 20 1700 90", begin=95, now_ms=2000)
    Owner(term=2000, begin=95)
    >>> next_owner(b"5666666 1841 300.0 20 1700 90", begin=95, now_ms=1600)
    Owner(term=1701, begin=95)
    >>> next_owner(None, begin=0, now_ms=1600)
    Owner(term=1600, begin=0)
    """
    before = read_owner(about)
    return Owner(now_ms if before is None else max(before.term + 1, now_ms), begin)


def read_owner(about: bytes | None) -> Owner | None:
    """Return who wrote a partition's own record; None where it does not say.

    Examples
    --------
    >>> read_owner(b"5666666 1841 300.0 20 1700 90"), read_owner(b"5666666 1841 300.0 20"), read_owner(None)
    (Owner(term=1700, begin=90), None, None)
    """
    return _parse((about or b"").split()[_PLACES])


def owner_headers(about: bytes | None) -> list[tuple[str, bytes]]:
    """Return the headers of the records of a checkpoint, by the partition's own record that ends it.

    Examples
    --------
    >>> owner_headers(b"5666666 1841 300.0 20 1700 90"), owner_headers(b"5666666 1841 300.0 20")
    ([('owner', b'1700 90')], [])
    """
    owner = read_owner(about)
    return [] if owner is None else [(HEADER_NAME, b"%d %d" % owner)]


def owner_of(headers: Sequence[tuple[str, bytes | None]]) -> Owner | None:
    """Return who wrote a record; None where its headers do not say.

    Examples
    --------
    >>> owner_of((("owner", b"1700 90"),)), owner_of(()), owner_of((("owner", b"?"),))
    (Owner(term=1700, begin=90), None, None)
    """
    return next((_parse((value or b"").split()) for name, value in headers if name == HEADER_NAME), None)


def _parse(fields: Sequence[bytes]) -> Owner | None:
    try:
        term, begin = map(int, fields)
    except ValueError:
        return None
    return Owner(term, begin)
