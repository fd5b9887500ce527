"""Which events that wait have their label: marks by block in the store, and those since the last checkpoint.

Owns the records of marks, whose form is in `compute/label_marks.py`. Blocks belong to
`tables/pending_blocks.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from compute.label_marks import LabelMarks
from compute.own_values import content_of, seen_of, with_header
from tables.pending_blocks import MARKS, Blocks, Integers, first_of, runs_of, span_of
from tables.unwritten import Unwritten

log = logging.getLogger(__name__)

KIND = b"NM"

Hashes = NDArray[np.uint32]
Run = tuple[int, int, int]
"""Place of a block, and from where to where offsets are in it."""


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
        # Of events that are in no block yet, by offset; and of blocks that changed since the last checkpoint,
        # as they will be written: a checkpoint holds up all others, and has little to do for each label so.
        self._new: dict[int, int] = {}
        self._changed: dict[bytes, LabelMarks] = {}
        self._last_read: dict[bytes, LabelMarks] = {}

    def add(self, offsets: Integers, marks: Hashes) -> None:
        """Mark events with ascending offsets that have no mark yet."""
        runs = runs_of(self._blocks.locate(offsets))
        in_blocks = np.zeros(len(offsets), np.bool_)
        for name, before, (_, start, end) in self._marks_of(runs):
            places = offsets[start:end] - first_of(name)
            self._changed[name] = before.add(places, marks[start:end], further=name in self._changed)
            in_blocks[start:end] = True
        self._last_read = {}
        self._new.update(zip(offsets[~in_blocks].tolist(), marks[~in_blocks].tolist(), strict=True))

    def known(self, offsets: Integers) -> Hashes:
        """Return the marks of events with ascending offsets, 0 where one has no label."""
        new = map(self._new.get, offsets.tolist(), repeat(0))
        known = np.fromiter(new, np.uint32, len(offsets))
        self._last_read = {}
        for name, marks, (_, start, end) in self._marks_of(runs_of(self._blocks.locate(offsets))):
            if marks.n_marks:
                known[start:end] = marks.known(offsets[start:end] - first_of(name))
        return known

    def forget(self, names: Iterable[bytes]) -> None:
        """Take note that there are no such blocks any more."""
        for name in names:
            self._changed.pop(name, None)

    def take_changes(self, new_blocks: Collection[bytes], seen: int) -> dict[bytes, bytes | None]:
        """Return the records of new blocks, and of those that changed since the last call."""
        self._last_read = {name: LabelMarks.new(span_of(name)) for name in new_blocks}
        changed = dict(self._last_read)
        n_new = len(self._new)
        offsets = np.fromiter(self._new, np.int64, n_new)
        marks = np.fromiter(self._new.values(), np.uint32, n_new)
        order = np.argsort(offsets)
        self._new = {}
        self.add(offsets[order], marks[order])
        self._new = {}  # what is in no block even now has expired
        changed.update(self._changed)
        self._changed = {}
        return {MARKS + name: with_header(KIND, seen, of.encode()) for name, of in changed.items()}

    def _marks_of(self, runs: Sequence[Run]) -> list[tuple[bytes, LabelMarks, Run]]:
        """Return the marks of the blocks of some runs, with the runs."""
        names = [self._blocks.name(place) for place, _, _ in runs]
        missing = [name for name in names if name not in self._changed and name not in self._last_read]
        self._last_read.update(zip(missing, self._read(missing), strict=True))
        found = [self._changed.get(name) or self._last_read[name] for name in names]
        return list(zip(names, found, runs, strict=True))

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
