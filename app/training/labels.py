"""Labels that came later than their events: the first of each event, the newest events only.

Owns which label counts, by the rules of the running join: the first one, from a record with the event's key,
not later than the delay after the event. It is filled before the events are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from zlib import crc32

import msgspec


class _Value(msgspec.Struct):
    id: str
    label: str | int | float | bool


class _Held(NamedTuple):
    label: Any
    record_ms: int
    key_hash: int


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
        self._held: dict[int, dict[int, _Held]] = {}
        self._lowest: dict[int, int] = {}
        self._decode = msgspec.json.Decoder(_Value).decode
        self.n_unreadable = 0
        self.n_late = 0
        self.n_forgotten = 0

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def begin_at(self, partition: int, offset: int) -> None:
        """Take no labels of events before an offset."""
        self._lowest[partition] = offset

    def add(self, records: Iterable[Any]) -> None:
        """Add records of the labels topic, in the order of their offsets."""
        for record in records:
            try:
                value = self._decode(record.value)
                topic, partition, offset = value.id.rsplit("-", 2)
                place = int(offset)
                # The same key is in the same partition of both topics; any other record is somebody else's.
                if topic != self._topic or int(partition) != record.partition or record.key is None:
                    raise ValueError
            except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError):
                self.n_unreadable += 1
                continue
            if place < self._lowest.get(record.partition, 0):
                continue
            held = self._held.setdefault(record.partition, {})
            held.setdefault(place, _Held(value.label, record.timestamp, crc32(record.key)))
            if len(held) >= 2 * self._n_most:
                self._forget_oldest(record.partition)

    def find(self, record: Any) -> Any:
        """Return the label of an event's record, or None."""
        if record.offset < self._lowest.get(record.partition, 0):
            self.n_forgotten += 1
            return None
        found = self._held.get(record.partition, {}).get(record.offset)
        if found is None or found.key_hash != crc32(record.key):
            return None
        if found.record_ms - record.timestamp > self._delay_ms:
            self.n_late += 1
            return None
        return found.label

    def _forget_oldest(self, partition: int) -> None:
        held = self._held[partition]
        kept = sorted(held)[-self._n_most :]
        self._held[partition] = {offset: held[offset] for offset in kept}
        self._lowest[partition] = kept[0]  # what is forgotten once does not come back as a first one
