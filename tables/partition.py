"""The entities of one partition in memory: which key has which slot, what changed, who may leave.

Owns slots and their life. The numbers in them belong to the columns of `compute/`; the entities that are
not in memory wait in the store, from where they come back when an event names them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.alert_columns import PACKED_BYTES, AlertColumns
from compute.entity_columns import EntityColumns, EntityState
from compute.panes import EMPTY, silent
from compute.state_codec import decode_entity, decode_many, encode_many
from compute.state_format import HEADER_FIELDS
from tables.recent import RecentPredictions
from tables.stores import Item, PartitionedStore

log = logging.getLogger(__name__)

PARTITION_KEY = b"\x00nowcast-partition"
"""Record of the partition itself: watermark and next offset, written behind its entities."""

SEEN_AT = int(HEADER_FIELDS.fields["seen"][1])  # type: ignore[index]
"""Where a stored entity keeps `seen`: a sweep asks for it alone, decoding all would take far longer."""

MAX_MEMORY_BYTES = 1_000_000_000
BYTES_PER_VALUE = 48
"""Of a feature in a pane: count, mean in two parts, m2, minimum, maximum."""

SWEEP_ITEMS = 2_000
"""Stored entities that a checkpoint looks at for silence: some milliseconds, a full round in minutes."""


class Partition:
    """One partition's entities in memory, in front of its part of the store.

    Attributes
    ----------
    columns, alerts, recent
        Columns by slot: statistics, alert state, last predictions.
    watermark : int
        Highest pane of the partition so far; kept, so that silence is measured the same after a restart.
    next_offset : int
        Offset after the last event that was applied. Events below it are replays, also to entities that
        are not known any more: one that was removed is not brought back by a replay.
    """

    def __init__(
        self, number: int, store: PartitionedStore, n_panes: int, pane_seconds: float, max_entities: int
    ) -> None:
        self.number = number
        self.columns = EntityColumns(n_panes, pane_seconds)
        self.alerts = AlertColumns()
        self.recent = RecentPredictions()
        self._store = store
        self._max_entities = max_entities
        self._slots: dict[bytes, int] = {}
        self._keys: list[bytes | None] = []
        self._free: list[int] = []
        self._changed = np.zeros(0, np.bool_)
        self._used = np.zeros(0, np.int64)
        self._clock = 0
        self._sweep_after: bytes | None = None
        (stored,) = store.get_many(number, [PARTITION_KEY])
        watermark, next_offset = (EMPTY, 0) if stored is None else map(int, stored.split())
        self.watermark = self._swept_watermark = watermark
        self.next_offset = self._first_offset = next_offset

    def __len__(self) -> int:
        return len(self._slots)

    def slots_of(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Return the slot of each key, bringing entities in from the store or making them.

        Every slot returned is taken as changed and as used now.
        """
        found = list(map(self._slots.get, keys))
        if None in found:
            self._bring_in(
                list(dict.fromkeys(key for key, slot in zip(keys, found, strict=True) if slot is None))
            )
            found = list(map(self._slots.get, keys))
        slots = np.array(found, np.int64)
        self._clock += 1
        self._used[slots] = self._clock
        self._changed[slots] = True
        return slots

    def find(self, key: bytes) -> int | None:
        """Return the slot of an entity that exists, or None; nothing is made."""
        if key not in self._slots:
            (stored,) = self._store.get_many(self.number, [key])
            if stored is None or key == PARTITION_KEY:
                return None
            self._bring_in([key])
        return self._slots[key]

    def _bring_in(self, keys: list[bytes]) -> None:
        slots = self._allocate(keys)
        stored = self._store.get_many(self.number, keys)
        self.columns.last_offset[slots] = self._first_offset - 1
        known = self._decode(slots, keys, stored)
        if known:
            self.columns.put([slot for slot, _ in known], [self._fit(state) for _, state in known])
            with_alerts = [(slot, state.extra) for slot, state in known if len(state.extra) == PACKED_BYTES]
            if with_alerts:
                where = np.array([slot for slot, _ in with_alerts], np.int64)
                self.alerts.unpack(where, b"".join(extra for _, extra in with_alerts))

    @staticmethod
    def _decode(
        slots: list[int], keys: list[bytes], stored: list[bytes | None]
    ) -> list[tuple[int, EntityState]]:
        found = [
            (slot, key, value)
            for slot, key, value in zip(slots, keys, stored, strict=True)
            if value is not None
        ]
        try:
            states = decode_many([value for _, _, value in found])
            return [(slot, state) for (slot, _, _), state in zip(found, states, strict=True)]
        except ValueError:
            known = []
            for slot, key, value in found:
                try:
                    known.append((slot, decode_entity(value)))
                except ValueError as error:
                    # Refusing to start would stop all entities of the partition for the sake of one.
                    log.error("stored state of entity %r cannot be read, it starts anew: %s", key, error)
            return known

    def _fit(self, state: EntityState) -> EntityState:
        """Empty a window that was kept under other settings; offset and alert state stay."""
        if (state.n_panes, state.pane_seconds) == (self.columns.n_panes, self.columns.pane_seconds):
            return state
        return replace(
            state,
            n_panes=self.columns.n_panes,
            pane_seconds=self.columns.pane_seconds,
            newest=EMPTY,
            seen=EMPTY,
            panes=state.panes[:0],
            n_events=state.n_events[:0],
            moments=state.moments.take(np.zeros(0, np.int64)),
            minimum=state.minimum[:0],
            maximum=state.maximum[:0],
        )

    def _allocate(self, keys: list[bytes]) -> list[int]:
        n_new = len(keys) - len(self._free)
        if n_new > 0:
            n_slots = len(self._keys) + n_new
            self.columns.grow(n_slots)
            self.alerts.grow(n_slots)
            self.recent.grow(self.columns.n_slots)
            self._changed = np.concatenate([self._changed, np.zeros(n_new, np.bool_)])
            self._used = np.concatenate([self._used, np.zeros(n_new, np.int64)])
            self._free.extend(range(n_slots - 1, len(self._keys) - 1, -1))
            self._keys.extend([None] * n_new)
        slots = [self._free.pop() for _ in keys]
        for key, slot in zip(keys, slots, strict=True):
            self._slots[key] = slot
            self._keys[slot] = key
        return slots

    def take_changes(self) -> list[Item]:
        """Return stored forms of what changed since the last call; None for entities that are gone.

        Entities silent for longer than the window go, those in memory at once and the stored ones by a
        sweep that each checkpoint carries on a little. Beyond the bound of entities in memory, those
        unused for longest leave it; what they are is in the items returned or in the store.
        """
        items: list[Item] = [(key, None) for key in self._remove_silent()]
        changed = np.flatnonzero(self._changed)
        keys: list[Any] = [self._keys[slot] for slot in changed.tolist()]
        packed = self.alerts.pack(changed).tobytes()
        extras = [packed[at : at + PACKED_BYTES] for at in range(0, len(packed), PACKED_BYTES)]
        items += zip(keys, encode_many(self.columns, changed, extras), strict=True)
        self._changed[changed] = False
        items += [(key, None) for key in self._sweep()]
        if items:
            items.append((PARTITION_KEY, f"{self.watermark} {self.next_offset}".encode()))
        return items

    def shrink(self) -> None:
        """Let go of the entities unused for longest; to be called when the changes are in the store."""
        entity_bytes = BYTES_PER_VALUE * self.columns.n_panes * max(self.columns.n_features, 1)
        max_entities = min(self._max_entities, max(MAX_MEMORY_BYTES // entity_bytes, 100))
        n_over = len(self._slots) - max_entities
        if n_over <= 0:
            return
        idle = np.flatnonzero(~self._changed & self._occupied())
        n_leave = min(len(idle), n_over + max_entities // 10)
        if n_leave:
            self._release(idle[np.argsort(self._used[idle], kind="stable")[:n_leave]])

    def _occupied(self) -> NDArray[np.bool_]:
        occupied = np.ones(len(self._keys), np.bool_)
        occupied[self._free] = False
        return occupied

    def _release(self, slots: NDArray[np.int64]) -> None:
        for slot in slots.tolist():
            key = self._keys[slot]
            assert key is not None
            del self._slots[key]
            self._keys[slot] = None
            self._free.append(slot)
        self.columns.clear(slots)
        self.alerts.clear(slots)
        self.recent.clear(slots)
        self._changed[slots] = False

    def _remove_silent(self) -> list[bytes]:
        if self.watermark == self._swept_watermark:
            return []
        if self._sweep_after is None:
            self._sweep_after = b""
        self._swept_watermark = self.watermark
        n_slots = len(self._keys)
        gone = np.flatnonzero(
            silent(self.columns.seen[:n_slots], self.watermark, self.columns.n_panes) & self._occupied()
        )
        keys = [key for slot in gone.tolist() if (key := self._keys[slot]) is not None]
        self._release(gone)
        return keys

    def _sweep(self) -> list[bytes]:
        if self._sweep_after is None:
            return []
        items = self._store.scan(self.number, self._sweep_after, SWEEP_ITEMS)
        self._sweep_after = items[-1][0] if len(items) == SWEEP_ITEMS else None
        newest_gone = self.watermark - self.columns.n_panes
        return [
            key
            for key, value in items
            if key not in self._slots
            and key != PARTITION_KEY
            and int.from_bytes(value[SEEN_AT : SEEN_AT + 8], "little", signed=True) <= newest_gone
        ]
