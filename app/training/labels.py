"""Labels that came later than their events: the first of each event, the newest events only.

Owns which label counts, by the rules of the running join: the first one, from a record with the event's key,
not later than the delay after the event. It is filled before the events are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

from compute.label_reading import decode_labels

_MAX_BYTES = 2**31


class _Held(NamedTuple):
    label: Any
    record_ms: int


_Place = tuple[int, int]
"""Offset of an event, and a hash of the key that its label came with: another entity's is not its label."""


class FirstLabels:
    """First labels by partition and offset of their event.

    Parameters
    ----------
    topic : str
        Of the events.
    delay_seconds : float
    n_most : int
        Labels that are held of each partition, those of its newest events; up to twice as many are for a
        while.

    Attributes
    ----------
    n_unreadable : int
        Records that are no labels of this topic's events.
    n_late : int
        Labels that were asked for and came too late.
    n_forgotten : int
        Events that were asked for and are older than the labels that are held.

    Examples
    --------
    >>> from types import SimpleNamespace as Record
    >>> labels = FirstLabels("events", delay_seconds=60.0, n_most=10)
    >>> value = b'{"id": "events-0-7", "label": "spam"}'
    >>> labels.add([Record(partition=0, key=b"ann", value=value, timestamp=5_000)])
    >>> labels.find(Record(partition=0, offset=7, key=b"ann", timestamp=1_000))
    'spam'
    """

    def __init__(self, topic: str, delay_seconds: float, n_most: int) -> None:
        self._topic = topic
        self._delay_ms = delay_seconds * 1_000
        self._n_most = n_most
        self._held: dict[int, dict[_Place, _Held]] = {}
        self._lowest: dict[int, int] = {}
        self.n_unreadable = 0
        self.n_late = 0
        self.n_forgotten = 0

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def begin_at(self, partition: int, offset: int) -> None:
        """Take no labels of events before an offset."""
        self._lowest[partition] = offset

    def add(self, records: Sequence[Any]) -> None:
        """Add records of the labels topic, in the order of their offsets."""
        batch = decode_labels(
            [record.key for record in records], [record.value for record in records], max_bytes=_MAX_BYTES
        )
        self.n_unreadable += len(batch.rejected)
        events = zip(
            *(batch.index.tolist(), batch.topics, batch.partitions.tolist(), batch.offsets.tolist()),
            batch.labels,
            strict=True,
        )
        for position, topic, partition, offset, label in events:
            record = records[position]
            # The same key is in the same partition of both topics; any other record is somebody else's.
            if topic != self._topic or partition != record.partition:
                self.n_unreadable += 1
                continue
            if offset < self._lowest.get(partition, 0):
                continue
            held = self._held.setdefault(partition, {})
            held.setdefault((offset, crc32(record.key)), _Held(label, record.timestamp))
            if len(held) >= 2 * self._n_most:
                self._forget_oldest(partition)

    def find(self, record: Any) -> Any:
        """Return the label of an event's record, or None."""
        if record.offset < self._lowest.get(record.partition, 0):
            self.n_forgotten += 1
            return None
        found = self._held.get(record.partition, {}).get((record.offset, crc32(record.key)))
        if found is None:
            return None
        if found.record_ms - record.timestamp > self._delay_ms:
            self.n_late += 1
            return None
        return found.label

    def _forget_oldest(self, partition: int) -> None:
        held = self._held[partition]
        # What is forgotten once does not come back as a first one: nor does any other of the same event.
        bound = sorted(held)[-self._n_most - 1][0]
        self._held[partition] = {place: label for place, label in held.items() if place[0] > bound}
        self._lowest[partition] = bound + 1
