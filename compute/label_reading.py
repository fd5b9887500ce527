"""Labels of a record batch as columns, and those among them that cannot be processed.

Owns the JSON of the contract's ``labels`` topic, ``{"id": "events-2-1841", "label": 1}``, and its bounds.
The id is a prediction's. Fields that it does not name are ignored. Whether there was such a prediction is
found where predictions wait for labels.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from compute.event_faults import EventError, Rejected, shown
from compute.events import MAX_KEY_BYTES
from compute.labels import MAX_LABEL_LENGTH, label_fault

Label = str | int | float | bool


class _Record(msgspec.Struct, gc=False):
    id: str
    label: str | int | float | bool


class _Envelope(msgspec.Struct, gc=False):
    """A label with its fields left undecoded, so that each is judged, and blamed, by itself."""

    id: msgspec.Raw = msgspec.Raw()
    label: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Record).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode

_ID = re.compile(r"([a-zA-Z0-9._-]{1,249})-(0|[1-9][0-9]{0,9})-(0|[1-9][0-9]{0,18})")
_MAX_PARTITION, _MAX_OFFSET = 2**31, 2**62


@dataclass(frozen=True, slots=True)
class LabelBatch:
    """The labels of a record batch that can be processed, as columns, and the rejected ones.

    Attributes
    ----------
    index : ndarray, shape (n,), int64
        Position of each label in the record batch, ascending.
    topics : list of str, length n
    partitions, offsets : ndarray, shape (n,), int64
        With the topics, the events that the labels are about.
    labels : list of str, int, float or bool, length n
    rejected : list of Rejected
        The other records, by position.
    """

    index: NDArray[np.int64]
    topics: list[str]
    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    labels: list[Label]
    rejected: list[Rejected] = field(default_factory=list)


def decode_labels(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], *, max_bytes: int
) -> LabelBatch:
    """Decode and validate the labels of a record batch.

    Every record is either accepted or rejected with the first reason found, in the order: key, size, JSON,
    id, label. The codes are ``missing-key``, ``too-large``, ``invalid-json``, ``unknown-label`` (for what is
    no id) and ``invalid-label``.

    Parameters
    ----------
    keys, values : sequence of bytes or None, length n
        Keys and values of the records.
    max_bytes : int
        Bytes of one value.

    Returns
    -------
    LabelBatch

    Raises
    ------
    ValueError
        If keys and values differ in number. Nothing in a record raises.

    Examples
    --------
    >>> batch = decode_labels(
    ...     [b"pump-1", b"pump-1", None],
    ...     [b'{"id": "events-2-1841", "label": true}', b'{"id": "events-2-1842", "label": null}', b"{}"],
    ...     max_bytes=1_000_000)
    >>> batch.topics, batch.partitions.tolist(), batch.offsets.tolist(), batch.labels
    (['events'], [2], [1841], [True])
    >>> [(record.position, record.code) for record in batch.rejected]
    [(1, 'invalid-label'), (2, 'missing-key')]
    """
    if len(keys) != len(values):
        raise ValueError(f"keys, values: must be equally many, received {len(keys)}, {len(values)}")
    index: list[int] = []
    events: list[tuple[str, int, int]] = []
    labels: list[Label] = []
    rejected: list[Rejected] = []
    for position, (key, value) in enumerate(zip(keys, values, strict=True)):
        try:
            if not key or not value or len(value) > max_bytes or len(key) > MAX_KEY_BYTES:
                raise _record_fault(key, value, max_bytes)
            event, label = _read(value)
        except EventError as fault:
            rejected.append(Rejected(position, fault.code, str(fault)))
            continue
        index.append(position)
        events.append(event)
        labels.append(label)
    topics, partitions, offsets = zip(*events, strict=True) if events else ((), (), ())
    return LabelBatch(
        np.array(index, np.int64),
        list(topics),
        np.array(partitions, np.int64),
        np.array(offsets, np.int64),
        labels,
        rejected,
    )


def _read(value: bytes) -> tuple[tuple[str, int, int], Label]:
    """Return the event that a label is about, and the label."""
    try:
        record = _decode(value)
    except Exception:
        event_id, label = _read_carefully(value)
    else:
        event_id, label = record.id, record.label
    match = _ID.fullmatch(event_id)
    partition, offset = (int(match[2]), int(match[3])) if match else (_MAX_PARTITION, _MAX_OFFSET)
    if match is None or partition >= _MAX_PARTITION or offset >= _MAX_OFFSET:
        raise _id_fault(f'"{shown(event_id)}"')
    if fault := label_fault(label):
        raise _label_fault(fault)
    return (match[1], partition, offset), label


def _read_carefully(value: bytes) -> tuple[str, Label]:
    """Return id and label: slow, and exact about what is wrong."""
    try:
        envelope = _decode_envelope(value)
    except RecursionError:
        raise EventError("invalid-json", "value: must be JSON, received one nested too deeply") from None
    except Exception as error:
        raise _syntax_fault(value, error) from None
    raw_id, raw_label = bytes(envelope.id), bytes(envelope.label)
    try:
        event_id = msgspec.json.decode(raw_id, type=str)
    except Exception:
        raise _id_fault(shown(raw_id) or "none") from None
    try:
        label: Label = msgspec.json.decode(raw_label, type=str | int | float | bool)
    except Exception:
        raise _label_fault(shown(raw_label) or "none") from None
    return event_id, label


def _syntax_fault(value: bytes, error: Exception) -> EventError:
    """Tell a NaN or Infinity that Python's ``json.dumps`` writes from what no parser reads."""
    try:
        document = json.loads(value.decode("utf-8"), parse_int=float)
        label = document.get("label") if isinstance(document, dict) else None
        if isinstance(label, float) and not math.isfinite(label):
            return _label_fault(str(label))
    except (ValueError, RecursionError):
        pass
    return EventError("invalid-json", f"value: must be a JSON object ({error}), received {shown(value)}")


def _id_fault(received: str) -> EventError:
    return EventError(
        "unknown-label", f"id: must be a prediction's, <topic>-<partition>-<offset>, received {received}"
    )


def _label_fault(received: str) -> EventError:
    bound = f"must be a finite number, boolean or string, of 1 to {MAX_LABEL_LENGTH} characters"
    return EventError("invalid-label", f"label: {bound}, received {received}")


def _record_fault(key: bytes | None, value: bytes | None, max_bytes: int) -> EventError:
    if not key:
        received = "none" if key is None else "an empty one"
        return EventError("missing-key", f"key: must name the entity, received {received}")
    if len(key) > MAX_KEY_BYTES:
        return EventError("too-large", f"key: must be at most {MAX_KEY_BYTES} bytes, received {len(key)}")
    if not value:
        return EventError("invalid-json", "value: must be JSON, received an empty value")
    return EventError("too-large", f"value: must be at most {max_bytes} bytes, received {len(value)}")
