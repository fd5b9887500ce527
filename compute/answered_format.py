"""Stored form of answered events: the value of one block in the store and its changelog.

Owns writing and reading. All numbers are little endian::

    magic "NA", version u8, zero u8, n_events u32, about_bytes u32, first offset i64               (20 bytes)
    about: JSON, versions and names of features, with the types of their columns
    columns: offset behind the first u32, timestamp f64, record time f64, crc of the key u32,
        inputs f32 (n_features numbers an event), and for each version predictions, scores, probabilities

A number is kept in half the bytes where that loses nothing: what ONNX answers is float32, and classes are
few. The probabilities of the positive class are the scores nearly always, and then are not kept twice.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from compute.answered import Answered, VersionAnswers
from compute.moments import Floats

MAGIC, VERSION = b"NA", 1
_FRONT = struct.Struct("<2sBBIIq")
_MAX_OFFSET = 2**62
_INDEX_TYPES, _NUMBER_TYPES = ("i1", "i2", "i4"), ("f4", "f8")


class _Version(msgspec.Struct, array_like=True, frozen=True):
    """A version as the JSON has it; `shared`: the positive class's probabilities are the scores."""

    model: str
    version: str
    role: str
    task: str
    classes: tuple[str, ...]
    positive: int | None
    predictions: str
    scores: str
    probabilities: str
    shared: bool


class _About(msgspec.Struct, array_like=True, frozen=True):
    versions: tuple[_Version, ...]
    features: tuple[str, ...] | None


_encode_about = msgspec.json.Encoder().encode
_decode_about = msgspec.json.Decoder(_About).decode


def encode_answered(answered: Answered) -> bytes:
    """Return the stored form of one or more events.

    Raises
    ------
    ValueError
        If the columns do not fit each other, or offsets are 2**32 apart.

    Examples
    --------
    >>> number = np.array([0.5, 0.25])
    >>> answers = VersionAnswers("m", "v", "champion", "regression", (), None, number, number)
    >>> run = Answered(np.array([7, 9]), number, number, np.array([1, 2], np.uint32), (answers,))
    >>> stored = encode_answered(run)
    >>> len(stored), decode_answered(stored).versions[0].scores.tolist()
    (153, [0.5, 0.25])
    """
    answered.check()
    offsets = answered.offsets
    if not len(offsets) or offsets[-1] - offsets[0] >= 2**32 or offsets[-1] >= _MAX_OFFSET:
        raise ValueError("offsets: must be one or more, less than 2**32 apart and below 2**62")
    columns: list[NDArray[Any]] = [
        (offsets - offsets[0]).astype("<u4"),
        answered.timestamps.astype("<f8"),
        answered.record_times.astype("<f8"),
        answered.key_crcs.astype("<u4"),
    ]
    if answered.inputs is not None:
        columns.append(answered.inputs.astype("<f4"))
    versions = tuple([_encode_version(version, columns) for version in answered.versions])
    about = _encode_about(_About(versions, None if answered.inputs is None else answered.feature_names))
    front = _FRONT.pack(MAGIC, VERSION, 0, len(answered), len(about), int(offsets[0]))
    return b"".join([front, about, *[column.tobytes() for column in columns]])


def _encode_version(version: VersionAnswers, columns: list[NDArray[Any]]) -> _Version:
    """Append the columns of a version, and say how they were written."""
    if version.classes:
        n_classes = len(version.classes)
        small = "i1" if n_classes <= 2**7 else "i2" if n_classes <= 2**15 else "i4"
        predictions = version.predictions.astype("<" + small)
    else:
        predictions = _narrowed(version.predictions)
    scores = _narrowed(version.scores)
    columns += [predictions, scores]
    kept, shared = version.probabilities, False
    if kept is not None:
        positive = version.positive
        if positive is not None and np.array_equal(kept[:, positive], version.scores, equal_nan=True):
            kept, shared = np.concatenate([kept[:, :positive], kept[:, positive + 1 :]], axis=1), True
        kept = _narrowed(kept)
        columns.append(kept)
    return _Version(
        *(version.model, version.version, version.role, version.task, version.classes, version.positive),
        *(
            predictions.dtype.str[1:],
            scores.dtype.str[1:],
            "" if kept is None else kept.dtype.str[1:],
            shared,
        ),
    )


def _narrowed(numbers: Floats) -> NDArray[Any]:
    """Return numbers as float32 where that keeps every one of them."""
    with np.errstate(over="ignore"):
        narrow = numbers.astype("<f4")
    return narrow if ((narrow == numbers) | (numbers != numbers)).all() else numbers.astype("<f8")


