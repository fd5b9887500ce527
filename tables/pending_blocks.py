"""Blocks of answered events that wait for their labels: which there are, and what is in them.

Owns their keys, the index by offsets and times, and a bounded memory of blocks that were read. A block is two
records: its events, which never change, and beside them its label marks. The keys of the marks are the index:
at a start all of these are read, and none of the events, which are fifty times as much.
"""

from __future__ import annotations

import logging
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from compute.answered import Answered
from compute.answered_format import Run, StoredBlock, find_events
from compute.label_marks import MAX_SPAN
from compute.own_values import content_of, with_header
from tables.reserved import PREFIX
from tables.unwritten import Unwritten

log = logging.getLogger(__name__)

EVENTS_KIND = b"NA"
EVENTS, MARKS = PREFIX + b"answered/", PREFIX + b"marks/"
"""Beginnings of the two keys of a block; the rest, its name, is the same."""

MAX_BLOCK_ROWS, MAX_BLOCK_BYTES = 1_024, 256_000
"""Of a block in memory: a label that comes late has one read and decoded for its sake."""

READ_AT_ONCE = 32

_NAME = struct.Struct(">qqd")
_NAMES = np.dtype([("first", ">i8"), ("last", ">i8"), ("newest", ">f8")])

Integers = NDArray[np.int64]


def name_of(block: Answered) -> bytes:
    """Return the name of a block: first and last offset, and the largest record time, big endian.

    Examples
    --------
    >>> zero = np.zeros(2)
    >>> name_of(Answered(np.array([7, 9]), zero, zero, zero.astype(np.uint32))).hex()
    '000000000000000700000000000000090000000000000000'
    """
    return _NAME.pack(block.offsets[0], block.offsets[-1], block.record_times.max())


def span_of(name: bytes) -> int:
    """Return how many offsets there are from the first to the last of a block.

    Examples
    --------
    >>> span_of(bytes.fromhex("000000000000000700000000000000090000000000000000"))
    3
    """
    first, last, _ = _NAME.unpack(name)
    return int(last - first + 1)


def first_of(name: bytes) -> int:
    """Return the first offset of a block."""
    return int.from_bytes(name[:8], "big")


def is_name(name: bytes, next_offset: int) -> bool:
    """Tell whether a block of events before an offset can have this name."""
    if len(name) != _NAME.size:
        return False
    first, last, newest = _NAME.unpack(name)
    return 0 <= first <= last < min(first + MAX_SPAN, next_offset) and bool(np.isfinite(newest))


