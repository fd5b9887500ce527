"""What is learnt from answers and labels: every version is judged by what it said before it knew.

Owns the steps between the score hop and the label hop and what a partition learns (`tables/learning.py`): an
answer is kept until its label comes, with the event or later; then every version that answered is evaluated,
the online learner learns, and drift is watched. All of it is synchronous, within the step that changes
offsets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from agents.answer import Answers
from agents.dead_letters import Fault, pack_dead_letters
from agents.decide import Decision, Rows, rule_for
from agents.lanes import Lanes
from agents.metrics import Metrics
from agents.outbox import Outbox
from agents.panel import Decided
from compute.alerts import AlertRule
from compute.answered import MAX_CLASSES, Answered, VersionAnswers, class_indices
from compute.drift_findings import Finding
from compute.drift_messages import encode_drift_alert
from compute.events import EventBatch
from compute.label_reading import Label, decode_labels
from compute.labels import canonical_class, numeric_label
from compute.moments import Integers
from compute.panes import pane_index
from tables.early_labels import EarlyLabel
from tables.learning import Learning
from tables.partition import Partition
from tables.pending import CONTRADICTING, JOINED, LATE, REPEATED, UNKNOWN

Change = tuple[str, str]
"""State and severity of an alert."""

ONLINE = "online"
"""Name of the online learner as a model."""

ALARMS = ("0", "1")
"""Classes of what raises alarms."""


class Learner:
    """Lets partitions learn.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: label_delay_seconds, max_event_bytes, model, partitions, and names of topics.
    answers : Answers
        Packs the alerts of drift.
    outbox : Outbox or Lanes
    metrics : Metrics
    labels_end : callable
        Gives the end of a partition of the labels topic as the client saw it last, None where it has not.
    """

    def __init__(
        self,
        settings: Any,
        answers: Answers,
        outbox: Outbox | Lanes,
        metrics: Metrics,
        labels_end: Callable[[int], int | None] = lambda number: 0,
    ) -> None:
        self._settings = settings
        self._answers = answers
        self._outbox = outbox
        self._metrics = metrics
        self._labels_end = labels_end

    def see(
        self,
        records: Sequence[Any],
        events: EventBatch,
        partition: Partition,
        rows: Rows,
        decided: Decided,
        rule: AlertRule,
    ) -> Decided:
        """Take note of what was decided, and learn from events that have a label of their own.

        Returns
        -------
        Decided
            With the online learner among the challengers, or as champion where it is to serve.
        """
        learning, names = partition.learning, partition.columns.features
        assert learning is not None
        position = rows.position.tolist()
        labels = [events.labels.get(place) for place in position] if events.labels else [None] * len(position)
        if learning.online is not None:
            decided = self._ask_online(learning, names, rows, labels, decided, rule)
        labelled = np.array([row for row, label in enumerate(labels) if label is not None], np.int64)
        learning.serving = decided.champion.version
        if not (len(labelled) or self._settings.label_delay_seconds):
            return decided
        answered = Answered(
            rows.offsets,
            rows.timestamps,
            np.array([records[place].timestamp for place in position], np.float64) / 1000.0,
            np.fromiter(map(crc32, rows.keys), np.uint32, len(rows.keys)),
            (
                _answers_of(decided.champion, "champion"),
                *(_answers_of(decision, "challenger") for decision in decided.challengers),
            ),
            rows.z.astype(np.float32) if learning.online is not None else None,
            tuple(names) if learning.online is not None else (),
        )
        kept = np.setdiff1d(np.arange(len(position)), list(decided.champion.faults))
        if len(kept) < len(position):
            answered, labels = answered.take(kept), [labels[row] for row in kept.tolist()]
            keys = [rows.keys[row] for row in kept.tolist()]
        else:
            keys = rows.keys
        own = {row: label for row, label in enumerate(labels) if label is not None}
        if self._settings.label_delay_seconds:
            learning.pending.add(answered, {row: canonical_class(label) for row, label in own.items()})
        if own:
            which = np.array(list(own), np.int64)
            self._learn(partition, answered.take(which), list(own.values()), [keys[row] for row in own])
        return decided

    def _learn(
        self, partition: Partition, answered: Answered, labels: Sequence[Label], keys: Sequence[bytes]
    ) -> None:
        """Let everybody who answered be judged by the labels, which are the first of their events."""
        learning = partition.learning
        assert learning is not None
        for version, finding in learning.learn(answered, labels, keys):
            where = answered.offsets[finding.row], keys[finding.row], answered.timestamps[finding.row]
            self._pack_drift(partition, [finding], [where], version.model, version.version)
        self._count(learning, Counter(joined=len(labels)))

    def _count(self, learning: Learning, outcomes: Counter[str]) -> None:
        learning.counts.update(outcomes)
        learning.changed("counts")
        self._metrics.labels_joined(outcomes)

    def _ask_online(
        self,
        learning: Learning,
        names: Sequence[str],
        rows: Rows,
        labels: Sequence[Label | None],
        decided: Decided,
        rule: AlertRule,
    ) -> Decided:
        online = learning.online
        assert online is not None
        has_learnt = online.n_learnt > 0
        told = [None if label is None else _told(online.task, label) for label in labels]
        scores = online.score_and_learn(names, rows.z, told)
        if any(label is not None for label in told):
            learning.changed("online")
        order = sorted(scores.classes)
        decision = Decision(
            ONLINE,
            online.version,
            scores.scores,
            scores.predictions,
            scores.probabilities,
            scores.classes,
            rule_for(online.task, None, rule),
            online.task,
            scores.classes.index(order[-1]) if order else None,
        )
        if not has_learnt:
            return decided  # it has nothing to say yet
        if self._settings.model == ONLINE:
            return Decided(decision, decided.challengers)
        return replace(decided, challengers=(*decided.challengers, decision))

    def warn(self, partition: Partition, rows: Rows, watermark: int, decision: Decision) -> list[Change]:
        """Watch features and scores for drift, and pack what is found; return the alerts' kinds.

        `watermark` is the partition's before these rows.
        """
        learning = partition.learning
        assert learning is not None
        if learning.drift is None or not len(rows.keys):
            return []
        panes = pane_index(rows.timestamps, partition.columns.pane_seconds)
        findings = learning.drift.observe(
            partition.columns.features,
            rows.matrix,
            np.where(rows.warming_up, np.nan, decision.scores),
            np.maximum.accumulate(np.maximum(panes, watermark)),
            decision.version,
        )
        learning.changed("drift")
        where = [(rows.offsets[f.row], rows.keys[f.row], rows.timestamps[f.row]) for f in findings]
        return self._pack_drift(partition, findings, where, decision.model, decision.version)

    def _pack_drift(
        self,
        partition: Partition,
        findings: Sequence[Finding],
        where: Sequence[tuple[Any, bytes, Any]],
        model: str,
        version: str,
    ) -> list[Change]:
        values = [
            encode_drift_alert(
                finding,
                event_id=self._answers.event_id(partition, int(offset)),
                key=key,
                timestamp=float(timestamp),
                model=model,
                version=version,
            )
            for finding, (offset, key, timestamp) in zip(findings, where, strict=True)
        ]
        self._answers.pack_alerts(partition, [key for _, key, _ in where], values)
        return [(finding.state, finding.severity) for finding in findings]

    def join(self, records: Sequence[Any], partition: Partition) -> list[Fault]:
        """Join labels to the answers that they are about.

        Parameters
        ----------
        records : sequence
            Records of the labels topic, in order.
        partition : Partition
            Whose labels these should be; those of another one are sent there.

        Returns
        -------
        list of Fault
            Those that cannot be joined, now or later.
        """
        learning = partition.learning
        assert learning is not None
        batch = decode_labels(
            [record.key for record in records],
            [record.value for record in records],
            max_bytes=self._settings.max_event_bytes,
        )
        faults = [(label.position, label.code, label.message) for label in batch.rejected]
        here: list[int] = []
        elsewhere: dict[int, list[Any]] = {}
        for i, position in enumerate(batch.index.tolist()):
            record, number, offset = records[position], int(batch.partitions[i]), int(batch.offsets[i])
            if batch.topics[i] != self._settings.topic_events or number >= self._settings.partitions:
                faults.append((position, "unknown-label", _NOT_OURS.format(self._settings.topic_events)))
            elif number != partition.number:
                elsewhere.setdefault(number, []).append(record)
            elif offset < partition.next_offset:
                here.append(i)
            elif not learning.pending.hold_early(
                EarlyLabel(
                    offset,
                    record.offset,
                    record.timestamp / 1000.0,
                    record.key,
                    record.value,
                    list(record.headers),
                )
            ):
                faults.append((position, "early-label", "label: came before its event, and too many wait so"))
        self._forward(partition, elsewhere)
        if here:
            chosen = [records[batch.index[i]] for i in here]
            found = self._join(partition, batch.offsets[here], [batch.labels[i] for i in here], chosen)
            faults += [(int(batch.index[here[row]]), code, message) for row, code, message in found]
        outcomes = Counter(code.removesuffix("-label") for _, code, _ in faults)
        outcomes["forwarded"] = sum(map(len, elsewhere.values()))
        self._count(learning, +outcomes)
        learning.note_label_time(max(record.timestamp for record in records) / 1000.0)
        return sorted(faults)

    def _forward(self, partition: Partition, records: Mapping[int, Sequence[Any]]) -> None:
        """Send labels to the partitions of their events: not every producer partitions alike."""
        for number, theirs in records.items():
            self._outbox.pack(
                self._settings.topic_labels,
                number,
                [record.key for record in theirs],
                [record.value for record in theirs],
                [list(record.headers) for record in theirs],
                source=partition.number,
            )

    def _join(
        self, partition: Partition, offsets: Integers, labels: Sequence[Label], records: Sequence[Any]
    ) -> list[Fault]:
        """Join labels of events that were scored; return the faults by row."""
        learning = partition.learning
        assert learning is not None
        found = learning.pending.find(offsets)
        outcomes = learning.pending.join(
            found,
            [canonical_class(label) for label in labels],
            np.array([record.timestamp for record in records], np.float64) / 1000.0,
            np.array([crc32(record.key) for record in records], np.uint32),
        )
        joined = np.flatnonzero(outcomes == JOINED)
        if len(joined):
            keys = [records[row].key for row in joined.tolist()]
            told = [labels[row] for row in joined.tolist()]
            answered = found.answered.take(found.rows[joined])
            self._learn(partition, answered, told, keys)
            if learning.online is not None and answered.inputs is not None:
                online = learning.online
                online.learn(
                    answered.feature_names,
                    answered.inputs.astype(np.float64),
                    [_told(online.task, label) for label in told],
                )
                learning.changed("online")
        self._count(learning, Counter(repeated=int((outcomes == REPEATED).sum())))
        faults: list[Fault] = []
        for code, (name, message) in _FAULTS.items():
            for row in np.flatnonzero(outcomes == code).tolist():
                event = self._answers.event_id(partition, int(offsets[row]))
                faults.append((row, name, message.format(event, self._settings.label_delay_seconds)))
        return faults

    def settle(self, partition: Partition, records: Sequence[Any]) -> None:
        """Join labels that came before these events, and let go of what has waited for too long."""
        learning = partition.learning
        assert learning is not None
        pending = learning.pending
        learning.note_event_time(max(record.timestamp for record in records) / 1000.0)
        if pending.n_early:
            self._settle_early(partition, pending.take_early(partition.next_offset))
        now = learning.time_reached(self._labels_end(partition.number), partition.next_label_offset)
        pending.expire(now)
        if pending.n_early:  # an event that was there before its label has been scored by then
            self._settle_early(partition, pending.drop_early(learning.event_time))

    def _settle_early(self, partition: Partition, held: Sequence[EarlyLabel]) -> None:
        """Join labels that were held; those that still find no answer are dead letters."""
        if not held:
            return
        records = [
            _Held(label.key, label.value, label.headers, label.source_offset, label.record_time * 1000.0)
            for label in held
        ]
        labels = decode_labels(
            [record.key for record in records], [record.value for record in records], max_bytes=2**31
        ).labels
        offsets = np.array([label.offset for label in held], np.int64)
        faults = self._join(partition, offsets, labels, records)
        assert partition.learning is not None
        self._count(partition.learning, Counter(code.removesuffix("-label") for _, code, _ in faults))
        topic = self._settings.topic_labels
        pack_dead_letters(self._outbox, self._settings, topic, partition.number, records, sorted(faults))


class _Held(NamedTuple):
    """A record of the labels topic that was held."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes | None]]
    offset: int
    timestamp: float