def decode_answered(stored: bytes) -> Answered:
    """Return the events that `encode_answered` stored.

    Raises
    ------
    ValueError
        If the bytes are not a stored block, whatever they are.

    Examples
    --------
    >>> decode_answered(b"hello")
    Traceback (most recent call last):
    ValueError: answered events: must have 20 bytes or more, received 5
    """
    if len(stored) < _FRONT.size:
        raise ValueError(f"answered events: must have {_FRONT.size} bytes or more, received {len(stored)}")
    *begin, n, about_bytes, first = _FRONT.unpack_from(stored)
    if begin != [MAGIC, VERSION, 0]:
        wanted = MAGIC + bytes([VERSION, 0])
        raise ValueError(f"answered events: must begin with {wanted!r}, received {stored[:4]!r}")
    columns_at = _FRONT.size + about_bytes
    about = _decode_about(stored[_FRONT.size : columns_at])  # what it and UTF-8 raise are ValueErrors
    for version in about.versions:
        _check_version(version)
    n_features = len(about.features or ())
    row_bytes = 24 + 4 * n_features + sum(map(_version_bytes, about.versions))
    # Lengths are compared before anything is allocated: a forged one cannot ask for more than there is.
    if not n or columns_at + n * row_bytes != len(stored):
        wanted = columns_at + n * row_bytes
        raise ValueError(f"answered events: {n} must have {wanted} bytes, received {len(stored)}")
    if not 0 <= first < _MAX_OFFSET:
        raise ValueError(f"answered events: first offset must be from 0 to 2**62, received {first}")
    columns = _Columns(stored, columns_at, n)
    answered = Answered(
        offsets=first + columns.read("u4", np.int64),
        timestamps=columns.read("f8", np.float64),
        record_times=columns.read("f8", np.float64),
        key_crcs=columns.read("u4", np.uint32),
        inputs=None if about.features is None else columns.read("f4", np.float32, n_features),
        feature_names=about.features or (),
        versions=tuple([_decode_version(version, columns) for version in about.versions]),
    )
    answered.check()
    return answered


class _Columns:
    """Reads one column after the other."""

    def __init__(self, stored: bytes, at: int, n_rows: int) -> None:
        self._stored, self._at, self._n_rows = stored, at, n_rows

    def read(self, stored_type: str, dtype: Any, width: int | None = None) -> NDArray[Any]:
        """Return the next column, or matrix of so many columns, with numbers of this type."""
        n_numbers = self._n_rows * (1 if width is None else width)
        found = np.frombuffer(self._stored, "<" + stored_type, n_numbers, self._at)
        self._at += found.nbytes
        return found.astype(dtype) if width is None else found.astype(dtype).reshape(self._n_rows, width)


def _check_version(version: _Version) -> None:
    allowed = _INDEX_TYPES if version.classes else _NUMBER_TYPES
    if version.predictions not in allowed or version.scores not in _NUMBER_TYPES:
        found = version.predictions, version.scores
        raise ValueError(f"answered events: types of columns must be among {allowed}, received {found}")
    if version.probabilities not in ("", *_NUMBER_TYPES):
        raise ValueError(f"answered events: no type of probabilities: {version.probabilities[:10]!r}")
    if version.positive is not None and not 0 <= version.positive < len(version.classes):
        n_classes = len(version.classes)
        raise ValueError(f"answered events: positive must be one of {n_classes}, received {version.positive}")
    if version.shared and (version.positive is None or not version.probabilities):
        raise ValueError("answered events: scores are shared with no probabilities")


def _version_bytes(version: _Version) -> int:
    """Return the bytes of one event's answer."""
    n_kept = len(version.classes) - version.shared if version.probabilities else 0
    size = int(version.predictions[1]) + int(version.scores[1])
    return size + n_kept * int(version.probabilities[1:] or 0)


def _decode_version(version: _Version, columns: _Columns) -> VersionAnswers:
    predictions = columns.read(version.predictions, np.int32 if version.classes else np.float64)
    scores = columns.read(version.scores, np.float64)
    probabilities = None
    if version.probabilities:
        n_classes, positive = len(version.classes), version.positive
        probabilities = kept = columns.read(version.probabilities, np.float64, n_classes - version.shared)
        if version.shared and positive is not None:
            probabilities = np.empty((len(scores), n_classes))
            probabilities[:, :positive] = kept[:, :positive]
            probabilities[:, positive] = scores
            probabilities[:, positive + 1 :] = kept[:, positive:]
    return VersionAnswers(
        *(version.model, version.version, version.role, version.task, version.classes, version.positive),
        *(scores, predictions, probabilities),
    )
