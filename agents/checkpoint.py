"""Checkpoints: what was processed becomes durable, in the order that a crash at any line survives.

The order: predictions, alerts and dead letters acknowledged by the broker; then the changed entities
in the changelog, acknowledged; then in the local store; then, by the transport, the offsets. State
that is read back is therefore never behind the committed offset, and an alert is never marked as
raised in a state whose alert did not go out. What a crash leaves between two steps is done again
under the same ids: an event at or below its entity's last offset is not applied a second time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from faust.types import TP

from agents.metrics import Metrics
from agents.outbox import Outbox, Packed
from agents.score import Scorer
from tables.statistics import StatisticsTable
from tables.stores import Item


class Checkpoint:
    """Takes checkpoints for the transport, one at a time (Faust commits one at a time)."""

    def __init__(self, scorer: Scorer, table: StatisticsTable, outbox: Outbox, metrics: Metrics) -> None:
        self._scorer = scorer
        self._table = table
        self._outbox = outbox
        self._metrics = metrics
        self._broken: BaseException | None = None

    async def take(self) -> Mapping[TP, int]:
        """Make durable everything processed so far.

        Returns
        -------
        mapping of TP to int
            By partition, the offset of the first event that is not durable.
        """
        if self._broken is not None:
            raise RuntimeError("an earlier checkpoint failed, no offset may be committed") from self._broken
        try:
            return await self._take()
        except BaseException as error:
            # What changed was taken and is not written: Faust takes another checkpoint on its way out, which
            # would commit the offsets without that.
            self._broken = error
            raise

    async def _take(self) -> Mapping[TP, int]:
        # No await in between: offsets and state are of one moment. Scoring goes on during the rest.
        started = time.perf_counter()
        offsets = dict(self._scorer.next_offsets)
        changes = self._table.take_changes()
        await self._outbox.flush()
        written = {partition: self._write_changelog(partition, items) for partition, items in changes.items()}
        await self._outbox.flush()
        for partition, items in changes.items():
            self._table.write(partition, items, written[partition].last_offset)
        self._metrics.checkpoint_taken(sum(map(len, changes.values())), time.perf_counter() - started)
        return offsets

    def _write_changelog(self, partition: int, items: list[Item]) -> Packed:
        """Pack changed entities, then the partition's own record in a batch by itself.

        The embedded broker takes the base offset of the last batch for the end of a topic, and recovery
        reads to the end: with one record in that batch it is the same.
        """
        topic = self._table.changelog_topic_name
        *entities, (key, value) = items
        self._outbox.pack(topic, partition, [key for key, _ in entities], [value for _, value in entities])
        return self._outbox.pack(topic, partition, [key], [value])[-1]

    async def forget(self, app: Any, revoked: Any, **kwargs: Any) -> None:
        """Drop what is in memory once partitions were revoked and the last checkpoint is taken.

        A partition that comes back may have been another worker's meanwhile; its state is read again.
        """
        self._scorer.next_offsets.clear()
        self._table.forget()
