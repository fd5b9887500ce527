"""A record batch: the records of one partition that one fetch brought, as one value of a stream.

Owns the value, its bounds and how it passes through Faust's decoding untouched. Where batches are made is in
`app/transport.py`, what is made of them in `agents/score.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faust


@dataclass(frozen=True)
class RecordBatch:
    """The records of one partition that one fetch brought, in offset order, at least one.

    `end_offset` is what the fetch said of the partition's end; None where it is not known.
    """

    topic: str
    partition: int
    records: list[Any]
    end_offset: int | None = None

    @property
    def last_offset(self) -> int:
        """Offset of the last record; gaps before it (compaction, markers) are no concern of ours."""
        return int(self.records[-1].offset)


class RecordBatchSchema(faust.Schema):  # type: ignore[type-arg]
    """Hands a `RecordBatch` to the stream as it is; decoding is the agent's, event by event."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> Any:
        """Give no key: a batch holds many."""
        return None

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:
        """Give the batch itself."""
        return message.value


def split(records: list[Any], max_events: int, max_bytes: int) -> Iterator[list[Any]]:
    """Cut records into runs bounded in count and bytes; one record over the bound is a run of its own."""
    if not records:
        return
    # Nearly always all are one run, and one sum tells. A record without a value has the size -1.
    n_bytes = sum([record.serialized_value_size for record in records]) + len(records)
    if len(records) <= max_events and n_bytes <= max_bytes:
        yield records
        return
    start = size = 0
    for i, record in enumerate(records):
        n = record.serialized_value_size
        if i > start and (i - start >= max_events or size + n > max_bytes):
            yield records[start:i]
            start, size = i, 0
        size += max(n, 0)
    yield records[start:]
