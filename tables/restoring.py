"""Changelog records of one partition into the store, in the order of the log, and what a stale writer left.

A worker that was stopped for longer than its session may wake up and write its state behind the new owner's
(`at_least_once`; transactions fence it off). The last record of a key then is not its newest state. It shows:
every checkpoint ends with the partition's own record, whose progress (next offsets of events and of labels,
added up) goes up with each of one owner, and goes down where an older one wrote. From there on the partition
is read again from its beginning, by an `Arbiter` that lets a state be replaced only by one that has seen at
least as much.

What stays open: compaction keeps the last record of a key, so what it removed before a recovery is beyond
repair. A tombstone has no offset; it is judged by the partition's records behind it (see `Arbiter`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from compute.state_format import HEADER_FIELDS
from tables.reserved import PARTITION_KEY, read_progress
from tables.stores import PartitionedStore

LAST_OFFSET_AT = int(HEADER_FIELDS.fields["last_offset"][1])  # type: ignore[index]
"""Where a stored entity keeps its last applied offset."""


class Record(Protocol):
    """What is asked of a record of the client."""

    key: bytes
    value: bytes | None
    offset: int


class StaleWriterError(Exception):
    """The partition's progress went down: the log must be read again from its beginning."""


def read_next_offset(stored: bytes | None) -> int:
    """Return the next offset of a partition's own record, 0 where it cannot be read.

    Examples
    --------
    >>> read_next_offset(b"5666666 1841 300.0"), read_next_offset(b"?"), read_next_offset(None)
    (1841, 0, 0)
    """
    try:
        return int((stored or b"").split()[1])
    except (IndexError, ValueError):
        return 0


def read_last_offset(stored: bytes) -> int:
    """Return the last applied offset of a stored entity."""
    return int.from_bytes(stored[LAST_OFFSET_AT : LAST_OFFSET_AT + 8], "little", signed=True)


class Restorer:
    """Writes what was read of one partition's changelog into the store.

    Attributes
    ----------
    progress : int
        Highest one seen so far, in the store or in the log.
    arbiter : Arbiter or None
        Decides what is written, once a stale writer was seen.
    """

    def __init__(self, partition: int, store: PartitionedStore) -> None:
        self.partition = partition
        self._store = store
        self._offset = -1
        self.arbiter: Arbiter | None = None
        (stored,) = store.get_many(partition, [PARTITION_KEY])
        self.progress = read_progress(stored)

    def apply(self, records: Sequence[Record]) -> None:
        """Write records.

        Raises
        ------
        StaleWriterError
            The first time that the progress goes down. The store is empty then.
        """
        self._offset = records[-1].offset
        if self.arbiter is not None:
            self._write(self.arbiter.judge(records))
            return
        highest = self.progress
        for record in [record for record in records if record.key == PARTITION_KEY]:
            progress = read_progress(record.value)
            if progress < highest:
                self.arbiter = Arbiter()
                self._store.empty(self.partition)
                raise StaleWriterError
            highest = progress
        self.progress = highest
        # The last of each key: a fetch can have many of the same.
        self._write({record.key: record.value for record in records})

    def finish(self) -> None:
        """Write what was held back, at the end of the log."""
        if self.arbiter is not None:
            self._write(self.arbiter.finish())
            self.progress = max(self.arbiter.progress, 0)
            self.arbiter = None

    def _write(self, items: dict[bytes, bytes | None]) -> None:
        if self._offset >= 0:
            self._store.restore(self.partition, list(items.items()), self._offset)


class Arbiter:
    """Decides for each record whether it replaces what is known of its key: who has seen more stays.

    Of an entity the last applied offset says how much its state has seen. A tombstone says nothing; its
    checkpoint's own record, behind it in the log, says that all below its next offset was seen. Where two
    writers take turns the record right behind may be the other's, so the lower one of the next two counts:
    an entity that stays though it should be gone is removed for its silence later on, one that is removed
    though it should stay is lost. A tombstone without any record behind it is left out for the same reason.

    It keeps an offset for every key, some 100 bytes each: this is for the rare case.

    Attributes
    ----------
    progress : int
        Highest one of the partition's records; -1 before the first.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}
        self._open: list[bytes] = []
        self._held: list[bytes] = []
        self._held_below = 0
        self.progress = -1

    def judge(self, records: Iterable[Record]) -> dict[bytes, bytes | None]:
        """Return what is to be written, by key."""
        items: dict[bytes, bytes | None] = {}
        seen = self._seen
        for record in records:
            key, value = record.key, record.value
            if key == PARTITION_KEY:
                self._end_checkpoint(value, items)
            elif value is None:
                self._open.append(key)
            elif (last_offset := read_last_offset(value)) >= seen.get(key, last_offset):
                items[key], seen[key] = value, last_offset
        return items

    def finish(self) -> dict[bytes, bytes | None]:
        """Return what was held back for another record that does not come."""
        items: dict[bytes, bytes | None] = {}
        self._remove_held(self._held_below, items)
        return items

    def _end_checkpoint(self, value: bytes | None, items: dict[bytes, bytes | None]) -> None:
        next_offset = read_next_offset(value)
        self._remove_held(min(self._held_below, next_offset), items)
        self._held, self._held_below, self._open = self._open, next_offset, []
        progress = read_progress(value)
        if progress >= self.progress:
            self.progress, items[PARTITION_KEY] = progress, value

    def _remove_held(self, below: int, items: dict[bytes, bytes | None]) -> None:
        for key in self._held:
            if self._seen.get(key, -1) < below:
                items[key], self._seen[key] = None, below - 1
        self._held = []
