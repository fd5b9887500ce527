"""Records whose header names are not UTF-8, as a producer in another language can send them.

The clients that tests have refuse to write such names, so batches are built by aiokafka's parser in Python,
whose builder asks a name for its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy, _DefaultRecordBatchPy
from aiokafka.record.util import calc_crc32c

Record = tuple["bytes | None", "bytes | None", list[tuple[str, "bytes | None"]]]


class OddName(str):
    """A name whose bytes are these, whatever they are."""

    raw: bytes

    def __new__(cls, raw: bytes) -> OddName:
        self = super().__new__(cls, raw.decode("utf-8", "backslashreplace"))
        self.raw = raw
        return self

    def encode(self, *args: Any) -> bytes:
        return self.raw


def build_batch(
    records: Iterable[Record],
    *,
    base_offset: int = 0,
    codec: int = 0,
    producer_id: int = -1,
    transactional: bool = False,
    control: bool = False,
    timestamp_ms: int = 1_000,
) -> bytes:
    """Return the bytes of a batch as a broker keeps it."""
    base = _DefaultRecordBatchPy
    builder = _DefaultRecordBatchBuilderPy(2, codec, int(transactional), producer_id, 0, 0, 1 << 30)
    for i, (key, value, headers) in enumerate(records):
        builder.append(i, timestamp_ms + i, key, value, headers)
    built = builder.build()
    struct.pack_into(">q", built, 0, base_offset)
    built[base.ATTRIBUTES_OFFSET + 1] |= base.TRANSACTIONAL_MASK * transactional + base.CONTROL_MASK * control
    struct.pack_into(">I", built, base.CRC_OFFSET, calc_crc32c(bytes(built[base.ATTRIBUTES_OFFSET :])))
    return bytes(built)


async def send_odd(
    bootstrap_servers: list[str] | str, topic: str, records: list[Record], timestamp_ms: int, codec: int = 0
) -> int:
    """Send records to partition 0 as one batch, and return the offset of the first."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers)
    await producer.start()
    try:
        batch = producer.create_batch()
        for _ in records:  # it counts them
            batch.append(timestamp=timestamp_ms, key=b"", value=b"")
        batch.close()
        batch._build = lambda: build_batch(records, codec=codec, timestamp_ms=timestamp_ms)
        sent = await (await producer.send_batch(batch, topic, partition=0))
        return int(sent.offset)
    finally:
        await producer.stop()
