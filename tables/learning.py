"""What a partition learns from labels: evaluations, comparisons, the online learner, watched drift.

Owns which of these there are, and their records among the partition's own. All of it changes only with events
and labels, in the steps that change their offsets too, so each label counts once whatever crashes. What is
computed is in `compute/`; predictions that wait for their labels are in `tables/pending.py`.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from compute.answered import Answered, VersionAnswers
from compute.comparison import Comparison
from compute.drift import DriftMonitor
from compute.drift_findings import Finding
from compute.error_drift import ErrorMonitor
from compute.evaluation import MAX_SCORES, Evaluation
from compute.evaluation_head import Task
from compute.labels import canonical_class, numeric_label
from compute.online import OnlineLearner
from tables.kept import Kept
from tables.pending import Pending
from tables.reserved import PARTITION_KEY, read_progress
from tables.stores import Item, PartitionedStore

log = logging.getLogger(__name__)

MAX_VERSIONS = 16
"""Versions that a partition keeps evaluations of, or more if as many answer; those labelled last stay."""

N_BESIDE_CHALLENGERS = 3
"""Champion, online learner and built-in detector: with the challengers these are all that answer at once."""

MAX_GROUPS = 50
OTHER_GROUPS = "(others)"
MAX_GROUP_SCORES, MAX_GROUP_PANES = 256, 12
"""Different scores that are told apart in a group, and panes of its window: there may be many groups, each
for as many versions as answer, and all are told of together. With two classes one has 10 KB at most."""

ONLINE = "online"
"""Name of the online learner as a model."""


class Evaluated(NamedTuple):
    """What an evaluation is about; the group of entities is empty for all of them."""

    model: str
    version: str
    group: str = ""


class Compared(NamedTuple):
    """Which two versions a comparison is about."""

    model: str
    champion: str
    challenger_model: str
    challenger: str


class Learning:
    """What one partition learns.

    Parameters
    ----------
    number : int
        Of the partition.
    store : PartitionedStore
        Read once; written by the checkpoint, with what `take_changes` gives.
    settings : app.settings.Settings
        Of these: label_delay_seconds, online_task, positive_class, drift and its, panes, pane_seconds,
        evaluation_groups, max_challengers.

    Attributes
    ----------
    pending : Pending
        Predictions that wait for labels.
    evaluations : dict of Evaluated to Evaluation
    comparisons : dict of Compared to Comparison
    counts : Counter
        Labels by what became of them.
    online : OnlineLearner or None
    drift : DriftMonitor or None
        Watches features and scores.
    errors : ErrorMonitor or None
        Watches the errors of the version that serves.
    serving : str
        That version, as of the last events; empty before the first.
    event_time : float
        When the newest record of events that was scored came, in epoch seconds.
    """

    def __init__(self, number: int, store: PartitionedStore, settings: Any) -> None:
        self._number = number
        self._n_panes, self._pane_seconds = settings.panes, settings.pane_seconds
        self._group_of = re.compile(settings.evaluation_groups) if settings.evaluation_groups else None
        self._max_grouped = settings.max_challengers + N_BESIDE_CHALLENGERS
        self._max_versions = max(MAX_VERSIONS, self._max_grouped)
        self.pending = Pending(number, store, settings.label_delay_seconds)
        self.evaluations: dict[Evaluated, Evaluation] = {}
        self.comparisons: dict[Compared, Comparison] = {}
        self.counts: Counter[str] = Counter()
        self._positive = settings.positive_class and canonical_class(settings.positive_class)
        self.online = OnlineLearner(settings.online_task, self._positive) if settings.online_task else None
        watched = settings.drift
        self.drift = (
            DriftMonitor(settings.panes, settings.drift_reference_events, settings.drift_threshold)
            if watched
            else None
        )
        self.errors = ErrorMonitor() if watched else None
        self.serving = ""
        self.event_time = self._label_time = 0.0
        self._changed: dict[bytes, Any] = {}
        self._gone: list[bytes] = []
        (about,) = store.get_many(number, [PARTITION_KEY])
        self._kept = Kept(number, store, read_progress(about))
        for name, content in self._kept.contents.items():
            try:
                self._read(name, content)
            except ValueError as error:
                log.error("partition %d: %r cannot be read, it starts anew: %s", number, name, error)
        self._kept.contents.clear()

    def _read(self, name: bytes, content: bytes) -> None:
        kind, *names = json.loads(name)
        if kind == "evaluation":
            about, found = Evaluated(*names[:3]), Evaluation.decode(content)
            if about.model == ONLINE and found.head.task == "classification":
                found.name_positive(self._positive or None)
            is_of_ring = (found.head.n_panes, found.head.pane_seconds) == self._ring(about.group)
            if is_of_ring and name == self._name_of(about):
                self.evaluations[about] = found
            else:  # of former settings
                self._kept.remove(name)
        elif kind == "comparison":
            self.comparisons[Compared(*names)] = Comparison.decode(content)
        elif kind == "counts":
            self.counts = Counter(json.loads(content))
        elif kind == "online" and self.online is not None:
            found_online = OnlineLearner.decode(content, self._positive)
            if found_online.version == self.online.version:
                self.online = found_online
        elif kind == "drift" and self.drift is not None:
            found_drift = DriftMonitor.decode(content)
            if found_drift.has_options_of(self.drift):
                self.drift = found_drift
        elif kind == "errors" and self.errors is not None:
            self.errors = ErrorMonitor.decode(content)

    def learn(
        self, answered: Answered, labels: Sequence[Any], keys: Sequence[bytes]
    ) -> list[tuple[VersionAnswers, Finding]]:
        """Evaluate every version that answered some events, now that their labels are known.

        Parameters
        ----------
        answered : Answered
            n events.
        labels : sequence, length n
            As they came: strings, numbers or booleans.
        keys : sequence of bytes, length n
            Of their entities.

        Returns
        -------
        list of (VersionAnswers, Finding)
            Where the errors of the version that serves have drifted.
        """
        classes = [canonical_class(label) for label in labels]
        numbers = np.array([_number(label) for label in labels], np.float64)
        groups = self._groups(keys)
        findings: list[tuple[VersionAnswers, Finding]] = []
        champions = [version for version in answered.versions if version.role == "champion"]
        for version in answered.versions:
            told: Any
            if version.task == "regression":
                rows, told = np.flatnonzero(version.has_answer & np.isfinite(numbers)), numbers
            else:
                rows, told = np.flatnonzero(version.has_answer & _judged_by(version, classes)), classes
            if not len(rows):
                continue
            self._evaluate(version, answered.timestamps, rows, told, groups)
            if version.role == "champion":
                drifts = self._watch_errors(version, answered.timestamps, rows, told)
                findings += [(version, found) for found in drifts]
                continue
            for champion in champions:
                judged = champion.has_answer
                if champion.task != "regression":
                    judged = judged & _judged_by(champion, classes)
                both = rows[judged[rows]]
                if len(both) and (version.task == "regression") == (champion.task == "regression"):
                    self._compare(champion, version, both, told)
        return findings

    def _evaluate(self, version: VersionAnswers, timestamps: Any, rows: Any, told: Any, groups: Any) -> None:
        parts = {"": rows}
        if groups is not None:
            parts.update({name: rows[groups[rows] == name] for name in set(groups[rows].tolist()) if name})
        for group, chosen in parts.items():
            about = Evaluated(version.model, version.version, group)
            # Taken out and put in again: the one that was labelled last is the last in order.
            evaluation = self.evaluations.pop(about, None) or self._new_evaluation(version, group)
            self.evaluations[about] = evaluation
            evaluation.add(
                timestamps[chosen],
                _at(told, chosen),
                _predictions(version, chosen),
                version.scores[chosen],
                None if version.probabilities is None else version.probabilities[chosen],
                columns=version.classes,
            )
            self._changed[self._name_of(about)] = evaluation
        self._bound_versions()

    def _name_of(self, about: Evaluated) -> bytes:
        # Groups of the same name that another pattern makes are others.
        pattern = [self._group_of.pattern] if about.group and self._group_of is not None else []
        return _name(["evaluation", *about, *pattern])

    def _ring(self, group: str) -> tuple[int, float]:
        """Return panes and their length, which a group has longer ones of where there would be many."""
        if not group or self._n_panes <= MAX_GROUP_PANES:
            return self._n_panes, self._pane_seconds
        return MAX_GROUP_PANES, self._n_panes * self._pane_seconds / MAX_GROUP_PANES

    def _new_evaluation(self, version: VersionAnswers, group: str) -> Evaluation:
        ring, max_scores = self._ring(group), MAX_GROUP_SCORES if group else MAX_SCORES
        if version.task == "classification" and version.model == ONLINE:  # its classes come as it learns
            return Evaluation("classification", *ring, positive=self._positive or None, max_scores=max_scores)
        return Evaluation(
            "regression" if version.task == "regression" else "classification",
            *ring,
            version.classes,
            None if version.positive is None else version.classes[version.positive],
            max_scores,
        )

    def _compare(self, champion: VersionAnswers, challenger: VersionAnswers, rows: Any, told: Any) -> None:
        about = Compared(champion.model, champion.version, challenger.model, challenger.version)
        task: Task = "regression" if champion.task == "regression" else "classification"
        comparison = self.comparisons.setdefault(about, Comparison(task))
        comparison.add(_at(told, rows), _predictions(champion, rows), _predictions(challenger, rows))
        self._mark(("comparison", *about), comparison)

    def _watch_errors(self, version: VersionAnswers, timestamps: Any, rows: Any, told: Any) -> list[Finding]:
        if self.errors is None or version.version != self.serving:
            return []
        guesses, truth = _predictions(version, rows), _at(told, rows)
        if version.task == "regression":
            errors = np.abs(np.asarray(guesses) - truth)
        else:
            errors = np.array([float(guess != true) for guess, true in zip(guesses, truth, strict=True)])
        self._mark(("errors",), self.errors)
        found = self.errors.observe(errors, version.version, timestamps[rows])
        return [finding._replace(row=int(rows[finding.row])) for finding in found]

    def _groups(self, keys: Sequence[bytes]) -> Any:
        if self._group_of is None:
            return None
        known = {about.group for about in self.evaluations if about.group}
        names = []
        for key in keys:
            found = self._group_of.search(key.decode("utf-8", "backslashreplace"))
            name = (found[1] or "")[:100] if found else ""
            if name and name not in known:
                if len(known) >= MAX_GROUPS:
                    name = OTHER_GROUPS
                known.add(name)
            names.append(name)
        return np.array(names, object)

    def _bound_versions(self) -> None:
        versions = list(dict.fromkeys((about.model, about.version) for about in reversed(self.evaluations)))
        whole_only, dropped = set(versions[self._max_grouped :]), set(versions[self._max_versions :])
        if not whole_only:
            return
        for about in list(self.evaluations):
            if (about.model, about.version) in (whole_only if about.group else dropped):
                del self.evaluations[about]
                self._forget(self._name_of(about))
        for pair in [pair for pair in self.comparisons if not dropped.isdisjoint(_versions_of(pair))]:
            del self.comparisons[pair]
            self._forget(_name(["comparison", *pair]))

    def note_event_time(self, seconds: float) -> None:
        """Take note of when a record of events came."""
        self.event_time = max(self.event_time, seconds)

    def note_label_time(self, seconds: float) -> None:
        """Take note of when a record of labels came."""
        self._label_time = max(self._label_time, seconds)

    def time_reached(self, labels_end: int | None, next_label_offset: int) -> float:
        """Return the time up to which labels were read, by the times of records.

        Where none wait to be read that is the time of the newest event. Else it is the newest label's: one
        that is read long after it came is not late.

        Parameters
        ----------
        labels_end : int or None
            Offset of the labels behind which there is nothing to join; None where it is not known.
        next_label_offset : int
            Up to where they were read.
        """
        has_all = labels_end is not None and next_label_offset >= labels_end
        return max(self.event_time, self._label_time) if has_all else self._label_time

    def describe_drift(self) -> list[dict[str, Any]]:
        """Return what is watched for drift, for people; `since` is an event time in seconds."""
        parts = {"drift": self.drift, "error-drift": self.errors}
        told = []
        for rule, part in parts.items():
            if part is not None:
                about = part.describe()
                if rule == "drift" and about["since"] is not None:
                    about["since"] *= self._pane_seconds
                told.append({"partition": self._number, "rule": rule, **about})
        return told

    def changed(self, *kinds: str) -> None:
        """Let the next checkpoint write these: counts, online, drift or errors."""
        for kind in kinds:
            self._mark((kind,), getattr(self, kind))

    def _mark(self, names: Iterable[str], part: Any) -> None:
        self._changed[_name(names)] = part

    def _forget(self, name: bytes) -> None:
        self._changed.pop(name, None)
        self._gone.append(name)

    def take_changes(self, seen: int) -> list[Item]:
        """Return what changed since the last call, as it is stored; `seen` events and labels led to it."""
        changed = {name: _encode(part) for name, part in self._changed.items()}
        gone = [name for name in self._gone if name not in changed]  # some were made anew
        items = self._kept.take_changes(changed, gone, seen)
        self._changed.clear()
        self._gone.clear()
        return items + self.pending.take_changes(seen)

    def wrote(self) -> None:
        """Take note that the store has what was taken."""
        self.pending.wrote()


def _name(names: Iterable[str]) -> bytes:
    return json.dumps(list(names), separators=(",", ":")).encode()


def _encode(part: Any) -> bytes:
    return json.dumps(part).encode() if isinstance(part, Counter) else bytes(part.encode())


def _versions_of(pair: Compared) -> list[tuple[str, str]]:
    return [(pair.model, pair.champion), (pair.challenger_model, pair.challenger)]


def _number(label: Any) -> float:
    try:
        return numeric_label(label)
    except ValueError:
        return np.nan


def _judged_by(version: VersionAnswers, classes: Sequence[str]) -> Any:
    """Tell which labels a version can be judged by: one that raises alarms knows its two classes only."""
    if version.task != "anomaly":
        return np.ones(len(classes), np.bool_)
    return np.array([name in version.classes for name in classes], np.bool_)


def _at(values: Any, rows: Any) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows.tolist()]


def _predictions(version: VersionAnswers, rows: Any) -> Any:
    chosen = version.predictions[rows]
    return [version.classes[index] for index in chosen.tolist()] if version.classes else chosen
