"""Events of a record batch as columns, and those among them that cannot be processed.

Owns the order in which events are judged, the bounds on sizes and feature names, and the matrix. Reading one
value is in ``compute/event_reading.py``, times in ``compute/event_times.py``. An event that is older than the
window is found where the window is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from compute.event_faults import EventError, Rejected, shown
from compute.event_reading import Event, decode_event, read_carefully
from compute.event_times import EARLIEST_SECONDS, epoch_seconds, latest_allowed, time_fault
from compute.labels import label_fault

MAX_KEY_BYTES = 16_384
"""Bytes of an entity's key: every prediction has it twice, and odd bytes are five times as long there."""

RESERVED_KEYS = (b"\x00nowcast-", b"__faust\x00")
"""Beginnings of keys under which a partition keeps what it knows of itself, beside its entities."""

MAX_NAME_LENGTH = 256
"""Characters of a feature's name: names are kept in every entity's state and in every reason of an alert."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds that an event has to keep.

    Parameters
    ----------
    max_event_bytes : int
        Bytes of one value.
    max_features : int
        Features of one event.
    max_feature_names : int
        Different feature names of a partition: its matrix and states have a column for each.
    future_seconds : float
        How far an event may lie ahead of its record's time.
    """

    max_event_bytes: int = 1_000_000
    max_features: int = 256
    max_feature_names: int = 1024
    future_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class EventBatch:
    """The accepted events of a record batch as columns, and the rejected ones.

    Parameters
    ----------
    index : ndarray, shape (n,), int64
        Position of each accepted event in the record batch, ascending.
    timestamps : ndarray, shape (n,), float64, seconds
        Event times since the epoch.
    matrix : ndarray, shape (n, n_features), float64
        Features, NaN where an event has none.
    feature_names : tuple of str
        Names of the columns: those passed in, then new ones in the order of their first appearance.
    rejected : list of Rejected
        The other events, by position.
    ids, labels : dict
        What the accepted events carry of them, by position in the record batch.
    not_labels : list of int
        Positions of accepted events whose label is none; they are scored all the same.
    """

    index: NDArray[np.int64]
    timestamps: NDArray[np.float64]
    matrix: NDArray[np.float64]
    feature_names: tuple[str, ...]
    rejected: list[Rejected] = field(default_factory=list)
    ids: dict[int, str | int] = field(default_factory=dict)
    labels: dict[int, str | int | float | bool] = field(default_factory=dict)
    not_labels: list[int] = field(default_factory=list)


def decode_batch(
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    record_times: NDArray[np.float64],
    *,
    limits: DecodeLimits,
    now: float,
    feature_names: tuple[str, ...] = (),
) -> EventBatch:
    """Decode and validate the events of a record batch.

    Every event is either accepted or rejected with the first reason found, in the order: key, size, JSON,
    timestamp, features, future, names. A rejected event leaves no trace in the columns nor in the names.
    Each value is decoded by itself: joined ones could shift against each other.

    Parameters
    ----------
    keys, values : sequence of bytes or None, length n
        Keys and values of the records.
    record_times : ndarray, shape (n,), float64, seconds
        Times of the records; NaN, 0 or less where there is none.
    limits : DecodeLimits
        Bounds that each event has to keep.
    now : float
        Current time in seconds.
    feature_names : tuple of str
        Names that the partition knows already; they come first among the columns.

    Returns
    -------
    EventBatch

    Raises
    ------
    ValueError
        If keys, values and times differ in number. Nothing in an event raises.

    Examples
    --------
    >>> batch = decode_batch(
    ...     [b"pump-1", b"pump-1", None],
    ...     [b'{"timestamp": 10, "features": {"flow": 2.5, "heat": null}}', b"{", b"{}"],
    ...     np.full(3, np.nan), limits=DecodeLimits(), now=10.0)
    >>> batch.feature_names, batch.matrix.tolist()
    (('flow', 'heat'), [[2.5, nan]])
    >>> [(event.position, event.code) for event in batch.rejected]
    [(1, 'invalid-json'), (2, 'missing-key')]
    """
    if not len(keys) == len(values) == len(record_times):
        raise ValueError(
            "keys, values, record_times: must be equally many, "
            f"received {len(keys)}, {len(values)}, {len(record_times)}"
        )
    positions, events, rejected = _read_values(keys, values, limits)
    index = np.array(positions, np.int64)
    timestamps = epoch_seconds([event.timestamp for event in events])
    latest = latest_allowed(np.asarray(record_times, np.float64)[index], now, limits.future_seconds)
    out_of_bounds = ~((timestamps >= EARLIEST_SECONDS) & (timestamps <= latest))
    features: list[dict[str, float | None] | None] = [event.features for event in events]
    for row in np.flatnonzero(out_of_bounds).tolist():
        features[row] = None
        fault = time_fault(timestamps[row], latest[row])
        rejected.append(Rejected(positions[row], fault.code, str(fault)))
    matrix, names, faults = _fill_matrix(features, feature_names, limits)
    rejected += [Rejected(positions[row], fault.code, str(fault)) for row, fault in faults.items()]
    ids = {p: event.id for p, event in zip(positions, events, strict=True) if event.id is not None}
    labels = {p: event.label for p, event in zip(positions, events, strict=True) if event.label is not None}
    if rejected:
        rejected.sort()
        dropped = out_of_bounds
        dropped[list(faults)] = True
        index, timestamps, matrix = index[~dropped], timestamps[~dropped], matrix[~dropped]
        for event in rejected:
            ids.pop(event.position, None)
            labels.pop(event.position, None)
    not_labels = [position for position, label in labels.items() if label_fault(label)]
    for position in not_labels:
        del labels[position]
    return EventBatch(index, timestamps, matrix, names, rejected, ids, labels, not_labels)


