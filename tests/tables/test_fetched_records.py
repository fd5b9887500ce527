"""Fetches unpacked as the client does it, also those with header names that are not UTF-8."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from tables.fetched_records import FetchedRecord, FetchedRecords, TolerantRecords
from tests.odd_names import OddName, Record, build_batch

TP = TopicPartition("events", 0)
ABORT, COMMIT = struct.pack(">HH", 0, 0), struct.pack(">HH", 0, 1)


def read(
    fetched: bytes,
    records: Any = FetchedRecords,
    partition_records: Any = TolerantRecords,
    *,
    aborted: Any = None,
    fetch_offset: int = 0,
    isolation: int = READ_COMMITTED,
) -> tuple[list[Any], list[int], int]:
    """Return the records, the offset to fetch next after each of them, and after all."""
    found = partition_records(TP, records(fetched), aborted, fetch_offset, None, None, True, isolation)
    given_out, positions = [], []
    for record in found:
        # The client's own records are a dataclass of the same fields.
        given_out.append(FetchedRecord(**vars(record)) if isinstance(record, ConsumerRecord) else record)
        positions.append(found.next_fetch_offset)
    return given_out, positions, found.next_fetch_offset


def record(i: int, name: str) -> Record:
    return b"key-%d" % i, b"value " * 20, [("trace", b"%d" % i), (name, None)]


@pytest.mark.parametrize("codec", range(5), ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_an_odd_name_is_written_out_and_all_else_is_as_it_was_sent(codec: int) -> None:
    names = ["fine", OddName(b"caf\xe9"), "é"]
    fetched = build_batch([record(i, name) for i, name in enumerate(names)], base_offset=7, codec=codec)
    found, _, next_offset = read(fetched, fetch_offset=7)
    assert [r.headers[1] for r in found] == [("fine", None), ("caf\\xe9", None), ("é", None)]
    assert [(r.offset, r.key, r.value, r.timestamp) for r in found] == [
        (7 + i, b"key-%d" % i, b"value " * 20, 1_000 + i) for i in range(3)
    ]
    assert next_offset == 10


def test_the_client_itself_still_fails_at_such_a_name() -> None:
    with pytest.raises((UnicodeDecodeError, CorruptRecordException)):
        read(build_batch([record(0, OddName(b"\xff"))]), MemoryRecords, PartitionRecords)


def test_a_damaged_batch_is_still_an_error() -> None:
    fetched = bytearray(build_batch([record(0, "a"), record(1, OddName(b"\xff"))]))
    fetched[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        read(bytes(fetched))


batches = st.lists(
    st.tuples(
        st.lists(st.booleans(), min_size=1, max_size=5),  # which records have an odd name
        st.integers(0, 4),  # codec
        st.sampled_from([None, (1, "commit"), (1, "abort"), (2, "commit"), (2, "abort")]),
        st.integers(0, 3),  # offsets that compaction left out before it
    ),
    min_size=1,
    max_size=6,
)


@given(batches, st.integers(0, 40), st.integers(0, 100), st.sampled_from([READ_COMMITTED, READ_UNCOMMITTED]))
def test_odd_names_change_nothing_but_themselves(
    plan: Any, fetch_offset: int, cut: int, isolation: int
) -> None:
    odd_log, plain_log, aborted, offset = [], [], [], 0
    for odd, codec, transaction, gap in plan:
        offset += gap
        producer, end = transaction or (-1, None)
        for log, name in ((odd_log, OddName(b"\xff\x00odd")), (plain_log, "\\xff\x00odd")):
            records = [record(i, name if is_odd else "fine") for i, is_odd in enumerate(odd)]
            log.append(
                build_batch(
                    records,
                    base_offset=offset,
                    codec=codec,
                    producer_id=producer,
                    transactional=bool(transaction),
                )
            )
        if end == "abort":
            aborted.append((producer, offset))
        offset += len(odd)
        if end:
            marker: Record = (ABORT if end == "abort" else COMMIT, b"\x00" * 6, [])
            control = build_batch(
                [marker], base_offset=offset, producer_id=producer, transactional=True, control=True
            )
            odd_log.append(control)
            plain_log.append(control)
            offset += 1
    # A broker begins with the batch that holds the offset asked for, and may end within one.
    fetch_offset = min(fetch_offset, offset - 1)
    ends = [next_offset_of(batch) for batch in plain_log]
    first = next(i for i, end in enumerate(ends) if end > fetch_offset)
    odd_fetch, plain_fetch = b"".join(odd_log[first:]), b"".join(plain_log[first:])
    tail = odd_log[-1][:cut]
    known = {"aborted": aborted, "fetch_offset": fetch_offset, "isolation": isolation}
    expected = read(plain_fetch, MemoryRecords, PartitionRecords, **known)
    found = read(odd_fetch + (tail if len(tail) < len(odd_log[-1]) else b""), **known)
    assert found == expected


def next_offset_of(batch: bytes) -> int:
    return int(struct.unpack_from(">q", batch)[0]) + int(struct.unpack_from(">i", batch, 23)[0]) + 1
