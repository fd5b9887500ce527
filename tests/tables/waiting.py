"""A partition's events that wait for labels, with a store and a changelog by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from compute.answered import Answered, VersionAnswers
from tables.pending import OUTCOMES, Pending
from tables.reserved import PARTITION_KEY
from tables.stores import Item

DELAY = 100.0
KEYS = [b"pump-0", b"pump-1"]
CRCS = [crc32(key) for key in KEYS]


def answered(
    offsets: list[int],
    times: list[float] | None = None,
    scores: list[float] | None = None,
    version: str = "v",
) -> Answered:
    """Return events, each an entity's by its offset, whose score is their offset if none is given."""
    at = np.array(offsets, np.int64)
    number = at.astype(float) if scores is None else np.array(scores, float)
    record_times = at.astype(float) if times is None else np.array(times, float)
    answers = VersionAnswers("m", version, "champion", "regression", (), None, number, number)
    crcs = np.array([CRCS[offset % 2] for offset in offsets], np.uint32)
    return Answered(at, record_times - 0.5, record_times, crcs, (answers,))


class DictStore:
    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    def write(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        for key, value in items:
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value

    def restore(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        self.write(partition, items, changelog_offset)

    def settle(self, partition: int) -> None:
        pass

    def empty(self, partition: int) -> None:
        self.values.clear()

    def items_from(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(item for item in self.values.items() if item[0].startswith(prefix)))


class Worker:
    """Whoever has the partition: its state, its local store and the changelog that all share."""

    def __init__(self, store: Any = None, log: list[Item] | None = None) -> None:
        self.store = DictStore() if store is None else store
        self.log: list[Item] = [] if log is None else log
        self.next_offset = self.next_label = 0
        for key, value in self.log:
            self.store.write(0, [(key, value)], 0)
        (about,) = self.store.get_many(0, [PARTITION_KEY])
        if about is not None:
            _, next_offset, _, next_label = about.split()
            self.next_offset, self.next_label = int(next_offset), int(next_label)
        self.pending = Pending(0, self.store, DELAY)

    def add(self, events: Answered, own_labels: dict[int, str] | None = None) -> None:
        self.pending.add(events, own_labels)
        self.next_offset = int(events.offsets[-1]) + 1

    def label(
        self, offsets: list[int], labels: list[str], times: list[float] | None = None, keys: Any = None
    ) -> list[str]:
        self.next_label += len(offsets)
        crcs = [CRCS[offset % 2] for offset in offsets] if keys is None else list(map(crc32, keys))
        record_times = offsets if times is None else times
        found = self.pending.find(np.array(offsets, np.int64))
        outcomes = self.pending.join(found, labels, np.array(record_times, float), np.array(crcs, np.uint32))
        return [OUTCOMES[code] for code in outcomes.tolist()]

    def take(self) -> list[Item]:
        items = self.pending.take_changes(self.next_offset + self.next_label)
        return [*items, (PARTITION_KEY, b"0 %d 300.0 %d" % (self.next_offset, self.next_label))]

    def finish(self, items: list[Item]) -> None:
        self.log += items
        self.store.write(0, items, 0)
        self.pending.wrote()

    def checkpoint(self) -> dict[bytes, bytes | None]:
        items = self.take()
        self.finish(items)
        return dict(items[:-1])

    def scores(self, offsets: list[int]) -> list[float | None]:
        found = self.pending.find(np.array(offsets, np.int64))
        numbers = found.answered.versions[0].scores.tolist() if found.answered.versions else []
        return [numbers[row] if row >= 0 else None for row in found.rows.tolist()]
