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
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from faust.types import TP

from agents.decide import Decision, Rows, decide_by_detector, decide_by_model
from agents.lanes import Lanes
from agents.meet import Fault, Met, meet
from agents.metrics import Metrics
from agents.model_calls import ModelCaller
from agents.outbox import Outbox
from compute.alert_messages import encode_alert
from compute.alerts import AlertRule, evaluate_alerts
from compute.dead_letters import dead_letter_headers, fit_dead_letter
from compute.events import DecodeLimits, decode_batch
from compute.predictions import encode_predictions, format_event_ids
from tables.models import ModelsTable
from tables.partition import NoRoomError, Partition
from tables.statistics import StatisticsTable

log = logging.getLogger(__name__)

N_RECENT_ALERTS = 1_000

SCORE_CODES = frozenset(["late-event", "missing-feature", "model-error", "model-timeout"])
"""Codes of events that could be decoded."""


class TopicEndError(RuntimeError):
    """The topic of events ends before what its state knows; the message says what to do."""


class Scorer:
    """Scores record batches.

    Parameters
    ----------
    session : callable
        Gives something that is another one once the batch in hand need not be finished, since what is left of
        it will be read again: a rebalance began, or the worker stops.
    on_progress : callable
        Called after each part of a batch: a batch can take longer than anybody waits for a sign of life.

    Attributes
    ----------
    next_offsets : dict of TP to int
        By partition, the offset after the last event that was scored.
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
    ) -> None:
        self._settings = settings
        self._table = table
        self._models = models
        self._outbox = outbox
        self._metrics = metrics
        self._session = session
        self._on_progress = on_progress
        self._limits = DecodeLimits(
            max_event_bytes=settings.max_event_bytes,
            max_features=settings.max_features,
            max_feature_names=settings.max_features,
            future_seconds=settings.allowed_future_seconds,
        )
        self._rule = AlertRule(
            name="score",
            threshold=settings.alert_threshold,
            critical=settings.alert_critical,
            resolve=settings.alert_resolve,
            cooldown_seconds=settings.alert_cooldown_seconds,
            min_support=settings.alert_min_support,
        )
        self._recent_alerts: deque[bytes] = deque(maxlen=N_RECENT_ALERTS)
        self._caller: ModelCaller | None = None
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
        if batch.end_offset is not None and partition.next_offset > batch.end_offset:
            raise self._topic_ended_before(batch, partition)
        if records[0].offset < partition.next_offset:
            # In the state, so it was answered before that was written. A crash leads here, and Faust goes
            # back to the committed offset also within a session, when a fetch ends in a stopped flow.
            records = [record for record in records if record.offset >= partition.next_offset]
            self.next_offsets.setdefault(TP(batch.topic, batch.partition), partition.next_offset)
        n_done, n_most = 0, len(records)
        while n_done < len(records) and self._may_change(partition) and self._session() == session:
            caller = self._serving()
            n_rows = caller.n_rows if caller is not None else None
            part = records[n_done : n_done + (n_most if n_rows is None else min(n_rows, n_most))]
            try:
                await self._score_part(replace(batch, records=part), partition, caller)
            except NoRoomError:  # of more than one entity, before anything was changed
                n_most = len(part) // 2
                continue
            n_done += len(part)
            await self._outbox.send()
            self._on_progress()

    def _topic_ended_before(self, batch: Any, partition: Partition) -> TopicEndError:
        error = TopicEndError(
            f"partition {batch.partition} of topic {batch.topic!r} ends at offset {batch.end_offset}, its "
            f"state has the events up to offset {partition.next_offset - 1}: the topic was made anew or lost "
            "its end, and new events cannot be told from known ones. Set NOWCAST_GROUP to a new name, or "
            f"stop all workers and delete the topic {self._table.changelog_topic_name!r} and their data "
            "directories; either way the state begins anew"
        )
        log.error("the worker stops: %s", error)
        return error

    def _may_change(self, partition: Partition) -> bool:
        return not self.suspended and self._table.is_current(partition)

    def _serving(self) -> ModelCaller | None:
        """Return who calls the model that serves; None stands for the built-in detector.

        Asked for each part: a new version serves from the next one on.
        """
        model, caller = self._models.serving, self._caller
        if caller is not None and caller.model is model:
            return caller
        if caller is not None:
            caller.close()
        self._caller = (
            None if model is None else ModelCaller(model, self._settings.model_timeout_seconds, self._metrics)
        )
        return self._caller

    async def _score_part(self, batch: Any, partition: Partition, caller: ModelCaller | None) -> None:
        """Score records in one go; nothing comes of it if their partition is let go meanwhile."""
        started, now = time.perf_counter(), time.time()
        records = batch.records
        events = decode_batch(
            [record.key for record in records],
            [record.value for record in records],
            np.array([record.timestamp for record in records], np.float64) / 1000.0,
            limits=self._limits,
            now=now,
            feature_names=partition.columns.features,
        )
        faults = [(event.position, event.code, event.message) for event in events.rejected]
        changes: list[tuple[str, str]] = []
        if len(events.index):
            met = meet(records, partition, events, self._settings)
            if caller is None:
                decision = decide_by_detector(met.rows, self._rule)
            else:
                decision = await self._ask(caller, partition, met)
                if not self._may_change(partition):
                    return
                if met.rows.matrix.shape[1] < partition.columns.n_features:
                    # A view brought an entity in from the store, with features of its own.
                    met = meet(records, partition, events, self._settings)
            more_faults, changes = self._answer(batch, partition, met, decision)
            faults += more_faults
        self._send_dead_letters(batch, sorted(faults))
        partition.next_offset = self.next_offsets[TP(batch.topic, batch.partition)] = batch.last_offset + 1
        self._metrics.batch_scored(
            len(records),
            len(records) - len(faults),
            time.perf_counter() - started,
            Counter(code for _, code, _ in faults),
            changes,
        )

    async def _ask(self, caller: ModelCaller, partition: Partition, met: Met) -> Decision:
        partition.hold(met.slots)
        try:
            return await decide_by_model(caller, met.rows, partition.columns.features, self._rule)
        finally:
            partition.let_go()

    def _answer(
        self, batch: Any, partition: Partition, met: Met, decision: Decision
    ) -> tuple[list[Fault], list[tuple[str, str]]]:
        """Learn, and pack what was decided; return the faults found, and the alerts' kinds."""
        rows, faults = met.rows, list(met.faults)
        for row, (code, message) in decision.faults.items():
            faults.append((int(rows.position[row]), code, message))
        # From here on nothing can fail for the sake of an event: now the batch may change the state.
        partition.columns.assign(met.learnt)
        partition.mark_changed(met.slots)
        partition.watermark = met.watermark
        changes = self._send_alerts(batch, partition, rows, decision)
        if decision.faults:
            decided = np.setdiff1d(np.arange(len(rows.keys)), list(decision.faults))
            rows, decision = rows.take(decided), decision.take(decided)
        self._send_predictions(batch, partition, rows, decision)
        return faults, changes

    def _send_predictions(self, batch: Any, partition: Partition, rows: Rows, decision: Decision) -> None:
        partition.recent.add(
            rows.slots,
            rows.offsets,
            rows.timestamps,
            decision.scores,
            decision.predictions,
            rows.warming_up,
            (decision.model, decision.version),
        )
        values = encode_predictions(
            topic=batch.topic,
            partition=batch.partition,
            offsets=rows.offsets,
            keys=rows.keys,
            timestamps=rows.timestamps,
            scores=decision.scores,
            predictions=decision.predictions,
            warming_up=rows.warming_up,
            model=decision.model,
            version=decision.version,
            probabilities=decision.probabilities,
            class_names=decision.class_names,
            normalised=rows.z if self._settings.include_normalised else None,
            feature_names=partition.columns.features,
        )
        self._outbox.pack(self._settings.topic_predictions, batch.partition, rows.keys, values)

    def _send_alerts(
        self, batch: Any, partition: Partition, rows: Rows, decision: Decision
    ) -> list[tuple[str, str]]:
        if decision.rule is None:
            partition.alerts.clear(rows.slots[rows.forgotten])
            return []
        scores = decision.scores
        if decision.faults:  # these raise and resolve nothing, but their entities have spoken
            scores = scores.copy()
            scores[list(decision.faults)] = np.nan
        transitions = evaluate_alerts(
            partition.alerts,
            rows.slots,
            scores,
            rows.timestamps,
            rows.n_events.astype(np.int64),
            rows.forgotten,
            decision.rule,
        )
        values = []
        for transition in transitions:
            row = transition.position
            event_id = format_event_ids(batch.topic, batch.partition, [int(rows.offsets[row])])[0]
            values.append(
                encode_alert(
                    transition,
                    rule=decision.rule,
                    event_id=event_id,
                    key=rows.keys[row],
                    timestamp=rows.timestamps[row],
                    score=decision.scores[row],
                    feature_names=partition.columns.features,
                    values=rows.matrix[row],
                    means=rows.mean[row],
                    stddevs=rows.stddev[row],
                    z=rows.z[row],
                    model=decision.model,
                    version=decision.version,
                )
            )
        keys = [rows.keys[transition.position] for transition in transitions]
        self._outbox.pack(self._settings.topic_alerts, batch.partition, keys, values)
        self._recent_alerts.extend(values)
        return [(transition.state, transition.severity) for transition in transitions]

    def _send_dead_letters(self, batch: Any, faults: list[Fault]) -> None:
        letters, max_bytes = [], self._settings.max_dead_letter_bytes
        for position, code, message in faults:
            record = batch.records[position]
            stage = "score" if code in SCORE_CODES else "decode"
            reasons = dead_letter_headers(code, message, batch.topic, batch.partition, record.offset, stage)
            own = list(record.headers)
            letters.append(fit_dead_letter(record.key, record.value, own, reasons, max_bytes))
        keys, values, headers = zip(*letters, strict=True) if letters else ((), (), ())
        self._outbox.pack(self._settings.topic_dead_letters, batch.partition, keys, values, headers)

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
        return [msgspec.json.decode(value) for value in reversed(self._recent_alerts)]
