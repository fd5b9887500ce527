"""Changelog records of one partition into the store, in the order of the log, but for what is stale.

A worker that was stopped for longer than its session may wake up and write its state behind the new owner's
(`at_least_once`; transactions fence it off): all of a checkpoint, some of it, or its end alone. It shows,
since every record says who wrote it (`tables/owner.py`). What an owner wrote behind the place from which a
later one went on counts for nothing, so what is restored is what the last owner had, record for record:
entities, what the partition keeps of its own, tombstones, its own record.

No count of what a state has seen tells as much. A tombstone has none. Of two workers that have seen as many
events and labels one may have seen more events, the other more labels, and a mixture of what they learnt has
some labels twice and others never.

A stale record may come before the first one of the owner that makes it stale. That is found out later, and
the partition is then read again from its beginning, knowing where each owner began.

What stays impossible:

- Compaction keeps the last record of a key, whoever wrote it. Where that is a stale one, the owner's is lost:
  the entity begins anew, or what was learnt or waits for labels under that key; if it is the partition's own
  record, all of these. An owner of whom compaction left no record of its time makes nobody stale.
- As long as the later owner has written nothing, nobody knows of it, and the earlier one's records count. It
  has committed nothing then either, so its events and labels come again.
- Two workers that both took the partition from the same own record are told apart by their clocks. If these
  differ by more than a session, it may be the wrong one whose records are taken for stale. So may those of a
  worker that follows one which was killed amid a checkpoint, if the clock has gone back by more than that one
  had the partition.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from tables.owner import Owner, owner_of, read_owner
from tables.reserved import PARTITION_KEY
from tables.stores import PartitionedStore

log = logging.getLogger(__name__)

_NEVER = 2**63


class Record(Protocol):
    """What is asked of a record of the client."""

    key: bytes
    value: bytes | None
    offset: int
    headers: Sequence[tuple[str, bytes]]


class StaleWriterError(Exception):
    """The store has, or may have, stale records: the log must be read again from its beginning."""


class Restorer:
    """Writes what was read of one partition's changelog into the store.

    Parameters
    ----------
    partition : int
    store : PartitionedStore
    reached : int or None
        Offset of the changelog up to which the store has it, None where it has nothing.
    """

    def __init__(self, partition: int, store: PartitionedStore, reached: int | None = None) -> None:
        self.partition = partition
        self._store = store
        self._taken = -1 if reached is None else reached
        self._is_kept = reached is not None
        (about,) = store.get_many(partition, [PARTITION_KEY])
        owner = read_owner(about)
        # With the offset at which each was first read; the one that the store knows was read before.
        self._owners: dict[Owner, int] = {} if owner is None else {owner: _NEVER}
        self._headers: Sequence[tuple[str, bytes]] | None = None
        self._stale_from = _NEVER
        self._has_told = False

    def apply(self, records: Sequence[Record]) -> None:
        """Write records.

        Raises
        ------
        StaleWriterError
            The store is empty then. Comes a few times at most: each time more is known.
        """
        items: dict[bytes, bytes | None] = {}  # the last of each key: a fetch can have many of the same
        for record in records:
            if record.headers != self._headers:
                self._turn_to(record)
            if record.offset < self._stale_from:
                items[record.key] = record.value
                self._taken = record.offset
            elif self._is_kept:
                # The store may be the stale writer's own, which has what it wrote.
                self._begin_anew()
            else:
                self._tell(record.offset)
        self._store.restore(self.partition, list(items.items()), records[-1].offset)

    def _turn_to(self, record: Record) -> None:
        """Take note of who wrote this record and, maybe, those behind it."""
        owner = owner_of(record.headers)
        if owner is not None and self._begin_of_next(owner.term) > record.offset:
            self._meet(owner, record.offset)
        self._headers = record.headers
        self._stale_from = _NEVER if owner is None else self._begin_of_next(owner.term)

    def _begin_of_next(self, term: int) -> int:
        """Return the offset from which on what is written in a term is stale."""
        return min((owner.begin for owner in self._owners if owner.term > term), default=_NEVER)

    def _meet(self, owner: Owner, offset: int) -> None:
        if owner in self._owners:
            self._owners[owner] = min(self._owners[owner], offset)
            return
        # Who came up behind the place where this one began is stale: what it says of others counts no more.
        self._owners = {
            known: first
            for known, first in self._owners.items()
            if known.term > owner.term or first < owner.begin
        }
        self._owners[owner] = offset
        if self._taken >= owner.begin:
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._store.empty(self.partition)
        self._taken, self._is_kept, self._headers = -1, False, None
        self._owners = {owner: first for owner, first in self._owners.items() if first != _NEVER}
        self._has_told = True  # who catches this tells of it
        raise StaleWriterError

    def _tell(self, offset: int) -> None:
        if not self._has_told:
            self._has_told = True
            log.warning(
                "changelog, partition %d: a worker that had lost it wrote there, at offset %d; left out",
                *(self.partition, offset),
            )
