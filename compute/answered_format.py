"""Stored form of answered events: the value of one block in the store and its changelog.

Owns writing, and reading some of the events of many blocks: a label needs one of a thousand. What the columns
are is in `compute/answered_layout.py`. All numbers are little endian::

    magic "NA", version u8, zero u8, n_events u32, about_bytes u32, first offset i64               (20 bytes)
    about: JSON, versions and names of features, with the types of their columns
    columns: offset behind the first u32, timestamp f64, record time f64, crc of the key u32,
        inputs f32 (n_features numbers an event), and for each version predictions, scores, probabilities

A number is kept in half the bytes where that loses nothing: what ONNX answers is float32, and classes are
few. The probabilities of the positive class are the scores nearly always, and then are not kept twice.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.answered import Answered, VersionAnswers
from compute.answered_layout import About, AboutVersion, Layout, encode_about, layout_of
from compute.moments import Floats, Integers

MAGIC, VERSION = b"NA", 1
_BEGIN = MAGIC + bytes([VERSION, 0])
_FRONT = struct.Struct("<4sIIq")
_MAX_OFFSET = 2**62


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
    about = encode_about(About(versions, None if answered.inputs is None else answered.feature_names))
    front = _FRONT.pack(_BEGIN, len(answered), len(about), int(offsets[0]))
    return b"".join([front, about, *[column.tobytes() for column in columns]])


def _encode_version(version: VersionAnswers, columns: list[NDArray[Any]]) -> AboutVersion:
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
    return AboutVersion(
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


class StoredBlock:
    """A stored block, not decoded.

    Parameters
    ----------
    stored : bytes
        What `encode_answered` returned.

    Attributes
    ----------
    stored : bytes
    layout : Layout
    first, last : int
        Offsets of the first and the last event.

    Raises
    ------
    ValueError
        If the bytes are not a stored block. What its numbers are is not looked at.
    """

    __slots__ = ("_columns_at", "_offsets", "first", "last", "layout", "stored")

    def __init__(self, stored: bytes) -> None:
        if len(stored) < _FRONT.size:
            raise ValueError(
                f"answered events: must have {_FRONT.size} bytes or more, received {len(stored)}"
            )
        begin, n_events, about_bytes, first = _FRONT.unpack_from(stored)
        if begin != _BEGIN:
            raise ValueError(f"answered events: must begin with {_BEGIN!r}, received {begin!r}")
        columns_at = _FRONT.size + about_bytes
        self.layout: Layout = layout_of(stored[_FRONT.size : columns_at])
        # Lengths are compared before anything is allocated: a forged one cannot ask for more than there is.
        wanted = columns_at + n_events * self.layout.row_bytes
        if not n_events or wanted != len(stored):
            raise ValueError(f"answered events: {n_events} must have {wanted} bytes, received {len(stored)}")
        if not 0 <= first < _MAX_OFFSET:
            raise ValueError(f"answered events: first offset must be from 0 to 2**62, received {first}")
        self.first: int = first
        self.stored = stored
        self._columns_at = columns_at
        self._offsets = np.frombuffer(stored, "<u4", n_events, columns_at)
        self.last = self.first + int(self._offsets[-1])

    def __len__(self) -> int:
        return len(self._offsets)

    def search(self, behind_first: NDArray[np.uint32]) -> Integers:
        """Return the rows of events by their offsets behind the first, as `numpy.searchsorted` does."""
        found: Integers = self._offsets.searchsorted(behind_first)
        return found

    def take(self, places: Integers) -> NDArray[np.uint8]:
        """Return the bytes at places behind the beginning of the columns."""
        return np.frombuffer(self.stored, np.uint8, -1, self._columns_at)[places]


Run = tuple[StoredBlock, int, int]
"""A block, and from where to where the offsets that are looked for may be in it."""


def find_events(runs: Sequence[Run], wanted: Integers) -> list[tuple[Answered, Integers]]:
    """Return those events that blocks have, of the ones looked for.

    Parameters
    ----------
    runs : sequence of (StoredBlock, int, int)
        Ascending; the offsets are from first to last of the block.
    wanted : ndarray, shape (n,), int64
        Ascending offsets, each once.

    Returns
    -------
    list of (Answered, ndarray of int64)
        Events, and their places in `wanted`; blocks next to each other that are laid out alike are one.

    Raises
    ------
    ValueError
        If these events hold what they may not.

    Examples
    --------
    >>> number = np.array([0.5, 0.25])
    >>> answers = VersionAnswers("m", "v", "champion", "regression", (), None, number, number)
    >>> run = Answered(np.array([7, 9]), number, number, np.array([1, 2], np.uint32), (answers,))
    >>> ((events, places),) = find_events([(StoredBlock(encode_answered(run)), 0, 2)], np.array([8, 9]))
    >>> events.versions[0].scores.tolist(), places.tolist()
    ([0.25], [1])
    """
    found = [
        _find_alike(layout, list(alike), wanted)
        for layout, alike in groupby(runs, key=lambda run: run[0].layout)
    ]
    return [(events, places) for events, places in found if len(places)]


def _find_alike(layout: Layout, runs: Sequence[Run], wanted: Integers) -> tuple[Answered, Integers]:
    blocks = [block for block, _, _ in runs]
    starts = np.array([start for _, start, _ in runs])
    lengths = np.array([end for _, _, end in runs]) - starts
    ends = np.cumsum(lengths)
    slices = [slice(*bounds) for bounds in zip((ends - lengths).tolist(), ends.tolist(), strict=True)]
    asked = np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
    firsts = np.repeat([block.first for block in blocks], lengths)
    behind_first = (wanted[asked] - firsts).astype(np.uint32)
    rows = np.empty(len(asked), np.int64)
    for block, here in zip(blocks, slices, strict=True):
        rows[here] = block.search(behind_first[here])
    n_events = np.repeat([len(block) for block in blocks], lengths)
    places = layout.places(n_events, np.minimum(rows, n_events - 1))
    taken = np.empty(places.shape, np.uint8)
    for block, here in zip(blocks, slices, strict=True):
        taken[here] = block.take(places[here])
    events = layout.read(taken, firsts)
    is_there = events.offsets == wanted[asked]
    if not is_there.all():
        events, asked = events.take(is_there), asked[is_there]
    events.check()
    return events, asked


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
    block = StoredBlock(stored)
    places = block.layout.places(np.full(len(block), len(block)), np.arange(len(block)))
    answered = block.layout.read(block.take(places), np.full(len(block), block.first))
    answered.check()
    return answered
