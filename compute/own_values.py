"""How every value begins that a partition keeps beside its entities: a kind, and what its writer had seen.

Owns these bytes only. What follows belongs to who keeps it. All numbers are little endian::

    kind 2 letters, version u8, 41 bytes zero, seen i64                                           (52 bytes)

How much the writer had seen lies where a stored entity keeps its last applied offset
(`compute/state_format.py`).
"""

from __future__ import annotations

import struct

from compute.state_format import HEADER_FIELDS

VERSION = 1

_SEEN_AT = int(HEADER_FIELDS.fields["last_offset"][1])  # type: ignore[index]
_HEADER = struct.Struct(f"<2sB{_SEEN_AT - 3}sq")
_ZEROS = bytes(_SEEN_AT - 3)


def with_header(kind: bytes, seen: int, content: bytes) -> bytes:
    r"""Return content as it is stored.

    Parameters
    ----------
    kind : bytes, length 2
    seen : int
        How many events and labels the writer has seen: next offsets of both, added up.
    content : bytes

    Examples
    --------
    >>> stored = with_header(b"NA", 1841, b"content")
    >>> stored[:3], len(stored), content_of(b"NA", stored), seen_of(stored)
    (b'NA\x01', 59, b'content', 1841)
    """
    return _HEADER.pack(kind, VERSION, _ZEROS, seen) + content


def content_of(kind: bytes, stored: bytes) -> bytes:
    r"""Return what `with_header` stored.

    Raises
    ------
    ValueError
        If the bytes are not of that kind and version.

    Examples
    --------
    >>> content_of(b"NA", b"hello")
    Traceback (most recent call last):
    ValueError: stored value: must begin with b'NA\x01' and have 52 bytes or more, received b'hello' of 5
    """
    wanted = kind + bytes([VERSION])
    if len(stored) < _HEADER.size or not stored.startswith(wanted) or stored[3:_SEEN_AT] != _ZEROS:
        raise ValueError(
            f"stored value: must begin with {wanted!r} and have {_HEADER.size} bytes or more, "
            f"received {stored[:10]!r} of {len(stored)}"
        )
    return stored[_HEADER.size :]


def seen_of(stored: bytes) -> int:
    """Return how much the writer of a value had seen; of one that is too short, nothing."""
    return int.from_bytes(stored[_SEEN_AT : _HEADER.size], "little", signed=True)