_NOT_OURS = "id: must name an event of topic {!r} and one of its partitions"

_FAULTS = {
    UNKNOWN: ("unknown-label", "id: event {} has no prediction, or is another entity's"),
    LATE: (
        "late-label",
        "label: must come within {1:g} s of its event (NOWCAST_LABEL_DELAY_SECONDS), event {0}",
    ),
    CONTRADICTING: ("contradicting-label", "label: event {} has another one already, the first counts"),
}


def _told(task: str, label: Label) -> str | float | None:
    """Return a label as the online learner takes it; None where it is none of its task."""
    if task == "classification":
        return canonical_class(label)
    try:
        return numeric_label(label)
    except ValueError:
        return None


def _answers_of(decision: Decision, role: str) -> VersionAnswers:
    """Return what a decision said, as it is kept for its labels."""
    about = (decision.model, decision.version, ONLINE if decision.model == ONLINE else role, decision.kind)
    if decision.kind == "regression":
        return VersionAnswers(*about, (), None, decision.scores, decision.scores)
    if decision.kind == "anomaly":
        assert decision.rule is not None
        alarms = np.where(np.isnan(decision.scores), -1, decision.scores >= decision.rule.threshold)
        return VersionAnswers(*about, ALARMS, 1, decision.scores, alarms.astype(np.int32))
    return VersionAnswers(
        *about,
        tuple(map(canonical_class, decision.classes)),
        decision.positive,
        decision.scores,
        class_indices(decision.predictions, decision.classes),
        decision.probabilities if len(decision.classes) <= MAX_CLASSES else None,
    )
