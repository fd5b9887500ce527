r"""How the records of a fetch are unpacked: whatever their header names are, and into something light.

Kafka takes any bytes for the name of a header. aiokafka decodes names strictly while it unpacks a fetch: one
such record raises at every attempt, and nothing behind it is ever read. Owns reading the rest of such a fetch
by the client's own parser in Python, with `backslashreplace`: a name of the bytes `caf` and 0xe9 becomes
``caf\xe9``, seven characters. Fetches without one are read by the client's fast parser.

The client's own record is a dataclass: to unpack one takes 0.55 us, and the garbage collector looks through
it. A `FetchedRecord` takes 0.36, and the collector passes it over.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.memory_records import MemoryRecords

_LENGTH_AT, _LENGTH_END, _MAGIC_AT = 8, 12, 16
"""Where every batch has the number of bytes that follow it, and its format."""


def install() -> None:
    """Let every consumer of this process unpack so; doing it twice does no harm."""
    fetcher.MemoryRecords = FetchedRecords
    fetcher.PartitionRecords = TolerantRecords


class FetchedRecord(msgspec.Struct, gc=False):
    """A record, with all that aiokafka's `ConsumerRecord` has under the same names."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: Any
    value: Any
    checksum: int | None
    serialized_key_size: int
    serialized_value_size: int
    headers: tuple[tuple[str, bytes | None], ...]


class FetchedRecords(MemoryRecords):  # type: ignore[misc]  # final in name only, and untyped
    """The batches of a partition that one fetch brought, with the bytes they are in."""

    def __init__(self, fetched: bytes) -> None:
        super().__init__(fetched)
        self.fetched = fetched


class TolerantRecords(PartitionRecords):  # type: ignore[misc]
    """The records of a partition that one fetch brought."""

    _records: Any
    _records_iterator: Any

    def __next__(self) -> Any:
        """Return the next record."""
        try:
            return next(self._records_iterator)
        except StopIteration:
            self._records_iterator = None
            raise
        except (UnicodeDecodeError, CorruptRecordException) as error:
            # The parser in Python, which aiokafka has where its other one cannot be built, wraps the error.
            is_of_a_name = isinstance(error, UnicodeDecodeError) or isinstance(
                error.__cause__, UnicodeDecodeError
            )
            if not is_of_a_name or isinstance(self._records, _Rest):
                raise
        # What is known of aborted transactions stays: it is what held before the batch that failed.
        self._records = _Rest(self._records.fetched, self.next_fetch_offset)
        self._records_iterator = self._unpack_records()
        return next(self)

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        if self._key_deserializer or self._value_deserializer:
            return super()._consumer_record(tp, record)
        key, value = record.key, record.value
        return FetchedRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            key,
            value,
            record.checksum,
            -1 if key is None else len(key),
            -1 if value is None else len(value),
            tuple(record.headers),
        )


class _Rest:
    """The batches of a fetch from the one on that holds an offset; those before are done with."""

    def __init__(self, fetched: bytes, offset: int) -> None:
        self._fetched = memoryview(fetched)
        self._at = 0
        batch = self._read()
        while batch is not None and batch.next_offset <= offset:
            batch = self._read()
        self._next = batch

    def has_next(self) -> bool:
        return self._next is not None

    def next_batch(self) -> Any:
        batch, self._next = self._next, self._read()
        return batch

    def _read(self) -> Any:
        head = self._fetched[self._at : self._at + _MAGIC_AT + 1]
        end = self._at + _LENGTH_END + int.from_bytes(head[_LENGTH_AT:_LENGTH_END], "big")
        if len(head) <= _MAGIC_AT or end > len(self._fetched):
            return None  # a fetch may end within a batch
        batch, self._at = self._fetched[self._at : end], end
        magic = head[_MAGIC_AT]
        return LegacyRecordBatch(batch, magic) if magic < 2 else _Batch(batch)


class _Batch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """The client's own parser, on bytes that decode themselves tolerantly."""

    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Text(self._buffer)


class _Text(bytearray):
    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return found if isinstance(found, int) else _Text(found)

    def decode(self, *args: Any, **kwargs: Any) -> str:
        return super().decode("utf-8", "backslashreplace")
