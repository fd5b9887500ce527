"""Labels that came before their events were scored: kept as they came, until then or until they are too old.

Owns which of them wait, how many may, and their records. Who takes them from here reads and joins them as
any others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from compute.own_values import content_of, with_header
from tables.reserved import PREFIX
from tables.stores import Item

log = logging.getLogger(__name__)

KIND = b"NE"
EARLY = PREFIX + b"early/"
"""Beginning of the keys; the rest is the offset of the label's record, 8 bytes big endian."""

MAX_LABELS, MAX_BYTES = 40_000, 32_000_000
"""Twice what comes of a backlog, in which labels are left in their topic (`agents/label_backlog.py`)."""

MAX_LABEL_BYTES = 500_000
"""Of one label: it has to fit into a record of the changelog."""

_OVERHEAD_BYTES = 300
_MAX_OFFSET = 2**62


class EarlyLabel(NamedTuple):
    """A record of the labels topic, and the offset of the event it is about.

    Attributes
    ----------
    offset : int
        Of the event.
    source_offset : int
        Of the record itself.
    record_time : float
        Seconds.
    key, value : bytes
    headers : list of (str, bytes or None)
    """

    offset: int
    source_offset: int
    record_time: float
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes | None]]

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes, about."""
        size = _OVERHEAD_BYTES + len(self.key) + len(self.value)
        return size + sum(_OVERHEAD_BYTES + len(name) + len(data or b"") for name, data in self.headers)


class _Stored(NamedTuple):
    label: EarlyLabel
    is_dropped: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


class EarlyLabels:
    """The labels of a partition that came too early, in the order in which they came.

    Parameters
    ----------
    stored : iterable of (bytes, bytes)
        Keys and values that the store has.
    next_offset : int
        Offset after the last event that the state has seen. A label of an earlier one was joined: what joins
        labels does so in the step that moves this on.
    is_void : callable
        Tells of a value whether it was written for a checkpoint that was never finished.
    """

    def __init__(
        self, stored: Iterable[tuple[bytes, bytes]], next_offset: int, is_void: Callable[[bytes], bool]
    ) -> None:
        self._waiting: dict[int, EarlyLabel] = {}
        self._new: dict[int, EarlyLabel] = {}
        self._mended: dict[int, EarlyLabel] = {}
        self._dropped: dict[int, EarlyLabel] = {}
        self._gone: list[bytes] = []
        self._superfluous: list[bytes] = []
        self._n_bytes = 0
        self._first = _MAX_OFFSET
        for key, value in stored:
            found = _read(key, value)
            # One that was dropped had been held before, so if it was dropped in vain it waits again.
            if found is None or found.is_dropped != is_void(value) or found.label.offset < next_offset:
                self._superfluous.append(key)
                continue
            self._add(found.label)
            if found.is_dropped:
                self._mended[found.label.source_offset] = found.label

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def n_bytes(self) -> int:
        """Bytes that they take, about."""
        return self._n_bytes

    def hold(self, label: EarlyLabel) -> bool:
        """Keep a label; False if there is no room for it."""
        size = label.n_bytes
        has_room = len(self._waiting) < MAX_LABELS and self._n_bytes + size <= MAX_BYTES
        if size > MAX_LABEL_BYTES or not has_room:
            return False
        self._add(label)
        self._new[label.source_offset] = label
        return True

    def _add(self, label: EarlyLabel) -> None:
        self._waiting[label.source_offset] = label
        self._n_bytes += label.n_bytes
        self._first = min(self._first, label.offset)

    def take(self, next_offset: int) -> list[EarlyLabel]:
        """Return the labels of events before an offset, and keep them no longer."""
        if self._first >= next_offset:
            return []
        taken = [label for label in self._waiting.values() if label.offset < next_offset]
        self._remove(taken)
        return taken

    def drop(self, time_seconds: float) -> list[EarlyLabel]:
        """Return the labels that came before a time, and keep them no longer."""
        dropped = [label for label in self._waiting.values() if label.record_time < time_seconds]
        self._dropped.update((label.source_offset, label) for label in self._remove(dropped))
        return dropped

    def _remove(self, labels: list[EarlyLabel]) -> list[EarlyLabel]:
        """Keep labels no longer; return those that were written."""
        written = []
        for label in labels:
            del self._waiting[label.source_offset]
            self._n_bytes -= label.n_bytes
            if self._new.pop(label.source_offset, None) is None:
                written.append(label)
        if labels:
            self._first = min((label.offset for label in self._waiting.values()), default=_MAX_OFFSET)
        self._gone += [_key(label.source_offset) for label in written]
        return written

    def take_changes(self, seen: int) -> list[Item]:
        """Return what changed since the last call, as it is stored.

        What is kept no longer is removed by the checkpoint after this one. Were this one never finished, its
        labels would have to be joined, or dropped, again.
        """
        items: list[Item] = [(key, None) for key in self._superfluous]
        for changed, is_dropped in ((self._mended, False), (self._new, False), (self._dropped, True)):
            stored = [_Stored(label, is_dropped) for label in changed.values()]
            items += [(_key(of.label.source_offset), with_header(KIND, seen, _encode(of))) for of in stored]
            changed.clear()
        self._superfluous, self._gone = self._gone, []
        return items


def _key(source_offset: int) -> bytes:
    return EARLY + source_offset.to_bytes(8, "big")


def _read(key: bytes, stored: bytes) -> _Stored | None:
    try:
        found = _decode(content_of(KIND, stored))
        if key == _key(found.label.source_offset):
            return found
        raise ValueError("is another one")
    except (ValueError, OverflowError) as error:
        log.error("early label %s cannot be read, it is lost: %s", key.removeprefix(EARLY).hex(), error)
        return None
