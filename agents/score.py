"""The score hop: a record batch of events in, predictions, alerts and dead letters out.

Owns the order of the steps and nothing of what they compute. Everything between reading the records and
packing the answers is one synchronous step: state, next offset and records to send change together, so a
checkpoint never sees half a batch.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from faust.types import TP

from agents.decide import Decision, Rows, decide
from agents.metrics import Metrics
from agents.outbox import Outbox
from compute.alert_messages import encode_alert
from compute.alerts import AlertRule, evaluate_alerts
from compute.dead_letters import dead_letter_headers, fit_dead_letter
from compute.events import DecodeLimits, EventBatch, decode_batch
from compute.normalisation import normalise
from compute.panes import pane_index
from compute.predictions import encode_predictions, format_event_ids
from compute.statistics import score_and_learn
from tables.models import ModelsTable
from tables.partition import Partition
from tables.statistics import StatisticsTable

N_RECENT_ALERTS = 1_000

SCORE_CODES = frozenset(["late-event", "missing-feature", "model-error"])
"""Codes of events that could be decoded."""

Fault = tuple[int, str, str]
"""Position in the record batch, code, message."""


class Scorer:
    """Scores record batches.

    Attributes
    ----------
    next_offsets : dict of TP to int
        By partition, the offset after the last event that was scored.
    """

    def __init__(
        self, settings: Any, table: StatisticsTable, models: ModelsTable, outbox: Outbox, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._table = table
        self._models = models
        self._outbox = outbox
        self._metrics = metrics
        self._limits = DecodeLimits(
            max_event_bytes=settings.max_event_bytes,
            max_features=settings.max_features,
            max_feature_names=settings.max_features,
            future_seconds=settings.future_seconds,
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
        self.next_offsets: dict[TP, int] = {}

    async def score(self, batch: Any) -> None:
        """Score one record batch and hand over what comes of it."""
        self._process(batch, now=time.time())
        await self._outbox.send()

    def _process(self, batch: Any, now: float) -> None:
        started = time.perf_counter()
        partition, tp = self._table.partition(batch.partition), TP(batch.topic, batch.partition)
        next_offset = self.next_offsets.get(tp, 0)
        if batch.records[0].offset < next_offset:
            # Faust goes back to the committed offset also within a session, when a fetch ends in a stopped
            # flow. What comes again is in the state, and its answers are on their way.
            batch = replace(batch, records=[r for r in batch.records if r.offset >= next_offset])
        records = batch.records
        if not records:
            return
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
            more_faults, changes = self._answer(batch, partition, events)
            faults += more_faults
        self._send_dead_letters(batch, sorted(faults))
        partition.next_offset = self.next_offsets[tp] = batch.last_offset + 1
        self._metrics.batch_scored(
            len(records),
            len(records) - len(faults),
            time.perf_counter() - started,
            Counter(code for _, code, _ in faults),
            changes,
        )

    def _answer(
        self, batch: Any, partition: Partition, events: EventBatch
    ) -> tuple[list[Fault], list[tuple[str, str]]]:
        """Score, learn and pack the accepted events; return the faults found, and the alerts' kinds."""
        columns = partition.columns
        columns.add_features(events.feature_names)
        position = events.index.tolist()
        keys = [batch.records[i].key for i in position]
        slots = partition.slots_of(keys)
        matrix = events.matrix
        if matrix.shape[1] < columns.n_features:  # entities from the store brought features of their own
            unknown = np.full((len(matrix), columns.n_features - matrix.shape[1]), np.nan)
            matrix = np.hstack([matrix, unknown])
        offsets = np.array([batch.records[i].offset for i in position], np.int64)
        panes = pane_index(events.timestamps, columns.pane_seconds)
        learnt, scored = score_and_learn(columns, slots, offsets, panes, matrix, partition.watermark)
        rows = Rows(
            position=events.index,
            keys=keys,
            offsets=offsets,
            slots=slots,
            timestamps=events.timestamps,
            matrix=matrix,
            mean=scored.mean,
            stddev=scored.stddev,
            z=normalise(matrix, scored.mean, scored.stddev),
            n_events=scored.n_events,
            warming_up=scored.n_events < self._settings.warmup_events,
            replayed=scored.replayed,
        )
        faults: list[Fault] = []
        if scored.late.any():
            for row in np.flatnonzero(scored.late).tolist():
                faults.append((position[row], "late-event", self._late(events.timestamps[row])))
            rows = rows.take(np.flatnonzero(~scored.late))
        # Read once a batch: a new version serves from the next batch on.
        decision = decide(self._models.serving, rows, columns.features, self._rule)
        if decision.faults:
            for row, (code, message) in decision.faults.items():
                faults.append((int(rows.position[row]), code, message))
            decided = np.setdiff1d(np.arange(len(rows.keys)), list(decision.faults))
            rows, decision = rows.take(decided), decision.take(decided)
        # From here on nothing can fail for the sake of an event: now the batch may change the state.
        columns.assign(learnt)
        partition.watermark = scored.watermark
        changes = self._send_alerts(batch, partition, rows, decision)
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
            return []
        transitions = evaluate_alerts(
            partition.alerts,
            rows.slots,
            decision.scores,
            rows.timestamps,
            rows.n_events.astype(np.int64),
            rows.replayed,
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

    def _late(self, timestamp: float) -> str:
        window = self._settings.window_seconds
        return f"timestamp: must be within {window:g} s of the entity's newest event, received {timestamp}"

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
