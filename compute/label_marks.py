"""Which events of a block have their label: a small record beside the block, written anew where it changed.

Owns the record. A label is kept as a hash of its name, enough to tell one that is told again from one that
contradicts. All numbers are little endian::

    magic "NM", version u8, bytes of a code u8, span u32, n_marks u16, n_added u16                 (12 bytes)
    marks: u32, those that occur
    codes: for each offset of the span 0, or the place of its mark from 1 on; none where nothing is labelled
    added: u16, the offsets, behind the first, that were labelled last

`added` says what the last writing changed, so that a writing whose checkpoint was never finished can be
undone: its labels come again.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.moments import Integers

MAGIC, VERSION = b"NM", 1
_FRONT = struct.Struct("<2sBBIHH")

MAX_SPAN = 2**12
"""Offsets from a block's first event to behind its last; all of them have a code."""

UNMARKED = 0

Hashes = NDArray[np.uint32]

_MARK, _PLACE = np.dtype("<u4"), np.dtype("<u2")
_CODES: dict[int, np.dtype[Any]] = {1: np.dtype("<u1"), 2: np.dtype("<u2")}
_NO_MARKS, _NOWHERE = np.zeros(0, _MARK), np.zeros(0, _PLACE)


def mark_of(label: str) -> int:
    """Return what stands for a label, never 0; two labels in four thousand million have the same.

    Parameters
    ----------
    label : str
        In canonical form.

    Examples
    --------
    >>> mark_of("spam"), mark_of("ham")
    (1138425661, 4133487753)
    """
    return zlib.crc32(label.encode("utf-8", "surrogatepass")) or 1


@dataclass(frozen=True, eq=False)
class LabelMarks:
    """The marks of one block.

    Attributes
    ----------
    codes : ndarray, shape (span,), uint8 or uint16
        By offset behind the block's first, 0 or the place of its mark from 1 on.
    marks : ndarray, shape (n_marks,), uint32
    added : ndarray, shape (n_added,), uint16
        Offsets behind the first that were labelled last.
    """

    codes: NDArray[np.uint8] | NDArray[np.uint16]
    marks: Hashes
    added: NDArray[np.uint16]

    @staticmethod
    def new(span: int) -> LabelMarks:
        """Return the marks of a block without labels.

        Raises
        ------
        ValueError
            If the span is not from 1 to `MAX_SPAN`.
        """
        if not 0 < span <= MAX_SPAN:
            raise ValueError(f"span: must be from 1 to {MAX_SPAN}, received {span}")
        return LabelMarks(np.zeros(span, np.uint8), _NO_MARKS, _NOWHERE)

    @property
    def n_marks(self) -> int:
        """Marks that occur."""
        return len(self.marks)

    def known(self, places: Integers) -> Hashes:
        """Return the marks at offsets behind the first, 0 where there is no label.

        Parameters
        ----------
        places : ndarray, shape (n,), int64

        Examples
        --------
        >>> LabelMarks.new(4).add(np.array([2]), np.array([7])).known(np.array([1, 2])).tolist()
        [0, 7]
        """
        codes = self.codes[places]
        known = np.zeros(len(places), np.uint32)
        is_marked = codes != UNMARKED
        known[is_marked] = self.marks[codes[is_marked] - 1]
        return known

    def add(self, places: Integers, marks: Hashes | Integers, further: bool = False) -> LabelMarks:
        """Return these and further marks, at places that have none yet.

        Those that were added before stay with these as the last ones if they are `further` ones.
        """
        places_of = {mark: i for i, mark in enumerate(self.marks.tolist(), 1)}
        new_codes = [places_of.setdefault(mark, len(places_of) + 1) for mark in marks.tolist()]
        codes = self.codes.astype(np.uint16) if len(places_of) >= 2**8 else self.codes.copy()
        codes[places] = new_codes
        kept = np.fromiter(places_of, np.uint32, len(places_of))
        added = places.astype(np.uint16)
        return LabelMarks(codes, kept, np.concatenate([self.added, added]) if further else added)

    def undone(self) -> LabelMarks:
        """Return the marks as they were before the last ones were added."""
        codes = self.codes.copy()
        codes[self.added] = 0
        return LabelMarks(codes, self.marks, self.added[:0])

    def encode(self) -> bytes:
        """Return the stored form.

        Examples
        --------
        >>> stored = LabelMarks.new(span=100).encode()
        >>> len(stored), LabelMarks.decode(stored).known(np.array([99])).tolist()
        (12, [0])
        """
        codes = self.codes
        n_marks, n_added = len(self.marks), len(self.added)
        width = codes.dtype.itemsize
        front = _FRONT.pack(MAGIC, VERSION, width, len(codes), n_marks, n_added)
        if not n_marks:
            return front
        parts = self.marks.astype("<u4"), codes.astype(f"<u{width}"), self.added.astype("<u2")
        return b"".join([front, *[part.tobytes() for part in parts]])

    @staticmethod
    def decode(stored: bytes) -> LabelMarks:
        """Return the marks that `encode` stored.

        Raises
        ------
        ValueError
            If the bytes are no stored marks, whatever they are.

        Examples
        --------
        >>> LabelMarks.decode(b"hello")
        Traceback (most recent call last):
        ValueError: label marks: must have 12 bytes or more, received 5
        """
        if len(stored) < _FRONT.size:
            raise ValueError(f"label marks: must have {_FRONT.size} bytes or more, received {len(stored)}")
        magic, version, width, span, n_marks, n_added = _FRONT.unpack_from(stored)
        if (magic, version) != (MAGIC, VERSION) or width not in (1, 2) or not 0 < span <= MAX_SPAN:
            raise ValueError(f"label marks: must be of version {VERSION}, received {stored[:12]!r}")
        wanted = _FRONT.size + (4 * n_marks + width * span + 2 * n_added if n_marks else 0)
        if len(stored) != wanted or (n_added and not n_marks):
            raise ValueError(f"label marks: must have {wanted} bytes, received {len(stored)}")
        if not n_marks:
            return LabelMarks.new(span)
        marks = np.frombuffer(stored, _MARK, n_marks, _FRONT.size)
        codes = np.frombuffer(stored, _CODES[width], span, _FRONT.size + 4 * n_marks)
        added = np.frombuffer(stored, _PLACE, n_added, len(stored) - 2 * n_added)
        # Not by `max()`, which takes three times as long for so few.
        if np.maximum.reduce(codes) > n_marks or (n_added and np.maximum.reduce(added) >= span):
            raise ValueError("label marks: codes and places must be within their bounds")
        return LabelMarks(codes, marks, added)
