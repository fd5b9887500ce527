"""Layout of a stored entity: header, names of features, panes.

Owns where each field lies and what values it may have. Reading and writing are in `compute/state_codec.py`.

A value can be read by itself: names of features travel with it, those without values in the window and empty
panes do not. All numbers are little endian::

    magic "NS", version u8, zero u8, n_panes u16, n_features u16, n_held u16, zero u16, names_bytes u32,
    extra_bytes u32, pane_seconds f64, newest i64, seen i64, last_offset i64                       (52 bytes)
    names: n_features times (length u16, UTF-8)
    panes, oldest first, n_held times: n_events u32, age u16, zero u16, then count u32 of all features, low
        f32 of all features, and so on: mean f64, m2 f64, minimum f64, maximum f64  (8 bytes and 40 a feature)
    extra: what others keep with the entity

The rest of the mean, `low`, is 2**-53 of the mean; as f32 it keeps the mean to 77 bits.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np

from compute.moments import Floats, Integers, Moments
from compute.panes import EMPTY, MAX_PANE

MAGIC, VERSION = b"NS", 1

HEADER = struct.Struct("<2sBBHHHHIIdqqq")
HEADER_FIELDS = np.dtype(
    [
        ("magic", "S2"),
        ("version", "<u1"),
        ("zero", "<u1"),
        ("n_panes", "<u2"),
        ("n_features", "<u2"),
        ("n_held", "<u2"),
        ("zero_too", "<u2"),
        ("names_bytes", "<u4"),
        ("extra_bytes", "<u4"),
        ("pane_seconds", "<f8"),
        ("newest", "<i8"),
        ("seen", "<i8"),
        ("last_offset", "<i8"),
    ]
)


def pane_bytes(n_features: int) -> int:
    """Return the size of one pane.

    Examples
    --------
    >>> pane_bytes(4)
    168
    """
    return 8 + 40 * n_features


@lru_cache(maxsize=256)
def pane_fields(n_features: int) -> np.dtype[np.void]:
    """Return the fields of one pane.

    Examples
    --------
    >>> pane_fields(4).itemsize
    168
    """
    small = np.dtype([("count", "<u4", (n_features,)), ("low", "<f4", (n_features,))])
    return np.dtype(
        [
            ("n_events", "<u4"),
            ("age", "<u2"),
            ("zero", "<u2"),
            ("small", small),
            ("numbers", "<f8", (4, n_features)),  # mean, m2, minimum, maximum
        ]
    )


@lru_cache(maxsize=1024)
def name_bytes(features: tuple[str, ...]) -> bytes:
    r"""Return names in their stored form.

    Examples
    --------
    >>> name_bytes(("a", "bc"))
    b'\x01\x00a\x02\x00bc'
    """
    encoded = [name.encode() for name in features]
    for name in encoded:
        if len(name) > 0xFFFF:
            raise ValueError(f"feature name: must be at most {0xFFFF} bytes, received {len(name)}")
    return b"".join(len(name).to_bytes(2, "little") + name for name in encoded)


@lru_cache(maxsize=1024)
def read_names(stored: bytes, n_features: int) -> tuple[str, ...]:
    r"""Return the names that `name_bytes` stored.

    Raises
    ------
    ValueError
        If these are not that many different names.

    Examples
    --------
    >>> read_names(b"\x01\x00a\x02\x00bc", 2)
    ('a', 'bc')
    """
    names, at = [], 0
    for _ in range(n_features):
        end = at + 2 + int.from_bytes(stored[at : at + 2], "little")
        if len(stored) < at + 2 or len(stored) < end:
            raise ValueError(f"feature names: must end after {end} bytes, received {len(stored)}")
        names.append(stored[at + 2 : end].decode())  # a UnicodeDecodeError is a ValueError
        at = end
    if at != len(stored) or len(set(names)) < len(names):
        raise ValueError(f"feature names: must be {n_features} different names, received {stored[:100]!r}")
    return tuple(names)


def check_ring(
    n_panes: int, pane_seconds: float, newest: int, seen: int, last_offset: int, n_held: int
) -> None:
    """Raise ValueError if the numbers of a header cannot belong to one entity.

    Examples
    --------
    >>> check_ring(12, 300.0, newest=9, seen=9, last_offset=-2, n_held=1)
    Traceback (most recent call last):
    ValueError: last_offset: must be at least -1, received -2
    """
    if not (n_panes and 0 < pane_seconds < float("inf")):
        raise ValueError(f"n_panes, pane_seconds: must be above 0, received {n_panes}, {pane_seconds}")
    if last_offset < -1:
        raise ValueError(f"last_offset: must be at least -1, received {last_offset}")
    # `newest` may lie beyond `seen`: where the partition's own record was lost, its watermark begins anew.
    is_pane = [-MAX_PANE < pane < MAX_PANE for pane in (newest, seen)]
    if not (is_pane[0] if n_held else newest == EMPTY) or not (is_pane[1] or (seen == EMPTY and not n_held)):
        raise ValueError(f"newest, seen: must be panes, or {EMPTY} without any, received {newest}, {seen}")


def check_ages(ages: Integers, n_held: Integers, n_panes: Integers) -> None:
    """Raise ValueError if the ages of an entity's panes do not fall to 0 from below its number of panes.

    Parameters
    ----------
    ages : ndarray, shape (p,), int64
        Ages of the panes of k entities, one entity after the other.
    n_held, n_panes : ndarray, shape (k,), int64
        Panes that each entity holds, and that its ring has.

    Examples
    --------
    >>> check_ages(np.array([1, 0, 5]), n_held=np.array([2, 1]), n_panes=np.array([12, 12]))
    Traceback (most recent call last):
    ValueError: ages: must fall from below the number of panes to 0
    """
    if not len(ages):
        return
    last = np.cumsum(n_held[n_held > 0]) - 1
    falls = ages[1:] < ages[:-1]
    falls[last[:-1]] = True  # from one entity to the next
    if ages[last].any() or not falls.all() or (ages >= np.repeat(n_panes, n_held)).any():
        raise ValueError("ages: must fall from below the number of panes to 0")


def check_panes(n_events: Floats, moments: Moments, minimum: Floats, maximum: Floats) -> None:
    """Raise ValueError for what no sequence of events leads to; NaN passes, as an overflow leaves it.

    Examples
    --------
    >>> moments = Moments(*np.zeros((4, 1, 1)))
    >>> check_panes(np.zeros(1), moments, moments.m2, moments.m2)
    Traceback (most recent call last):
    ValueError: panes: must have events, and no feature more values than events
    """
    if not n_events.all() or (moments.count > n_events[:, None]).any():
        raise ValueError("panes: must have events, and no feature more values than events")
    if (moments.m2 < 0).any() or not np.isfinite(moments.low).all():
        raise ValueError("panes: m2 must be at least 0 and low finite")
    without = moments.count == 0
    if any(part[without].any() for part in (moments.mean, moments.low, moments.m2)):
        raise ValueError("panes: mean, low and m2 must be 0 where there is no value")
    if (minimum[without] != np.inf).any() or (maximum[without] != -np.inf).any():
        raise ValueError("panes: minimum and maximum must be infinite where there is no value")
    if (minimum > maximum)[~without].any():
        raise ValueError("panes: minimum must be at most maximum")
