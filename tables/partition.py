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

from compute.alert_columns import PACKED_BYTES, AlertColumns, check_packed, is_marked
from compute.alerts import KEPT_WINDOWS
from compute.entity_columns import EntityColumns, EntityState
from compute.panes import EMPTY, MAX_PANE, silent
from compute.state_codec import decode_entity, decode_many, encode_many
from compute.state_format import HEADER
from tables.learning import Learning
from tables.owner import Owner
from tables.recent import RecentPredictions
from tables.reserved import BEHIND, PARTITION_KEY, PREFIX, read_alerts_begin
from tables.stores import Item, PartitionedStore

log = logging.getLogger(__name__)

MAX_MEMORY_BYTES = 1_000_000_000
MAX_OFFSET = 2**62

SWEEP_ITEMS, SWEEP_BYTES = 2_000, 8_000_000
"""Stored entities that a checkpoint looks at for silence: some milliseconds, a full round in minutes."""


class NoRoomError(Exception):
    """The entities of a batch are too many, with so many features, to be in memory together."""


def memory_bytes(n_panes: int, n_features: int) -> int:
    """Return what an entity takes in memory.

    Examples
    --------
    >>> memory_bytes(n_panes=12, n_features=4)
    3028
    """
    # In a pane: events, and of each feature count, mean in two parts, m2, minimum, maximum. Then the window
    # of all panes, alert state, last predictions and the slot itself.
    return n_panes * (8 + 48 * n_features) + 32 * n_features + 500


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
    next_label_offset : int
        Offset after the last record of labels that was joined.
    learning : Learning or None
        What the partition learns from labels; written with its entities.
    owner : Owner or None
        Who writes the partition, where its records say so.
    alerts_begin : int or None
        Offset in the topic of alerts from which on those of this partition are of this group, where its
        records say so; only beside an owner.
    """

    def __init__(
        self, number: int, store: PartitionedStore, n_panes: int, pane_seconds: float, max_entities: int
    ) -> None:
        self.number = number
        self.columns = EntityColumns(n_panes, pane_seconds)
        self.alerts = AlertColumns()
        self.recent = RecentPredictions()
        self.learning: Learning | None = None
        self.owner: Owner | None = None
        self._store = store
        self._max_entities = max_entities
        # Changed entities that left memory before a checkpoint took them, and what the last checkpoint took:
        # the store does not have these yet.
        self._waiting: dict[bytes, bytes] = {}
        self._taken: dict[bytes, bytes | None] = {}
        self._slots: dict[bytes, int] = {}
        self._keys: list[bytes | None] = []
        self._free: list[int] = []
        self._changed = np.zeros(0, np.bool_)
        self._used = np.zeros(0, np.int64)
        self._held = np.zeros(0, np.int64)
        self._clock = 0
        self._sweep_after: bytes | None = None
        (stored,) = store.get_many(number, [PARTITION_KEY])
        self.watermark, self.next_offset, self.next_label_offset = self._parse(stored)
        self._swept_watermark, self._first_offset = self.watermark, self.next_offset
        self._taken_label_offset = self.next_label_offset
        self.alerts_begin = self._taken_alerts_begin = read_alerts_begin(stored)

    def _parse(self, stored: bytes | None) -> tuple[int, int, int]:
        if stored is None:
            return EMPTY, 0, 0
        try:
            watermark, next_offset, *others = stored.split()
            kept_under = float(others[0]) if others else self.columns.pane_seconds
            label_offset = int(others[1]) if others[1:] else 0
            pane, offset = int(watermark), int(next_offset)
            if not (abs(pane) < MAX_PANE or pane == EMPTY):
                raise ValueError("out of bounds")
            if not (0 <= offset < MAX_OFFSET and 0 <= label_offset < MAX_OFFSET):
                raise ValueError("out of bounds")
            return _converted(pane, kept_under, self.columns.pane_seconds), offset, label_offset
        except ValueError:
            log.error("the record of partition %d cannot be read: %r", self.number, stored[:100])
            return EMPTY, 0, 0

    def __len__(self) -> int:
        return len(self._slots)

    def slots_of(self, keys: Sequence[bytes], features: Sequence[str] = ()) -> NDArray[np.int64]:
        """Return the slot of each key, bringing entities in from the store or making them.

        Every slot returned is taken as used now. What changes them says so by `mark_changed`, before anybody
        else has a turn; who gives others a turn in between holds them for so long. Where memory does not hold
        the new features or entities beside what is in it, all that is in it leaves first.

        Parameters
        ----------
        keys : sequence of bytes
        features : sequence of str
            Names that the columns must have.

        Raises
        ------
        NoRoomError
            These are different keys, and too many even so; nothing is lost.
        """
        found = list(map(self._slots.get, keys))
        new = [] if None not in found else [k for k in dict.fromkeys(keys) if k not in self._slots]
        states = self._read(new)
        if not self._has_room(len(new), features, states):
            self._empty_memory()
            new = list(dict.fromkeys(keys))
            states = self._read(new)
            if len(new) > 1 and not self._has_room(len(new), features, states):
                raise NoRoomError
        self.columns.add_features(features)
        if new:
            self._bring_in(new, states)
            found = list(map(self._slots.get, keys))
        slots = np.array(found, np.int64)
        self._clock += 1
        self._used[slots] = self._clock
        return slots

    def mark_changed(self, slots: NDArray[np.int64]) -> None:
        """Let the next checkpoint write these."""
        self._changed[slots] = True

    def hold(self, slots: NDArray[np.int64]) -> None:
        """Keep these where they are, in place of those held before, until `let_go`."""
        self._held = slots

    def let_go(self) -> None:
        """Hold nothing any more."""
        self._held = self._held[:0]

    def find(self, key: bytes) -> int | None:
        """Return the slot of an entity that exists, or None; nothing is made."""
        if key not in self._slots:
            states = {} if key.startswith(PREFIX) else self._read([key])
            if not states:
                return None
            if not self._has_room(1, (), states):
                if self._held.size:
                    return None  # what is held cannot leave, and is soon let go
                self._empty_memory()
            self._bring_in([key], states)
        slot = self._slots[key]
        if self.columns.newest[slot] == EMPTY and slot in self._held:
            return None  # made for a batch that is not learnt yet
        return slot

    def _read(self, keys: list[bytes]) -> dict[bytes, EntityState]:
        """Return what is known of entities that are not in memory."""
        stored: dict[bytes, bytes | None] = {}
        for outside in (self._taken, self._waiting):
            if outside:
                stored.update((key, outside[key]) for key in keys if key in outside)
        asked = [key for key in keys if key not in stored] if stored else keys
        if asked:
            stored.update(zip(asked, self._store.get_many(self.number, asked), strict=True))
        return self._decode({key: value for key in keys if (value := stored[key]) is not None})

    @staticmethod
    def _decode(stored: dict[bytes, bytes]) -> dict[bytes, EntityState]:
        try:
            return dict(zip(stored, map(_checked, decode_many(list(stored.values()))), strict=True))
        except ValueError:
            states = {}
            for key, value in stored.items():
                try:
                    states[key] = _checked(decode_entity(value))
                except ValueError as error:
                    # Refusing to start would stop all entities of the partition for the sake of one.
                    log.error("stored state of entity %r cannot be read, it starts anew: %s", key, error)
            return states

    def _bring_in(self, keys: list[bytes], states: dict[bytes, EntityState]) -> None:
        slots = self._allocate(keys)
        self.columns.last_offset[slots] = self._first_offset - 1
        known = [(slot, state) for slot, key in zip(slots, keys, strict=True) if (state := states.get(key))]
        if known:
            self.columns.put([slot for slot, _ in known], [self._fit(state) for _, state in known])
            with_alerts = [(slot, state.extra) for slot, state in known if state.extra]
            if with_alerts:
                where = np.array([slot for slot, _ in with_alerts], np.int64)
                self.alerts.unpack(where, b"".join(extra for _, extra in with_alerts))
        if self._waiting:
            changed = [self._slots[key] for key in keys if self._waiting.pop(key, None) is not None]
            self._changed[changed] = True

    def _fit(self, state: EntityState) -> EntityState:
        """Empty a window that was kept under other settings; offset and alert state stay."""
        if (state.n_panes, state.pane_seconds) == (self.columns.n_panes, self.columns.pane_seconds):
            return state
        return replace(
            state,
            n_panes=self.columns.n_panes,
            pane_seconds=self.columns.pane_seconds,
            newest=EMPTY,
            seen=_converted(state.seen, state.pane_seconds, self.columns.pane_seconds),
            panes=state.panes[:0],
            n_events=state.n_events[:0],
            moments=state.moments.take(np.zeros(0, np.int64)),
            minimum=state.minimum[:0],
            maximum=state.maximum[:0],
        )

    def _has_room(self, n_new: int, features: Sequence[str], states: dict[bytes, EntityState]) -> bool:
        """Tell whether memory holds so many entities more, and these features."""
        known = self.columns.features
        n_features = len(set(known).union(features, *{state.features for state in states.values()}))
        n_slots = max(self.columns.n_slots, len(self._slots) + n_new)
        return n_slots * memory_bytes(self.columns.n_panes, n_features) <= MAX_MEMORY_BYTES

    def _empty_memory(self) -> None:
        """Let everything leave memory; what changed waits as it will be stored."""
        changed = np.flatnonzero(self._changed)
        self._waiting.update(self._encode(changed))
        self._slots.clear()
        self._keys.clear()
        self._free.clear()
        self._changed, self._used = self._changed[:0], self._used[:0]
        self.columns = EntityColumns(self.columns.n_panes, self.columns.pane_seconds, self.columns.features)
        self.alerts, self.recent = AlertColumns(), RecentPredictions()

    def _encode(self, slots: NDArray[np.int64]) -> list[tuple[bytes, bytes]]:
        keys: list[Any] = [self._keys[slot] for slot in slots.tolist()]
        packed = self.alerts.pack(slots).tobytes()
        extras = [packed[at : at + PACKED_BYTES] for at in range(0, len(packed), PACKED_BYTES)]
        return list(zip(keys, encode_many(self.columns, slots, extras), strict=True))

    def _allocate(self, keys: list[bytes]) -> list[int]:
        n_new = len(keys) - len(self._free)
        if n_new > 0:
            n_slots = len(self._keys) + n_new
            room = MAX_MEMORY_BYTES // memory_bytes(self.columns.n_panes, self.columns.n_features)
            self.columns.grow(n_slots, most=room)
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
        items += self._encode(changed)
        self._changed[changed] = False
        items += self._waiting.items()
        items += [(key, None) for key in self._sweep()]
        self._taken.update(items)
        self._waiting.clear()
        if self.learning is not None:
            items += self.learning.take_changes(self.next_offset + self.next_label_offset)
        taken = (self._taken_label_offset, self._taken_alerts_begin)
        if items or (self.next_label_offset, self.alerts_begin) != taken:
            # Panes are of the length that they are now: another one must not move the watermark.
            about = f"{self.watermark} {self.next_offset} {self.columns.pane_seconds!r}"
            rest = "" if self.owner is None else " {} {}".format(*self.owner)
            if self.owner is not None and self.alerts_begin is not None:
                rest += f" {self.alerts_begin}"
            items.append((PARTITION_KEY, f"{about} {self.next_label_offset}{rest}".encode()))
            self._taken_label_offset, self._taken_alerts_begin = self.next_label_offset, self.alerts_begin
        return items

    def shrink(self) -> None:
        """Let go of the entities unused for longest; to be called when the changes are in the store."""
        self._taken.clear()
        if self.learning is not None:
            self.learning.wrote()
        entity_bytes = memory_bytes(self.columns.n_panes, self.columns.n_features)
        max_entities = min(self._max_entities, max(MAX_MEMORY_BYTES // entity_bytes, 100))
        n_over = len(self._slots) - max_entities
        if n_over <= 0:
            return
        idle = np.flatnonzero(~self._changed & self._free_to_go())
        n_leave = min(len(idle), n_over + max_entities // 10)
        if n_leave:
            self._release(idle[np.argsort(self._used[idle], kind="stable")[:n_leave]])

    def _free_to_go(self) -> NDArray[np.bool_]:
        """Tell of each slot whether an entity has it that nobody holds."""
        free_to_go = np.ones(len(self._keys), np.bool_)
        free_to_go[self._free] = False
        free_to_go[self._held] = False
        return free_to_go

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
        n_slots, n_panes = len(self._keys), self.columns.n_panes
        seen, had_alert = self.columns.seen[:n_slots], np.isfinite(self.alerts.last_fired[:n_slots])
        is_gone = silent(seen, self.watermark, n_panes)
        is_gone &= ~had_alert | silent(seen, self.watermark, n_panes * KEPT_WINDOWS)
        gone = np.flatnonzero(is_gone & self._free_to_go())
        keys = [key for slot in gone.tolist() if (key := self._keys[slot]) is not None]
        self._release(gone)
        return keys

    def _sweep(self) -> list[bytes]:
        if self._sweep_after is None:
            return []
        items = self._store.scan(self.number, self._sweep_after, SWEEP_ITEMS, SWEEP_BYTES)
        is_full = len(items) == SWEEP_ITEMS or sum(len(value) for _, value in items) >= SWEEP_BYTES
        self._sweep_after = items[-1][0] if is_full else None
        if items and items[-1][0].startswith(PREFIX):
            self._sweep_after = BEHIND
        elsewhere = (self._slots, self._waiting, self._taken)
        return [
            key
            for key, value in items
            if not key.startswith(PREFIX)
            and not any(key in others for others in elsewhere)
            and self._is_gone(value)
        ]

    def _is_gone(self, stored: bytes) -> bool:
        """Tell whether an entity in the store is silent; decoding all of it would take far longer."""
        if len(stored) < HEADER.size:
            return True
        *_, extra_bytes, pane_seconds, _, seen, _ = HEADER.unpack_from(stored)
        windows = KEPT_WINDOWS if extra_bytes and is_marked(stored[-extra_bytes:]) else 1
        silence = self.watermark - _converted(seen, pane_seconds, self.columns.pane_seconds)
        return bool(silence >= self.columns.n_panes * windows)


def _checked(state: EntityState) -> EntityState:
    if state.extra:
        check_packed(state.extra)
    return state


def _converted(pane: int, from_seconds: float, to_seconds: float) -> int:
    """Return the pane of another length in which a pane begins."""
    if pane == EMPTY or from_seconds == to_seconds or not 0 < from_seconds < MAX_PANE:
        return pane
    return int(min(max(pane * from_seconds // to_seconds, 1 - MAX_PANE), MAX_PANE - 1))