def _read_values(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], limits: DecodeLimits
) -> tuple[list[int], list[Event], list[Rejected]]:
    """Return the positions and events that could be read, and the rejected ones."""
    positions: list[int] = []
    events: list[Event] = []
    rejected: list[Rejected] = []
    for position, (key, value) in enumerate(zip(keys, values, strict=True)):
        try:
            if not key or not value or len(value) > limits.max_event_bytes or len(key) > MAX_KEY_BYTES:
                raise _record_fault(key, value, limits)
            if key.startswith(RESERVED_KEYS):
                raise EventError("reserved-key", f"key: must not begin with {key[:9]!r}")
            event = decode_event(value)
        except EventError as fault:
            rejected.append(Rejected(position, fault.code, str(fault)))
            continue
        except Exception:
            try:
                event = read_carefully(value)  # type: ignore[arg-type]
            except EventError as fault:
                rejected.append(Rejected(position, fault.code, str(fault)))
                continue
        positions.append(position)
        events.append(event)
    return positions, events, rejected


def _record_fault(key: bytes | None, value: bytes | None, limits: DecodeLimits) -> EventError:
    if not key:
        received = "none" if key is None else "an empty one"
        return EventError("missing-key", f"key: must name the entity, received {received}")
    if len(key) > MAX_KEY_BYTES:
        return EventError("too-large", f"key: must be at most {MAX_KEY_BYTES} bytes, received {len(key)}")
    if not value:
        return EventError("invalid-json", "value: must be JSON, received an empty value")
    return EventError(
        "too-large", f"value: must be at most {limits.max_event_bytes} bytes, received {len(value)}"
    )


def _fill_matrix(
    features: list[dict[str, float | None] | None], known_names: tuple[str, ...], limits: DecodeLimits
) -> tuple[NDArray[np.float64], tuple[str, ...], dict[int, EventError]]:
    """Return the matrix (a row for every entry), its names, and the faults by row.

    Events that name the same features in the same order share a schema. Most batches have one, and their
    values become the matrix in one go; judging by schema also keeps the checks off the path of an event.
    """
    schemas: dict[tuple[str, ...], list[int]] = {}
    for row, event_features in enumerate(features):
        if event_features is not None:
            schemas.setdefault(tuple(event_features), []).append(row)
    columns = {name: column for column, name in enumerate(known_names)}
    faults: dict[int, EventError] = {}
    for schema, rows in list(schemas.items()):
        fault = _schema_fault(schema, columns, limits)
        if fault:
            faults.update(dict.fromkeys(rows, fault))
            del schemas[schema]
        for name in () if fault else schema:
            columns.setdefault(name, len(columns))
    matrix = np.full((len(features), len(columns)), np.nan)
    for schema, rows in schemas.items():
        values = list(chain.from_iterable([features[row].values() for row in rows]))  # type: ignore[union-attr]
        block = np.array(values, np.float64).reshape(len(rows), len(schema))  # None becomes NaN
        if len(rows) == len(features) and schema == tuple(columns):
            matrix = block
        else:
            matrix[np.ix_(rows, [columns[name] for name in schema])] = block
    return matrix, tuple(columns), faults


def _schema_fault(
    schema: tuple[str, ...], columns: dict[str, int], limits: DecodeLimits
) -> EventError | None:
    if not schema:
        return EventError("invalid-features", "features: must hold at least one, received an empty object")
    if len(schema) > limits.max_features:
        bound = f"must hold at most {limits.max_features}"
        return EventError("too-many-features", f"features: {bound}, received {len(schema)}")
    for name in schema:
        if not 0 < len(name) <= MAX_NAME_LENGTH:
            bound = f"must have 1 to {MAX_NAME_LENGTH} characters"
            return EventError(
                "invalid-features", f'features: a name {bound}, received {len(name)}: "{shown(name)}"'
            )
    new_names = [name for name in schema if name not in columns]
    if new_names and len(columns) + len(new_names) > limits.max_feature_names:
        bound = f"the partition's names must be at most {limits.max_feature_names}"
        received = f"{len(new_names)} new beside {len(columns)} known, such as {shown(new_names[0])}"
        return EventError("too-many-features", f"features: {bound}, received {received}")
    return None