def cut(events: Answered) -> Iterator[Answered]:
    """Part events into blocks."""
    offsets = events.offsets
    most = max(1, min(MAX_BLOCK_ROWS, MAX_BLOCK_BYTES // events.row_bytes))
    start = 0
    while start < len(offsets):
        end = min(start + most, int(np.searchsorted(offsets, offsets[start] + MAX_SPAN)))
        yield events.take(slice(start, end))
        start = end


class Blocks:
    """The blocks of a partition that are in its store, or on their way there.

    Parameters
    ----------
    values : Unwritten
        Has them.
    cache_bytes : int
        Of blocks that stay in memory after they were read.
    """

    def __init__(self, values: Unwritten, cache_bytes: int) -> None:
        self._values = values
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[bytes, StoredBlock] = OrderedDict()
        self._unreadable: set[bytes] = set()
        self._n_cached_bytes = 0
        self._put(np.zeros(0, _NAMES))

    def __len__(self) -> int:
        return len(self._names)

    @property
    def last_offset(self) -> int:
        """Highest offset of all blocks, -1 without any."""
        return int(self._last.max(initial=-1))

    @property
    def n_cached_bytes(self) -> int:
        """Bytes of the blocks in memory."""
        return self._n_cached_bytes

    def _put(self, names: NDArray[np.void]) -> None:
        self._names = names
        # Of their own, since a search in every third number of the other byte order copies all of them.
        self._first = names["first"].astype(np.int64)
        self._last = names["last"].astype(np.int64)
        self._newest = names["newest"].astype(np.float64)

    def load(self, names: Sequence[bytes]) -> list[bytes]:
        """Take the blocks that there are; return the names of those within others, which are left out.

        Two workers that both took themselves for the owner may have cut the same events in different ways.
        """
        found = np.frombuffer(b"".join(names), _NAMES)
        found = found[np.lexsort((-found["last"], found["first"]))]
        reach = np.maximum.accumulate(found["last"])
        within = np.zeros(len(found), np.bool_)
        within[1:] = found["last"][1:] <= reach[:-1]
        self._put(found[~within])
        return [name.tobytes() for name in found[within]]

    def append(self, names: Sequence[bytes]) -> None:
        """Take further blocks, behind all others."""
        if names:
            # Not by `concatenate`, which gives numbers of this machine's byte order.
            self._put(np.frombuffer(self._names.tobytes() + b"".join(names), _NAMES))

    def locate(self, offsets: Integers) -> Integers:
        """Return the place of the block in whose range each offset is, -1 where there is none.

        Parameters
        ----------
        offsets : ndarray, shape (n,), int64
        """
        if not len(self._first):
            return np.full(len(offsets), -1, np.int64)
        places = np.searchsorted(self._first, offsets, "right") - 1
        return np.where((places >= 0) & (offsets <= self._last[places]), places, -1)

    def name(self, place: int) -> bytes:
        """Return the name of the block at a place."""
        return bytes(self._names[place].tobytes())

    def remove_older(self, time_seconds: float) -> tuple[list[bytes], int]:
        """Remove the blocks all of whose record times are before a time.

        Returns
        -------
        names : list of bytes
        below : int
            Offset behind the last of them, 0 if there is none.
        """
        older = self._newest < time_seconds
        if not older.any():
            return [], 0
        names, below = [name.tobytes() for name in self._names[older]], int(self._last[older].max()) + 1
        self._put(self._names[~older])
        for name in names:
            self._drop(name)
        return names, below

    def find(self, wanted: Integers) -> list[tuple[Answered, Integers]]:
        """Return those events that are in blocks, of the ones looked for, and their places in `wanted`.

        Each block is read once, a few at a time; one that cannot be read has none.

        Parameters
        ----------
        wanted : ndarray, shape (n,), int64
            Ascending offsets, each once.
        """
        runs = runs_of(self.locate(wanted))
        found: list[tuple[Answered, Integers]] = []
        unreadable: dict[bytes, str] = {}
        for first in range(0, len(runs), READ_AT_ONCE):
            few = runs[first : first + READ_AT_ONCE]
            names = [self.name(place) for place, _, _ in few]
            blocks = self._read(names, unreadable)
            readable = {
                name: (block, start, end)
                for name, block, (_, start, end) in zip(names, blocks, few, strict=True)
                if block is not None
            }
            try:
                found += find_events(list(readable.values()), wanted)
            except ValueError:
                found += self._find_apart(readable, wanted, unreadable)
        if unreadable:
            self._unreadable.update(unreadable)  # told once
            name, reason = next(reversed(unreadable.items()))
            log.error(
                "%d blocks of events cannot be read, their labels are lost; %s: %s",
                *(len(unreadable), name.hex(), reason),
            )
        return found

    def _find_apart(
        self, runs: dict[bytes, Run], wanted: Integers, unreadable: dict[bytes, str]
    ) -> list[tuple[Answered, Integers]]:
        """Find events block by block, where one of them has what it may not."""
        found: list[tuple[Answered, Integers]] = []
        for name, run in runs.items():
            try:
                found += find_events([run], wanted)
            except ValueError as error:
                unreadable[name] = str(error)
                self._drop(name)
        return found

    def _read(self, names: Sequence[bytes], unreadable: dict[bytes, str]) -> list[StoredBlock | None]:
        """Return blocks, None for one that cannot be read; why not is added to `unreadable`."""
        found = {name: self._cached.get(name) for name in names}
        asked = [name for name, block in found.items() if block is None and name not in self._unreadable]
        values = self._values.get_many([EVENTS + name for name in asked]) if asked else []
        for name, value in zip(asked, values, strict=True):
            try:
                found[name] = _read_events(name, value)
            except ValueError as error:
                unreadable[name] = str(error)
        for name, block in found.items():
            if block is not None:
                self._keep(name, block)
        return list(found.values())

    def _keep(self, name: bytes, block: StoredBlock) -> None:
        self._drop(name)
        self._cached[name] = block
        self._n_cached_bytes += len(block.stored)
        while self._n_cached_bytes > self._cache_bytes:
            self._drop(next(iter(self._cached)))

    def _drop(self, name: bytes) -> None:
        dropped = self._cached.pop(name, None)
        if dropped is not None:
            self._n_cached_bytes -= len(dropped.stored)


def runs_of(places: Integers) -> list[tuple[int, int, int]]:
    """Return runs of the same place, without those of no place: the place, and where the run starts and ends.

    Examples
    --------
    >>> runs_of(np.array([-1, 4, 4, 7]))
    [(4, 1, 3), (7, 3, 4)]
    """
    if not len(places):
        return []
    starts = np.flatnonzero(np.diff(places, prepend=places[0] - 1))
    ends = np.append(starts[1:], len(places))
    runs = zip(places[starts].tolist(), starts.tolist(), ends.tolist(), strict=True)
    return [run for run in runs if run[0] >= 0]


def _read_events(name: bytes, stored: bytes | None) -> StoredBlock:
    if stored is None:
        raise ValueError("it is not there")
    block = StoredBlock(content_of(EVENTS_KIND, stored))
    if (block.first, block.last) != _NAME.unpack(name)[:2]:
        raise ValueError("it is another one")
    return block


def events_item(name: bytes, block: StoredBlock, seen: int) -> tuple[bytes, bytes]:
    """Return key and value of the events of a block."""
    return EVENTS + name, with_header(EVENTS_KIND, seen, block.stored)
