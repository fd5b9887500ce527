"""Stores below the table of entity states: RocksDB (kept across restarts) and memory.

Both answer in batches and by partition. Faust's own stores answer key by key and find the partition
by the event in hand; its memory store also mixes the partitions in one dict and loses a key whose
tombstone and falsy value meet in one recovery batch. What recovery reads from the changelog comes here by
`restore`, which need not survive a crash before `settle`: the changelog still has it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import rocksdict
from faust.stores import memory, rocksdb
from faust.types import TP

ROCKSDB_OPTIONS = {
    # Faust's defaults let every partition take 2 GB of cache and 192 MB of write buffers.
    "write_buffer_size": 16 * 1024 * 1024,
    "max_write_buffer_number": 2,
    "target_file_size_base": 16 * 1024 * 1024,
    "block_cache_size": 16 * 1024 * 1024,
    "max_open_files": 500,
}

Item = tuple[bytes, "bytes | None"]


class PartitionedStore(Protocol):
    """What the table of entity states asks of a store."""

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of the keys in order, None where there is none."""

    def write(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        """Put (or, with None, delete) and remember the changelog offset, all or nothing."""

    def restore(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        """As `write`, faster; a crash before `settle` may take back the last of it, offset and all."""

    def settle(self, partition: int) -> None:
        """Let nothing that was restored be taken back by a crash any more."""

    def empty(self, partition: int) -> None:
        """Remove all items and the changelog offset, all or nothing."""

    def persisted_offset(self, tp: TP) -> int | None:
        """Changelog offset up to which the partition is here, None where it is not."""

    def place_of(self, partition: int) -> str:
        """Where the partition is kept, for a message to a person."""

    def scan(self, partition: int, after: bytes, limit: int, max_bytes: int) -> list[tuple[bytes, bytes]]:
        """Items with keys above `after`, in key order: at most `limit`, fewer once they have `max_bytes`."""

    def items_from(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All items whose keys begin with `prefix`, in key order; nothing is written meanwhile."""


class RocksDBStore(rocksdb.Store):
    """One RocksDB database a partition, written by batches."""

    def __init__(self, *args: Any, options: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, options={**ROCKSDB_OPTIONS, "driver": "rocksdict"}, **kwargs)
        self._without_log = rocksdict.WriteOptions()
        self._without_log.disable_wal = True  # type: ignore[assignment,method-assign]  # a property
        self._unsettled: set[int] = set()

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `PartitionedStore`."""
        values: list[bytes | None] = self._db_for_partition(partition).get(list(keys))
        return values

    def write(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        """See `PartitionedStore`; one write batch, so a crash leaves all of it or nothing."""
        # A crash keeps what is in RocksDB's own log. Behind something that is not, it would leave a hole.
        self.settle(partition)
        self._db_for_partition(partition).write(self._batch(items, changelog_offset))

    def restore(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        """See `PartitionedStore`; past RocksDB's own log, which costs a fifth of a recovery."""
        self._unsettled.add(partition)
        batch = self._batch(items, changelog_offset)
        self._db_for_partition(partition).write(batch, self._without_log)

    def settle(self, partition: int) -> None:
        """See `PartitionedStore`."""
        if partition in self._unsettled:
            self._db_for_partition(partition).flush(wait=True)
            self._unsettled.discard(partition)

    def empty(self, partition: int) -> None:
        """See `PartitionedStore`."""
        db = self._db_for_partition(partition)
        last = db.iter()
        last.seek_to_last()
        if last.valid():
            batch = rocksdict.WriteBatch(raw_mode=True)
            batch.delete_range(b"", last.key())
            batch.delete(last.key())
            self._unsettled.add(partition)
            db.write(batch, self._without_log)

    def place_of(self, partition: int) -> str:
        """See `PartitionedStore`."""
        return str(self.partition_path(partition))

    def revoke_partitions(self, table: Any, tps: set[TP]) -> None:
        """Close the databases of partitions that went elsewhere; closing makes all of them durable."""
        super().revoke_partitions(table, tps)
        self._unsettled.intersection_update(self._dbs)

    def _batch(self, items: Sequence[Item], changelog_offset: int) -> Any:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in items:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(self.offset_key, str(changelog_offset).encode())
        return batch

    def scan(self, partition: int, after: bytes, limit: int, max_bytes: int) -> list[tuple[bytes, bytes]]:
        """See `PartitionedStore`."""
        found: list[tuple[bytes, bytes]] = []
        n_bytes = 0
        for key, value in self._db_for_partition(partition).items(from_key=after):
            if key not in (after, self.offset_key):
                found.append((key, value))
                n_bytes += len(value)
                if len(found) == limit or n_bytes >= max_bytes:
                    break
        return found

    def items_from(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `PartitionedStore`."""
        for key, value in self._db_for_partition(partition).items(from_key=prefix):
            if not key.startswith(prefix):
                break
            yield key, value


class MemoryStore(memory.Store):  # type: ignore[type-arg]
    """One dict a partition; rebuilt from the changelog at every start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.partitions: dict[int, dict[bytes, bytes]] = {}
        self._offsets: dict[int, int] = {}
        self._scanned: dict[int, list[bytes]] = {}

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `PartitionedStore`."""
        values = self.partitions.get(partition, {})
        return [values.get(key) for key in keys]

    def write(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        """See `PartitionedStore`."""
        self._offsets[partition] = changelog_offset
        values = self.partitions.setdefault(partition, {})
        for key, value in items:
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value

    def scan(self, partition: int, after: bytes, limit: int, max_bytes: int) -> list[tuple[bytes, bytes]]:
        """See `PartitionedStore`; keys that came after the scan of the beginning are left out."""
        values = self.partitions.get(partition, {})
        if not after or partition not in self._scanned:
            self._scanned[partition] = sorted(values)  # once a round: a million keys take most of a second
        keys = self._scanned[partition]
        found: list[tuple[bytes, bytes]] = []
        n_bytes = 0
        for key in keys[bisect_right(keys, after) :]:
            if key in values:
                found.append((key, values[key]))
                n_bytes += len(values[key])
                if len(found) == limit or n_bytes >= max_bytes:
                    break
        return found

    def items_from(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `PartitionedStore`."""
        values = self.partitions.get(partition, {})
        return iter([(key, values[key]) for key in sorted(key for key in values if key.startswith(prefix))])

    def restore(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        """See `PartitionedStore`."""
        self.write(partition, items, changelog_offset)

    def settle(self, partition: int) -> None:
        """See `PartitionedStore`; nothing here survives a crash."""

    def empty(self, partition: int) -> None:
        """See `PartitionedStore`."""
        for kept in (self.partitions, self._offsets, self._scanned):
            kept.pop(partition, None)

    def place_of(self, partition: int) -> str:
        """See `PartitionedStore`."""
        return "memory"

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the changelog offset up to which the partition is here, None where it is not."""
        return self._offsets.get(tp.partition)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Forget the partitions that went elsewhere."""
        for tp in revoked:
            if tp.topic in self.table.changelog_topic.topics:
                self.empty(tp.partition)


STORES = {"rocksdb": RocksDBStore, "memory": MemoryStore}
