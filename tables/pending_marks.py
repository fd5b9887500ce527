"""Which events that wait have their label: marks by block in the store, and those since the last checkpoint.

Owns the records of marks, whose form is in `compute/label_marks.py`. Blocks belong to
`tables/pending_blocks.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from compute.label_marks import LabelMarks
from compute.own_values import content_of, seen_of, with_header
from tables.pending_blocks import MARKS, Blocks, Integers, first_of, runs_of, span_of
from tables.unwritten import Unwritten

log = logging.getLogger(__name__)

KIND = b"NM"

Hashes = NDArray[np.uint32]


class PendingMarks:
    """The marks of a partition's events.

    Parameters
    ----------
    values : Unwritten
        Has the records.
    blocks : Blocks
    """

    def __init__(self, values: Unwritten, blocks: Blocks) -> None:
        self._values = values
        self._blocks = blocks
        self._new: dict[int, int] = {}

    def add(self, offsets: Integers, marks: Hashes) -> None:
        """Mark events that have no mark yet."""
        self._new.update(zip(offsets.tolist(), marks.tolist(), strict=True))

    def known(self, offsets: Integers) -> Hashes:
        """Return the marks of events with ascending offsets, 0 where one has no label."""
        known = np.array([self._new.get(offset, 0) for offset in offsets.tolist()], np.uint32)
        runs = runs_of(self._blocks.locate(offsets))
        names = [self._blocks.name(place) for place, _, _ in runs]
        for name, marks, (_, start, end) in zip(names, self._read(names), runs, strict=True):
            here = known[start:end]
            here[here == 0] = marks.known(offsets[start:end] - first_of(name))[here == 0]
        return known

    def take_changes(self, new_blocks: Collection[bytes], seen: int) -> dict[bytes, bytes | None]:
        """Return the records of new blocks, and of those that changed since the last call."""
        changed = {name: LabelMarks.new(span_of(name)) for name in new_blocks}
        n_new = len(self._new)
        offsets, marks = (
            np.fromiter(self._new, np.int64, n_new),
            np.fromiter(self._new.values(), np.uint32, n_new),
        )
        self._new = {}
        order = np.argsort(offsets)
        offsets, marks = offsets[order], marks[order]
        runs = runs_of(self._blocks.locate(offsets))
        names = [self._blocks.name(place) for place, _, _ in runs]
        stored = [name for name in names if name not in changed]
        changed.update(zip(stored, self._read(stored), strict=True))
        for name, (_, start, end) in zip(names, runs, strict=True):
            changed[name] = changed[name].add(offsets[start:end] - first_of(name), marks[start:end])
        return {MARKS + name: with_header(KIND, seen, of.encode()) for name, of in changed.items()}

    def _read(self, names: Sequence[bytes]) -> Iterator[LabelMarks]:
        stored = self._values.get_many([MARKS + name for name in names]) if names else []
        for name, value in zip(names, stored, strict=True):
            try:
                if value is None:
                    raise ValueError("they are not there")
                marks = LabelMarks.decode(content_of(KIND, value))
                if len(marks.codes) != span_of(name):
                    raise ValueError("they are of another one")
            except ValueError as error:
                log.error("marks of block %s cannot be read, its labels count anew: %s", name.hex(), error)
                marks = LabelMarks.new(span_of(name))
            yield marks


def mended(stored: bytes, seen: int) -> bytes | None:
    """Return a record of marks as it was when the state had seen so much; None if it is no newer."""
    if seen_of(stored) <= seen:
        return None
    try:
        return with_header(KIND, seen, LabelMarks.decode(content_of(KIND, stored)).undone().encode())
    except ValueError:
        return None
