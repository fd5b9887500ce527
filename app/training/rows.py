"""From records to rows that a model can learn from: what the events met, by the very functions that serve.

Owns which events become rows. A record is decoded, meets its entity's statistics and is normalised by the
functions of the score hop, in the order of its partition; so a row is what a model would have been given.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.meet import meet
from app.settings import Settings
from app.training.request import OWN_LABEL, Request
from compute.events import decode_batch
from compute.labels import canonical_class, numeric_label
from compute.training.sample import NewestRows
from tables.partition import NoRoomError, Partition
from tables.stores import Item

CHUNK_EVENTS = 2_000
"""Of one partition, taken together. Fetches differ from run to run, and with them the last bits of sums."""

CHECKPOINT_CHUNKS = 50
"""Of a partition, between two times at which its idle entities leave memory."""


@dataclass
class Tally:
    """What became of the events that were read.

    Attributes
    ----------
    n_events : int
    rejected : Counter of str
        Those that would be dead letters, by code.
    n_outside : int
        Those before or after the times asked for; they taught the statistics.
    n_warming_up : int
        Labelled ones whose entity had seen too little for a z-score.
    n_unlabelled : int
    n_older : int
        Those older than the later labels that are held.
    n_unusable : int
        Those whose label is no number where one is needed.
    n_late_labels : int
        Labels that came too late; their events are among the unlabelled.
    """

    n_events: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    n_outside: int = 0
    n_warming_up: int = 0
    n_unlabelled: int = 0
    n_older: int = 0
    n_unusable: int = 0
    n_late_labels: int = 0

    @property
    def n_rejected(self) -> int:
        """Events that would be dead letters."""
        return self.rejected.total()

    def __str__(self) -> str:
        """Tell what was left out, and why."""
        reasons = {
            "outside of --from and --to": self.n_outside,
            "older than enough labels": self.n_older,
            "without a label": self.n_unlabelled,
            "warming up": self.n_warming_up,
            f"refused as dead letters ({', '.join(sorted(self.rejected))})": self.n_rejected,
            "with a label that is no usable number": self.n_unusable,
        }
        told = ", ".join(f"{n:,} {reason}" for reason, n in reasons.items() if n) or "none left out"
        late = f"; {self.n_late_labels:,} labels came too late" if self.n_late_labels else ""
        return f"{self.n_events:,} events read, {told}{late}"


class Rows:
    """Turns the records of all partitions into rows of a sample.

    Parameters
    ----------
    settings : Settings
        Of these: what the score hop has as well.
    wanted : Request
        Of these: task, target, normaliser, max_events, from_seconds, to_seconds.
    later : callable
        Gives the label that came later than an event's record, or None.

    Attributes
    ----------
    newest : NewestRows
    tally : Tally
    first_seconds : dict of int to float
        By partition, the earliest event time.
    """

    def __init__(
        self, settings: Settings, wanted: Request, later: Callable[[Any], Any] = lambda record: None
    ) -> None:
        self._settings = settings
        self._wanted = wanted
        self._later = later
        self._limits = settings.decode_limits
        self._partitions: dict[int, _Held] = {}
        self._waiting: dict[int, list[Any]] = {}
        self.newest = NewestRows(wanted.task, wanted.max_events)
        self.tally = Tally()
        self.first_seconds: dict[int, float] = {}

    def add(self, number: int, records: Sequence[Any]) -> None:
        """Add records of one partition, in the order of their offsets.

        Parameters
        ----------
        number : int
            Of the partition.
        records : sequence
            With key, value, timestamp (ms; 0 or less: unknown) and offset.
        """
        waiting = self._waiting.setdefault(number, [])
        waiting.extend(records)
        n_whole = len(waiting) // CHUNK_EVENTS * CHUNK_EVENTS
        for start in range(0, n_whole, CHUNK_EVENTS):
            self._add_chunk(number, waiting[start : start + CHUNK_EVENTS])
        del waiting[:n_whole]

    def finish(self) -> None:
        """Take in what still waits for others, once there are no more."""
        for number, records in sorted(self._waiting.items()):
            self._add_chunk(number, records)
        self._waiting.clear()

    def _add_chunk(self, number: int, records: list[Any]) -> None:
        n_done, n_most = 0, len(records)
        while n_done < len(records):
            part = records[n_done : n_done + n_most]
            try:
                self._add_part(number, part)
            except NoRoomError:  # of more than one entity, before anything was changed
                n_most = len(part) // 2
                continue
            n_done += len(part)
        held = self._partition(number)
        held.n_chunks += 1
        if held.n_chunks % CHECKPOINT_CHUNKS == 0:
            # Idle entities leave memory, and silent ones go, as they do while serving.
            held.store.write(number, held.partition.take_changes(), 0)
            held.partition.shrink()

    def _add_part(self, number: int, records: Sequence[Any]) -> None:
        partition = self._partition(number).partition
        events = decode_batch(
            [record.key for record in records],
            [record.value for record in records],
            np.array([record.timestamp for record in records], np.float64) / 1000.0,
            limits=self._limits,
            now=math.inf,  # the record's own time alone bounds an event's, as when it was scored
            feature_names=partition.columns.features,
        )
        self.tally.n_events += len(records)
        self.tally.rejected.update(fault.code for fault in events.rejected)
        if len(events.index):
            met = meet(records, partition, events, self._settings)
            partition.columns.assign(met.learnt)
            partition.mark_changed(met.slots)
            partition.watermark = met.watermark
            self.tally.rejected.update(code for _, code, _ in met.faults)
            if len(met.rows.keys):
                first = float(met.rows.timestamps.min())
                self.first_seconds[number] = min(first, self.first_seconds.get(number, first))
                self._take_rows(number, records, met.rows, events.labels, partition.columns.features)
        partition.next_offset = records[-1].offset + 1

    def _take_rows(
        self,
        number: int,
        records: Sequence[Any],
        rows: Any,
        own: Mapping[int, Any],
        names: tuple[str, ...],
    ) -> None:
        inside = (rows.timestamps >= self._wanted.from_seconds) & (rows.timestamps < self._wanted.to_seconds)
        labels = self._labels(records, rows, own, names, inside.tolist())
        is_normalised = self._wanted.normaliser == "window"
        to_target = _TARGETS[self._wanted.task]
        chosen, targets = [], []
        for row, label in enumerate(labels):
            if not inside[row]:
                self.tally.n_outside += 1
            elif label is None:
                self.tally.n_unlabelled += 1
            elif is_normalised and rows.warming_up[row]:
                self.tally.n_warming_up += 1
            else:
                try:
                    targets.append(to_target(label))
                    chosen.append(row)
                except ValueError:
                    self.tally.n_unusable += 1
        if chosen:
            taken = rows.take(np.array(chosen, np.int64))
            inputs = taken.z if is_normalised else taken.matrix
            self.newest.add(names, inputs, taken.mean, targets, taken.timestamps, number, taken.offsets)

    def _labels(
        self,
        records: Sequence[Any],
        rows: Any,
        own: Mapping[int, Any],
        names: tuple[str, ...],
        inside: list[bool],
    ) -> list[Any]:
        target = self._wanted.target
        if target == OWN_LABEL:
            return [
                None if not is_inside else own[place] if place in own else self._later(records[place])
                for place, is_inside in zip(rows.position.tolist(), inside, strict=True)
            ]
        if target not in names:
            return [None] * len(rows.keys)
        values = rows.matrix[:, names.index(target)].tolist()
        return [None if value != value else value for value in values]

    def _partition(self, number: int) -> _Held:
        if number not in self._partitions:
            settings = self._settings
            store: Any = _Store()  # it has what is asked for outside of a recovery
            partition = Partition(
                number, store, settings.panes, settings.pane_seconds, settings.cached_entities
            )
            self._partitions[number] = _Held(partition, store)
        return self._partitions[number]


@dataclass
class _Held:
    partition: Partition
    store: _Store
    n_chunks: int = 0


_TARGETS: dict[str, Callable[[Any], Any]] = {"classification": canonical_class, "regression": numeric_label}


class _Store:
    """The states of one partition's entities that are not in memory, in their stored form."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._values.get(key) for key in keys]

    def write(self, partition: int, items: Sequence[Item], changelog_offset: int) -> None:
        for key, value in items:
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value

    def scan(self, partition: int, after: bytes, limit: int, max_bytes: int) -> list[tuple[bytes, bytes]]:
        found, n_bytes = [], 0
        for key in sorted(key for key in self._values if key > after)[:limit]:
            found.append((key, self._values[key]))
            n_bytes += len(self._values[key])
            if n_bytes >= max_bytes:
                break
        return found
