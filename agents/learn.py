"""What is learnt from answers and labels: every version is judged by what it said before it knew.

Owns the steps between the score hop and the label hop and what a partition learns (`tables/learning.py`): an
answer is kept until its label comes, with the event or later; then every version that answered is evaluated,
the online learner learns, and drift is watched. All of it is synchronous, within the step that changes
offsets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np

from agents.answer import Answers
from agents.decide import Decision, Rows, rule_for
from agents.metrics import Metrics
from agents.panel import Decided
from compute.alerts import AlertRule
from compute.answered import MAX_CLASSES, Answered, VersionAnswers, class_indices
from compute.drift_findings import Finding
from compute.drift_messages import encode_drift_alert
from compute.events import EventBatch
from compute.label_reading import Label
from compute.labels import canonical_class, numeric_label
from compute.moments import Flags, Floats
from compute.panes import pane_index
from tables.learning import ONLINE, Learning
from tables.partition import Partition

Change = tuple[str, str]
"""State and severity of an alert."""

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
    metrics : Metrics
    """

    def __init__(
        self,
        settings: Any,
        answers: Answers,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._answers = answers
        self._metrics = metrics

    def see(
        self,
        record_times: Floats,
        events: EventBatch,
        partition: Partition,
        rows: Rows,
        decided: Decided,
        given: Flags,
        rule: AlertRule,
    ) -> Decided:
        """Take note of what was decided, and learn from events that have a label of their own.

        `record_times` are those of all records of the batch, in seconds; `given` tells which rows another one
        than the champion answers.

        Returns
        -------
        Decided
            With the online learner among the challengers, or as champion where it is to serve.
        """
        learning, names = partition.learning, partition.columns.features
        assert learning is not None
        own_labels = events.labels
        labels = list(map(own_labels.get, rows.position.tolist())) if own_labels else [None] * len(rows.keys)
        if events.not_labels and (n_invalid := len(np.intersect1d(list(events.not_labels), rows.position))):
            self.count(learning, Counter(invalid=n_invalid))
        if learning.online is not None:
            decided = self._ask_online(learning, names, rows, labels, decided, rule)
        learning.serving = decided.champion.version
        if not (own_labels or self._settings.label_delay_seconds):
            return decided
        answered = Answered(
            rows.offsets,
            rows.timestamps,
            record_times[rows.position],
            np.fromiter(map(crc32, rows.keys), np.uint32, len(rows.keys)),
            (
                _answers_of(decided.champion, "champion"),
                *(_answers_of(decision, "challenger") for decision in decided.challengers),
            ),
            rows.z.astype(np.float32) if learning.online is not None else None,
            tuple(names) if learning.online is not None else (),
        )
        is_answered = np.ones(len(labels), np.bool_)
        is_answered[list(decided.champion.faults)] = False
        kept = np.flatnonzero(is_answered | given)
        if len(kept) < len(labels):
            answered, labels = answered.take(kept), [labels[row] for row in kept.tolist()]
            keys = [rows.keys[row] for row in kept.tolist()]
        else:
            keys = rows.keys
        own = {row: label for row, label in enumerate(labels) if label is not None} if own_labels else {}
        if self._settings.label_delay_seconds:
            learning.pending.add(answered, {row: canonical_class(label) for row, label in own.items()})
        if own:
            which = np.array(list(own), np.int64)
            self.learn(partition, answered.take(which), list(own.values()), [keys[row] for row in own])
        return decided

    def learn(
        self, partition: Partition, answered: Answered, labels: Sequence[Label], keys: Sequence[bytes]
    ) -> None:
        """Let everybody who answered be judged by the labels, which are the first of their events."""
        learning = partition.learning
        assert learning is not None
        for version, finding in learning.learn(answered, labels, keys):
            where = answered.offsets[finding.row], keys[finding.row], answered.timestamps[finding.row]
            self._pack_drift(partition, [finding], [where], version.model, version.version)
        self.count(learning, Counter(joined=len(labels)))

    def count(self, learning: Learning, outcomes: Counter[str]) -> None:
        """Count labels by what became of them."""
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
        told = [None if label is None else told_online(online.task, label) for label in labels]
        scores = online.score_and_learn(names, rows.z, told)
        if any(label is not None for label in told):
            learning.changed("online")
        decision = Decision(
            ONLINE,
            online.version,
            scores.scores,
            scores.predictions,
            scores.probabilities,
            scores.classes,
            rule_for(online.task, None, rule),
            online.task,
            scores.positive,
        )
        silent = scores.silent
        if not has_learnt and (silent is None or silent.all()):
            return decided  # it has nothing to say yet
        if has_learnt and self._settings.model == ONLINE:
            return Decided(decision, (decided.champion, *decided.challengers))
        if silent is not None:  # or else what it says of the other rows would hang on where batches end
            scored = np.where(silent, np.nan, scores.scores)
            decision = replace(decision, scores=scored, probabilities=_without(silent, scores.probabilities))
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


def told_online(task: str, label: Label) -> str | float | None:
    """Return a label as the online learner takes it; None where it is none of its task."""
    if task == "classification":
        return canonical_class(label)
    try:
        return numeric_label(label)
    except ValueError:
        return None


def _without(rows: Flags, probabilities: Floats | None) -> Floats | None:
    return None if probabilities is None else np.where(rows[:, None], np.nan, probabilities)


def _answers_of(decision: Decision, role: str) -> VersionAnswers:
    """Return what a decision said, as it is kept for its labels."""
    about = (decision.model, decision.version, role, decision.kind)
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
