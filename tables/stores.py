"""Stores below the table of entity states: RocksDB (kept across restarts) and memory.

Both answer in batches and by partition. Faust's own stores answer key by key and find the partition
by the event in hand; its memory store also mixes the partitions in one dict and loses a key whose
tombstone and falsy value meet in one recovery batch. Recovery still comes through Faust
(`apply_changelog_batch`), so what it reads from the changelog lands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    def scan(self, partition: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """At most `limit` items with keys above `after`, in key order."""


class RocksDBStore(rocksdb.Store):
    """One RocksDB database a partition, written by batches."""

    def __init__(self, *args: Any, options: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, options={**ROCKSDB_OPTIONS, "driver": "rocksdict"}, **kwargs)

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `PartitionedStore`."""
        values: list[bytes | None] = self._db_for_partition(partition).get(list(keys))
        return values

    def write(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        """See `PartitionedStore`; one write batch, so a crash leaves all of it or nothing."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in items:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(self.offset_key, str(changelog_offset).encode())
        self._db_for_partition(partition).write(batch)

    def scan(self, partition: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See `PartitionedStore`."""
        found: list[tuple[bytes, bytes]] = []
        for key, value in self._db_for_partition(partition).items(from_key=after):
            if key not in (after, self.offset_key):
                found.append((key, value))
                if len(found) == limit:
                    break
        return found


class MemoryStore(memory.Store):  # type: ignore[type-arg]
    """One dict a partition; rebuilt from the changelog at every start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.partitions: dict[int, dict[bytes, bytes]] = {}
        self._offsets: dict[int, int] = {}

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

    def scan(self, partition: int, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See `PartitionedStore`."""
        values = self.partitions.get(partition, {})
        return [(key, values[key]) for key in sorted(key for key in values if key > after)[:limit]]

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:
        """Apply changelog records, raw and in order."""
        for event in batch:
            message = event.message
            self.write(message.partition, [(message.key, message.value)], message.offset)

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the changelog offset up to which the partition is here, None where it is not."""
        return self._offsets.get(tp.partition)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Forget the partitions that went elsewhere."""
        for tp in revoked:
            if tp.topic in self.table.changelog_topic.topics:
                self.partitions.pop(tp.partition, None)
                self._offsets.pop(tp.partition, None)


STORES = {"rocksdb": RocksDBStore, "memory": MemoryStore}
