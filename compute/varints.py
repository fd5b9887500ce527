"""Integers as few bytes: seven bits in each, the lowest first, the eighth says that more follow (LEB128).

Owns the packing of whole arrays. What the numbers stand for is left to others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Unsigned = NDArray[np.uint64]

_MAX_BYTES = 10
_POWERS = np.array([1 << 7 * i for i in range(1, _MAX_BYTES)], np.uint64)


def encode_varints(numbers: Unsigned) -> bytes:
    r"""Return the packed form of an array.

    Parameters
    ----------
    numbers : ndarray, shape (n,), uint64

    Examples
    --------
    >>> encode_varints(np.array([0, 127, 300], np.uint64))
    b'\x00\x7f\xac\x02'
    """
    if not len(numbers):
        return b""
    n_bytes = np.searchsorted(_POWERS, numbers, side="right") + 1
    places = np.arange(int(n_bytes.max()))
    planes = (numbers[:, None] >> (7 * places).astype(np.uint64)).astype(np.uint8) & 0x7F
    planes[places < n_bytes[:, None] - 1] |= 0x80
    return planes[places < n_bytes[:, None]].tobytes()


def decode_varints(packed: bytes) -> Unsigned:
    r"""Return the array that `encode_varints` packed.

    Raises
    ------
    ValueError
        If a number does not end, or is none of 64 bits.

    Examples
    --------
    >>> decode_varints(b"\x00\x7f\xac\x02").tolist()
    [0, 127, 300]
    >>> decode_varints(b"\x80")
    Traceback (most recent call last):
    ValueError: packed integers: the last one must end, received b'\x80'
    """
    raw = np.frombuffer(packed, np.uint8)
    if not len(raw):
        return np.zeros(0, np.uint64)
    if raw[-1] & 0x80:
        raise ValueError(f"packed integers: the last one must end, received {packed[-_MAX_BYTES:]!r}")
    ends = np.flatnonzero(raw < 0x80) + 1
    starts = np.concatenate(([0], ends[:-1]))
    n_bytes = ends - starts
    if n_bytes.max() > _MAX_BYTES or (raw[ends[n_bytes == _MAX_BYTES] - 1] > 1).any():
        raise ValueError("packed integers: must have 64 bits at most")
    places = np.arange(len(raw)) - np.repeat(starts, n_bytes)
    parts = (raw & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    return np.add.reduceat(parts, starts)
