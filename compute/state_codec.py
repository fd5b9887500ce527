"""Stored form of one entity: the value in the table's store and its changelog.

Owns writing and reading. The layout is in `compute/state_format.py`. This says nothing about keys, nor about
when values are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compute.entity_columns import EntityColumns, EntityState
from compute.moments import Flags, Integers, Moments
from compute.state_format import (
    HEADER,
    HEADER_FIELDS,
    MAGIC,
    VERSION,
    check_ages,
    check_panes,
    check_ring,
    name_bytes,
    pane_bytes,
    pane_fields,
    read_names,
)


def encode_entity(columns: EntityColumns, slot: int, extra: bytes = b"") -> bytes:
    """Return the stored form of one slot; `encode_many` is many times as fast for many.

    Examples
    --------
    >>> columns = EntityColumns(n_panes=12, pane_seconds=300.0, features=("temperature",), n_slots=1)
    >>> stored = encode_entity(columns, 0, extra=b"alert state")
    >>> len(stored), decode_entity(stored).extra
    (63, b'alert state')
    """
    return encode_many(columns, np.array([slot], np.int64), [extra])[0]


def encode_many(
    columns: EntityColumns, slots: Integers, extras: Sequence[bytes] | None = None
) -> list[bytes]:
    """Return the stored form of each slot.

    Parameters
    ----------
    columns : EntityColumns
    slots : ndarray, shape (k,), int64
    extras : sequence of k bytes, optional
        What others keep with each entity.

    Raises
    ------
    ValueError
        If the number of extras does not fit, or a ring or name is too long for the format.

    Examples
    --------
    >>> columns = EntityColumns(n_panes=12, pane_seconds=300.0, features=("temperature",), n_slots=2)
    >>> [len(stored) for stored in encode_many(columns, np.array([0, 1]))]
    [52, 52]
    """
    if extras is not None and len(extras) != len(slots):
        raise ValueError(f"extras: must have {len(slots)} items as slots, received {len(extras)}")
    if columns.n_panes > 0xFFFF or columns.n_features > 0xFFFF:
        raise ValueError(
            f"n_panes, n_features: must be at most {0xFFFF}, received {columns.n_panes}, {columns.n_features}"
        )
    stored: list[bytes] = [b""] * len(slots)
    for present, members in _by_features(columns.window.count.take(slots, axis=0) > 0):
        some = None if extras is None else [extras[i] for i in members]
        encoded = _encode_alike(columns, slots.take(members), present, some)
        for i, value in zip(members, encoded, strict=True):
            stored[i] = value
    return stored


def decode_entity(stored: bytes) -> EntityState:
    """Return the state that `encode_entity` stored; `decode_many` is several times as fast for many.

    Raises
    ------
    ValueError
        If the bytes are not a stored entity, whatever they are.

    Examples
    --------
    >>> decode_entity(b"hello")
    Traceback (most recent call last):
    ValueError: stored entity: must have 52 bytes or more, received 5
    """
    return decode_many([stored])[0]


def decode_many(stored: Sequence[bytes]) -> list[EntityState]:
    """Return the states that `encode_many` stored.

    Raises
    ------
    ValueError
        If one of the values is not a stored entity; `decode_entity` tells which.

    Examples
    --------
    >>> columns = EntityColumns(n_panes=12, pane_seconds=300.0, features=("temperature",), n_slots=2)
    >>> [state.last_offset for state in decode_many(encode_many(columns, np.array([0, 1])))]
    [-1, -1]
    """
    heads = [_read_head(value) for value in stored]
    alike: dict[int, list[int]] = {}
    for i, head in enumerate(heads):
        alike.setdefault(len(head.features), []).append(i)
    states: dict[int, EntityState] = {}
    for n_features, members in alike.items():
        chosen = [heads[i] for i in members]
        states.update(zip(members, _decode_alike(n_features, chosen), strict=True))
    return [states[i] for i in range(len(stored))]


class _Head(NamedTuple):
    n_panes: int
    n_held: int
    pane_seconds: float
    newest: int
    seen: int
    last_offset: int
    features: tuple[str, ...]
    panes: bytes
    extra: bytes


def _read_head(stored: bytes) -> _Head:
    """Return the fields of the header, names of features, and the rest in its parts."""
    size = HEADER.size
    if len(stored) < size:
        raise ValueError(f"stored entity: must have {size} bytes or more, received {len(stored)}")
    (
        *begin,
        n_panes,
        n_features,
        n_held,
        zero,
        names_bytes,
        extra_bytes,
        pane_seconds,
        newest,
        seen,
        last_offset,
    ) = HEADER.unpack_from(stored)
    if begin != [MAGIC, VERSION, 0] or zero:
        wanted = MAGIC + bytes([VERSION, 0])
        raise ValueError(f"stored entity: must begin with {wanted!r}, received {stored[:4]!r}")
    panes_at = size + names_bytes
    extra_at = panes_at + n_held * pane_bytes(n_features)
    # Lengths are compared before anything is allocated: a forged one cannot ask for more than there is.
    if extra_at + extra_bytes != len(stored):
        raise ValueError(f"stored entity: must have {extra_at + extra_bytes} bytes, received {len(stored)}")
    features = read_names(stored[size:panes_at], n_features)
    check_ring(n_panes, pane_seconds, newest, seen, last_offset, n_held)
    panes, extra = stored[panes_at:extra_at], stored[extra_at:]
    return _Head(n_panes, n_held, pane_seconds, newest, seen, last_offset, features, panes, extra)


def _decode_alike(n_features: int, heads: list[_Head]) -> list[EntityState]:
    """Return the states of entities that have the same number of features."""
    held = np.frombuffer(b"".join([head.panes for head in heads]), pane_fields(n_features))
    n_held = np.array([head.n_held for head in heads])
    ends = np.cumsum(n_held)
    ages = held["age"].astype(np.int64)
    n_events = held["n_events"].astype(np.float64)
    count, low = (held["small"][name].astype(np.float64) for name in ("count", "low"))
    mean, m2, minimum, maximum = np.ascontiguousarray(held["numbers"].transpose(1, 0, 2))
    check_ages(ages, n_held, np.array([head.n_panes for head in heads]))
    check_panes(n_events, Moments(count, mean, low, m2), minimum, maximum)
    panes = np.repeat(np.array([head.newest for head in heads], np.int64), n_held) - ages
    states, start = [], 0
    for head, end in zip(heads, ends.tolist(), strict=True):
        mine = slice(start, end)
        start = end
        states.append(
            EntityState(
                head.features,
                head.n_panes,
                head.pane_seconds,
                head.newest,
                head.seen,
                head.last_offset,
                panes[mine],
                n_events[mine],
                Moments(count[mine], mean[mine], low[mine], m2[mine]),
                minimum[mine],
                maximum[mine],
                head.extra,
            )
        )
    return states


def _encode_alike(
    columns: EntityColumns, slots: Integers, present: Integers, extras: Sequence[bytes] | None
) -> list[bytes]:
    """Return the stored form of entities that have values of the same features."""
    n_panes, n_slots = columns.n_panes, len(slots)
    names = name_bytes(tuple(columns.features[i] for i in present.tolist()))
    newest = columns.newest.take(slots)
    ages = np.arange(n_panes - 1, -1, -1)
    by_age = slots[:, None] * n_panes + (newest[:, None] - ages) % n_panes
    n_events = columns.n_events.reshape(-1).take(by_age)
    there = n_events > 0
    rows, n_held = by_age[there], there.sum(axis=1)
    panes = np.zeros(len(rows), pane_fields(len(present)))
    panes["n_events"] = n_events[there]
    panes["age"] = np.broadcast_to(ages, there.shape)[there]
    moments = columns.pane_moments(rows)
    extremes = columns.pane_extremes(rows)
    every = len(present) == columns.n_features
    count, mean, low, m2, minimum, maximum = (
        part if every else part.take(present, axis=1) for part in (*moments, *extremes)
    )
    small, numbers = panes["small"], panes["numbers"]
    small["count"] = count
    small["low"] = np.where(np.abs(low) < np.finfo(np.float32).max, low, 0.0)
    for i, part in enumerate((mean, m2, minimum, maximum)):
        numbers[:, i] = part
    heads = np.zeros(n_slots, HEADER_FIELDS)
    heads["magic"], heads["version"] = MAGIC, VERSION
    heads["n_panes"], heads["n_features"], heads["n_held"] = n_panes, len(present), n_held
    heads["names_bytes"] = len(names)
    heads["pane_seconds"], heads["newest"] = columns.pane_seconds, newest
    heads["seen"], heads["last_offset"] = columns.seen.take(slots), columns.last_offset.take(slots)
    tails: Sequence[bytes] = [b""] * n_slots if extras is None else extras
    heads["extra_bytes"] = [len(tail) for tail in tails]
    head, body = heads.tobytes(), panes.tobytes()
    ends = (np.cumsum(n_held) * panes.dtype.itemsize).tolist()
    size, start = HEADER.size, 0
    stored = []
    for i, (end, tail) in enumerate(zip(ends, tails, strict=True)):
        stored.append(b"".join((head[i * size : (i + 1) * size], names, body[start:end], tail)))
        start = end
    return stored


def _by_features(present: Flags) -> list[tuple[Integers, list[int]]]:
    """Return, for each set of features that occurs, their columns and the rows that have just these."""
    if present.all() or not len(present):  # nearly always: all entities have all features
        return [(np.arange(present.shape[1]), list(range(len(present))))] if len(present) else []
    packed = np.packbits(present, axis=1)
    bits, width = packed.tobytes(), packed.shape[1]
    rows: dict[bytes, list[int]] = {}
    for i in range(len(present)):
        rows.setdefault(bits[i * width : (i + 1) * width], []).append(i)
    return [(np.flatnonzero(present[members[0]]), members) for members in rows.values()]
