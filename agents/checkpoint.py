"""Checkpoints: what was processed becomes durable, in the order that a crash at any line survives.

In `at_least_once` the order is: predictions, alerts and dead letters acknowledged by the broker; then the
changed entities in the changelog, acknowledged; then in the local store; then, by the transport, the offsets.
In `exactly_once` all of it but the store is one transaction per partition. State that is read back is
therefore never behind the committed offset, and an alert is never marked as raised in a state whose alert
did not go out. What a crash leaves between two steps is done again under the same ids: an event at or below
its entity's last offset is not applied a second time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from faust.types import TP

from agents.lanes import Lanes
from agents.metrics import Metrics
from agents.outbox import CutOffError, Outbox
from agents.score import Scorer
from tables.statistics import StatisticsTable

log = logging.getLogger(__name__)


class Checkpoint:
    """Takes checkpoints for the transport, one at a time (Faust commits one at a time).

    Parameters
    ----------
    rejoin : callable
        Asks the group for a new assignment, after this worker was cut off.
    """

    def __init__(
        self,
        scorer: Scorer,
        table: StatisticsTable,
        outbox: Outbox | Lanes,
        metrics: Metrics,
        rejoin: Callable[[], None],
    ) -> None:
        self._scorer = scorer
        self._table = table
        self._outbox = outbox
        self._metrics = metrics
        self._rejoin = rejoin
        self._broken: BaseException | None = None

    async def begin(self, partitions: Collection[int]) -> None:
        """Make ready for the partitions assigned, before their state and offsets are read."""
        await self._outbox.open(partitions)
        self._scorer.resume()

    async def take_first(self, alerts_begins: Mapping[int, int]) -> None:
        """Write down where in their topic the alerts of new partitions begin, before the first is sent.

        Without that nobody would know, after a crash before the first checkpoint, which were sent since.

        Parameters
        ----------
        alerts_begins : mapping of int to int
            By partition, that offset.
        """
        for number, begin in alerts_begins.items():
            self._table.partition(number).alerts_begin = begin
        if alerts_begins:
            try:
                await self._take()
            except CutOffError as error:
                self.cut_off(error)

    async def release(self, partitions: Collection[int]) -> None:
        """End transactions of these partitions that the broker keeps open though nobody holds them."""
        try:
            await self._outbox.release(partitions)
        except CutOffError as error:
            self.cut_off(error)

    async def take(self) -> Mapping[TP, int]:
        """Make durable everything processed so far.

        Returns
        -------
        mapping of TP to int
            By partition, the offset of the first event that is not durable; what is committed already is
            left out.
        """
        if self._broken is not None:
            raise RuntimeError("an earlier checkpoint failed, no offset may be committed") from self._broken
        try:
            return await self._take()
        except CutOffError as error:
            self.cut_off(error)
            return {}
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
        written = await self._outbox.make_durable(self._table.changelog_topic_name, changes, offsets)
        for partition, items in changes.items():
            self._table.write(partition, items, written[partition])
        self._metrics.checkpoint_taken(sum(map(len, changes.values())), time.perf_counter() - started)
        return {} if self._outbox.commits_offsets else offsets

    def cut_off(self, error: CutOffError) -> None:
        """Stop scoring, drop what is in memory and ask for a new assignment; nothing of it is committed."""
        if self._scorer.suspended:
            return
        log.warning("this worker was cut off from its group, it drops its state and joins anew: %s", error)
        self._scorer.suspend()
        self._drop()
        self._rejoin()

    async def forget(self, app: Any, revoked: Any, **kwargs: Any) -> None:
        """Drop what is in memory once partitions were revoked and the last checkpoint is taken.

        A partition that comes back may have been another worker's meanwhile; its state is read again.
        """
        self._drop()
        await self._outbox.close()

    def _drop(self) -> None:
        self._scorer.next_offsets.clear()
        self._table.forget()
