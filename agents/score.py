"""The score hop: a record batch of events in, predictions, alerts and dead letters out.

Owns the order of the steps and nothing of what they compute. Whatever a batch changes, it changes in one
synchronous step: state, next offset and records to send together, so a checkpoint never sees half a batch.
The built-in detector is part of that step. A published model is waited for before it: others have their turn
meanwhile, and what they may not touch is held.

A record batch is done whole, or part by part where the model that serves is slow or not known yet. Each part
is a batch to all that comes here, since any split gives the same answers.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from faust.types import TP
from numpy.typing import NDArray

from agents.answer import Answers
from agents.dead_letters import Fault, pack_dead_letters
from agents.decide import Decision, Rows, decide_by_detector
from agents.join import Joiner
from agents.lanes import Lanes
from agents.learn import Learner
from agents.meet import Met, meet
from agents.metrics import Metrics
from agents.outbox import Outbox
from agents.panel import Decided, Panel
from agents.sent_alerts import SentAlerts
from compute.alerts import AlertRule
from compute.decisions import arms_of
from compute.events import EventBatch, decode_batch
from compute.predictions import format_event_ids
from tables.models import ModelsTable
from tables.partition import NoRoomError, Partition
from tables.statistics import StatisticsTable

log = logging.getLogger(__name__)


class TopicEndError(RuntimeError):
    """The topic of events ends before what its state knows; the message says what to do."""


def check_topic_end(batch: Any, next_offset: int, changelog: str) -> None:
    """See whether the topic can have what the state of its partition has seen.

    Raises
    ------
    TopicEndError
    """
    if batch.end_offset is None or next_offset <= batch.end_offset:
        return
    error = TopicEndError(
        f"partition {batch.partition} of topic {batch.topic!r} ends at offset {batch.end_offset}, its "
        f"state has the records up to offset {next_offset - 1}: the topic was made anew or lost "
        "its end, and new records cannot be told from known ones. Set NOWCAST_GROUP to a new name, or "
        f"stop all workers and delete the topic {changelog!r} and their data "
        "directories; either way the state begins anew"
    )
    log.error("the worker stops: %s", error)
    raise error


class Scorer:
    """Scores record batches.

    Parameters
    ----------
    session : callable
        Gives something that is another one once the batch in hand need not be finished, since what is left of
        it will be read again: a rebalance began, or the worker stops.
    on_progress : callable
        Called after each part of a batch: a batch can take longer than anybody waits for a sign of life.
    labels_end : callable
        Gives the offset of a partition of the labels topic behind which there is nothing to join, None where
        it is not known.
    sent_alerts : SentAlerts, optional
        Alerts that are not to be sent again.

    Attributes
    ----------
    joiner : Joiner
        Joins labels to the answers.
    next_offsets : dict of TP to int
        By partition, the offset after the last event that was scored, and after the last label that was
        joined.
    suspended : bool
        Whether batches are ignored.
    """

    def __init__(
        self,
        settings: Any,
        table: StatisticsTable,
        models: ModelsTable,
        outbox: Outbox | Lanes,
        metrics: Metrics,
        session: Callable[[], object] = lambda: None,
        on_progress: Callable[[], None] = lambda: None,
        labels_end: Callable[[int], int | None] = lambda number: 0,
        sent_alerts: SentAlerts | None = None,
    ) -> None:
        self._settings = settings
        self._table = table
        self._models = models
        self._outbox = outbox
        self._metrics = metrics
        self._session = session
        self._on_progress = on_progress
        self._limits = settings.decode_limits
        self._rule = AlertRule(
            name="score",
            threshold=settings.alert_threshold,
            critical=settings.alert_critical,
            resolve=settings.alert_resolve,
            cooldown_seconds=settings.alert_cooldown_seconds,
            min_support=settings.alert_min_support,
        )
        self._panel = Panel(settings, models, metrics)
        self._answers = Answers(settings, outbox, sent_alerts or SentAlerts(settings, lambda number: None))
        self._learner = Learner(settings, self._answers, metrics)
        self.joiner = Joiner(settings, self._learner, self._answers, outbox, labels_end)
        self.suspended = False
        self.next_offsets: dict[TP, int] = {}

    def suspend(self) -> None:
        """Ignore batches from now on, the one in hand too: no state, nothing to send, no next offset."""
        self.suspended = True

    def resume(self) -> None:
        """Score again what comes from now on."""
        self.suspended = False

    async def score(self, batch: Any) -> None:
        """Score one record batch and hand over what comes of it."""
        if self.suspended:  # its state may be another worker's by now, and is not to be read
            return
        session, partition = self._session(), self._table.partition(batch.partition)
        records = batch.records
        check_topic_end(batch, partition.next_offset, self._table.changelog_topic_name)
        if records[0].offset < partition.next_offset:
            # In the state, so it was answered before that was written. A crash leads here, and Faust goes
            # back to the committed offset also within a session, when a fetch ends in a stopped flow.
            records = [record for record in records if record.offset >= partition.next_offset]
            self.next_offsets.setdefault(TP(batch.topic, batch.partition), partition.next_offset)
        n_done, n_most = 0, len(records)
        while n_done < len(records) and self._may_change(partition) and self._session() == session:
            self._panel.refresh()
            n_rows = self._panel.n_rows()
            part = records[n_done : n_done + (n_most if n_rows is None else min(n_rows, n_most))]
            try:
                await self._score_part(replace(batch, records=part), partition)
            except NoRoomError:  # of more than one entity, before anything was changed
                n_most = len(part) // 2
                continue
            n_done += len(part)
            await self._outbox.send()
            self._on_progress()

    def _may_change(self, partition: Partition) -> bool:
        return not self.suspended and self._table.is_current(partition)

    async def _score_part(self, batch: Any, partition: Partition) -> None:
        """Score records in one go; nothing comes of it if their partition is let go meanwhile."""
        started, now = time.perf_counter(), time.time()
        records = batch.records
        record_times = np.array([record.timestamp for record in records], np.float64) / 1000.0
        events = decode_batch(
            [record.key for record in records],
            [record.value for record in records],
            record_times,
            limits=self._limits,
            now=now,
            feature_names=partition.columns.features,
        )
        faults = [(event.position, event.code, event.message) for event in events.rejected]
        changes: list[tuple[str, str]] = []
        if len(events.index):
            met = meet(records, partition, events, self._settings)
            if self._panel.is_synchronous:
                decided = Decided(decide_by_detector(met.rows, self._rule))
            else:
                decided = await self._ask(partition, met)
                if not self._may_change(partition):
                    return
                if met.rows.matrix.shape[1] < partition.columns.n_features:
                    # A view brought an entity in from the store, with features of its own.
                    met = meet(records, partition, events, self._settings)
            more_faults, changes = self._answer(record_times, events, partition, met, decided)
            faults += more_faults
        pack_dead_letters(self._outbox, self._settings, batch.topic, batch.partition, records, sorted(faults))
        partition.next_offset = self.next_offsets[TP(batch.topic, batch.partition)] = batch.last_offset + 1
        self.joiner.settle(partition, float(record_times.max()))
        self._metrics.batch_scored(
            len(records),
            len(records) - len(faults),
            time.perf_counter() - started,
            Counter(code for _, code, _ in faults),
            changes,
        )

    async def _ask(self, partition: Partition, met: Met) -> Decided:
        partition.hold(met.slots)
        try:
            return await self._panel.decide(met.rows, partition.columns.features, self._rule)
        finally:
            partition.let_go()

    def _answer(
        self,
        record_times: NDArray[np.float64],
        events: EventBatch,
        partition: Partition,
        met: Met,
        decided: Decided,
    ) -> tuple[list[Fault], list[tuple[str, str]]]:
        """Learn, and pack what was decided; return the faults found, and the alerts' kinds."""
        watermark = partition.watermark
        # From here on nothing can fail for the sake of an event: now the batch may change the state.
        partition.columns.assign(met.learnt)
        partition.mark_changed(met.slots)
        partition.watermark = met.watermark
        given = self._given(met.rows, decided)
        seen = self._learner.see(record_times, events, partition, met.rows, decided, given, self._rule)
        faults, changes = list(met.faults), list[tuple[str, str]]()
        for rows, decision in self._arms(met.rows, seen, given):
            for row, (code, message) in decision.faults.items():
                faults.append((int(rows.position[row]), code, message))
            changes += self._answers.pack(partition, rows, decision)
        return faults, changes + self._learner.warn(partition, met.rows, watermark, seen.champion)

    def _given(self, rows: Rows, decided: Decided) -> NDArray[np.bool_]:
        """Tell which rows the challenger of a split answers: not those that it cannot."""
        split, other = self._models.split, self._challenger_of_split(decided)
        if split is None or other is None:
            return np.zeros(len(rows.keys), np.bool_)
        given = arms_of(rows.keys, split.version, split.share)
        given[list(other.faults)] = False
        return given

    def _challenger_of_split(self, decided: Decided) -> Decision | None:
        version = None if self._models.split is None else self._models.split.version
        return next((decision for decision in decided.challengers if decision.version == version), None)

    def _arms(self, rows: Rows, decided: Decided, given: NDArray[np.bool_]) -> list[tuple[Rows, Decision]]:
        """Return who answers which rows; an entity is always with the same arm."""
        other = self._challenger_of_split(decided)
        if other is None or not given.any():
            return [(rows, decided.champion)]
        arms = [(np.flatnonzero(~given), decided.champion), (np.flatnonzero(given), other)]
        return [(rows.take(which), decision.take(which)) for which, decision in arms if len(which)]

    def recent_predictions(self, key: bytes) -> list[dict[str, Any]]:
        """Return the last predictions for an entity that this worker holds, newest first."""
        located = self._table.locate(key)
        if located is None:
            return []
        partition, slot = located
        found = []
        for item in partition.recent.newest_first(slot):
            topic = self._settings.topic_events
            event_id = format_event_ids(topic, partition.number, [item.pop("offset")])[0]
            found.append({"id": event_id, "key": key.decode("utf-8", "backslashreplace"), **item})
        return found

    def recent_alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that this worker sent last, newest first."""
        return self._answers.recent_alerts()
