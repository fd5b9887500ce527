"""The table of entity states: declaration, partitions in memory, what goes to changelog and store.

A Faust table in name, changelog, store and recovery. It is not written key by key: an event changes its
entity in memory, and a checkpoint takes what changed. Faust's own windowed tables are not used (their
expiry forgets its index on restart, and writes no tombstones).
"""

from __future__ import annotations

import logging
import time
from typing import Any

import faust
import numpy as np
from faust.types import TP

from compute.alert_columns import QUIET, WARNING
from compute.statistics import window_statistics
from tables.learning import Learning
from tables.owner import next_owner, read_owner
from tables.partition import Partition
from tables.reserved import PARTITION_KEY
from tables.stores import STORES, Item, PartitionedStore

log = logging.getLogger(__name__)

TABLE_NAME = "statistics"


class StatisticsTable(faust.Table):  # type: ignore[type-arg]
    """State by entity: window statistics, last applied offset, alert state."""

    data: PartitionedStore  # type: ignore[assignment]

    def __init__(self, app: Any, settings: Any) -> None:
        super().__init__(
            app,
            name=TABLE_NAME,
            partitions=settings.partitions,
            key_type=bytes,
            value_type=bytes,
            help="windowed running statistics and alert state by entity",
        )
        self._settings = settings
        self._partitions: dict[int, Partition] = {}
        self._disturbed: set[int] = set()

    def _new_store_by_url(self, url: Any) -> Any:
        store = STORES[str(url).partition(":")[0]]
        return store(url, self.app, self, table_name=self.name, loop=self.loop, options=self.options)

    def partition(self, number: int) -> Partition:
        """Return a partition's entities, which are read from the store as they are asked for."""
        found = self._partitions.get(number)
        if found is None:
            settings = self._settings
            found = self._partitions[number] = Partition(
                number, self.data, settings.panes, settings.pane_seconds, settings.cached_entities
            )
            found.learning = Learning(number, self.data, settings)
            (about,) = self.data.get_many(number, [PARTITION_KEY])
            if settings.delivery == "exactly_once":
                found.owner = read_owner(about)  # for those who come after it in at_least_once
            else:
                reached = self.data.persisted_offset(TP(self.changelog_topic_name, number))
                begin = 0 if reached is None else reached + 1
                found.owner = next_owner(about, begin, int(time.time() * 1000))
        return found

    def stored_about(self, number: int) -> bytes | None:
        """Return a partition's own record as it is stored."""
        (about,) = self.data.get_many(number, [PARTITION_KEY])
        return about

    def is_current(self, partition: Partition) -> bool:
        """Tell whether this is what `partition` would return: it was not forgotten since."""
        return self._partitions.get(partition.number) is partition

    def n_entities(self) -> int:
        """Entities in memory."""
        return sum(map(len, self._partitions.values()))

    def take_changes(self) -> dict[int, list[Item]]:
        """Return what changed since the last call, by partition, and take it as unchanged."""
        changes = {number: held.take_changes() for number, held in self._partitions.items()}
        return {number: items for number, items in changes.items() if items}

    def write(self, number: int, items: list[Item], changelog_offset: int) -> None:
        """Put what the changelog has acknowledged, its last record at `changelog_offset`, into the store."""
        self.data.write(number, items, self._offset_reached(number, len(items), changelog_offset))
        if number in self._partitions:
            self._partitions[number].shrink()

    def _offset_reached(self, number: int, n_records: int, last_offset: int) -> int:
        """Return the changelog offset up to which the store has everything, once it has these records.

        That is the last of ours only if ours are next to those before. Else another worker wrote in between,
        one that had lost the partition, or whose place we hold without knowing it. The store stays where it
        was then, so that the next recovery reads what the other one wrote.
        """
        if self._settings.delivery == "exactly_once":
            return last_offset  # offsets have gaps, from markers, and nobody else can write
        before = self.data.persisted_offset(TP(self.changelog_topic_name, number))
        reached = -1 if before is None else before
        if last_offset - n_records <= reached:
            return last_offset
        if number not in self._disturbed:
            self._disturbed.add(number)
            log.warning(
                "changelog %s, partition %d: another worker wrote between offsets %d and %d; "
                "the next recovery of the partition reads it again from there",
                *(self.changelog_topic_name, number, reached, last_offset - n_records + 1),
            )
        return reached

    def forget(self) -> None:
        """Drop all that is in memory; changes that no checkpoint took are lost and will be replayed."""
        self._partitions.clear()
        self._disturbed.clear()

    def locate(self, key: bytes) -> tuple[Partition, int] | None:
        """Return the partition and slot of an entity that this worker holds, or None.

        Every partition is asked: producers may use another partitioner than ours.
        """
        for number in self.held():
            partition = self.partition(number)
            slot = partition.find(key)
            if slot is not None:
                return partition, slot
        return None

    def held(self) -> list[int]:
        """Numbers of the partitions assigned to this worker."""
        topic = self.changelog_topic_name
        return sorted(tp.partition for tp in self.app.assignor.assigned_actives() if tp.topic == topic)

    def describe(self, key: bytes) -> dict[str, Any] | None:
        """Return what is known of one entity for the views, or None if this worker does not hold it."""
        located = self.locate(key)
        if located is None:
            return None
        partition, slot = located
        window = window_statistics(partition.columns, slot)
        alerts = partition.alerts
        firing = int(alerts.firing[slot])
        severity = None if firing == QUIET else "warning" if firing == WARNING else "critical"
        since = float(alerts.since[slot])
        return {
            "key": key.decode("utf-8", "backslashreplace"),
            "partition": partition.number,
            "window": {"start": window["start"], "end": window["end"]},
            "n_events": window["n_events"],
            "warming_up": window["n_events"] < self._settings.warmup_events,
            "features": window["features"],
            "last_offset": int(partition.columns.last_offset[slot]),
            "alerts": {
                "score": {
                    "state": "firing" if firing != QUIET else "quiet",
                    "severity": severity,
                    "since": since if np.isfinite(since) else None,
                    "suppressed": int(alerts.suppressed[slot]),
                }
            },
        }
