"""What must become of labels, told from what the topics hold; and whether it did.

Owns the rules for a label's fate in their slow and obvious form, and how dead letters, the counts of
`/api/evaluations` and its metrics follow from them. In `at_least_once` an entity may be ahead of its
partition after a crash amid a checkpoint (docs/delivery.md): nothing waits for labels of its events. Which
events these were is told by the dead letters of labels that should not have one, and, where the events
brought their labels themselves, by how many labels are missing.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.settings import Settings
from compute.labels import canonical_class
from tests.live.evaluated import CLASSES, hold_against_scikit_learn, versions_of
from tests.live.verdict import Outcome, Place, Verdict

ID = re.compile(r"(.+)-(\d+)-(\d+)")
JOINED, REPEATED, CONTRADICTING = "joined", "repeated", "contradicting"
FORWARDED, HELD, INVALID, LATE, UNKNOWN = "forwarded", "held", "invalid", "late", "unknown"
SILENT = {JOINED, REPEATED, FORWARDED, HELD}
"""Fates that leave no dead letter."""

FORGET_SECONDS = 10.0
"""A label that comes so shortly before it would be late may find nothing but that events were forgotten."""


@dataclass(frozen=True)
class Label:
    """A record of the topic of labels."""

    place: Place
    key: bytes
    value: bytes
    time_ms: int

    @classmethod
    def of(cls, message: Any) -> Label:
        """Return a record as a consumer gets it."""
        place = message.partition(), message.offset()
        return cls(place, message.key(), message.value(), message.timestamp()[1])


@dataclass(frozen=True)
class Rules:
    """What a label's fate depends on, beside what the topics hold."""

    topic: str
    delay_seconds: float
    batch_events: int
    groups: str

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Rules:
        """Return those of workers with these settings."""
        valid = Settings(**settings)  # type: ignore[arg-type]
        return cls(valid.topic_events, valid.label_delay_seconds, valid.batch_events, valid.evaluation_groups)


@dataclass
class LabelsFound:
    """What became of labels.

    Attributes
    ----------
    n_labels : int
        On their topic.
    n_own : int
        That came with events which were answered.
    fates : Counter
        Of those on the topic.
    ahead : set of Place
        Answered events that no label of the topic found.
    n_unknown_ahead, n_own_ahead : int
        Labels of the topic that found none of these, and events' own labels that were not counted.
    """

    n_labels: int = 0
    n_own: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    ahead: set[Place] = field(default_factory=set)
    n_unknown_ahead: int = 0
    n_own_ahead: int = 0


def judge_labels(
    found: Outcome,
    labels: Sequence[Label],
    told: Mapping[str, Any],
    rules: Rules,
    exactly_once: bool,
    verdict: Verdict,
) -> LabelsFound:
    """Tell what became of labels, and note in the verdict what should have become otherwise.

    Parameters
    ----------
    found : Outcome
    labels : sequence of Label
        All that the topic holds.
    told : mapping
        What `/api/evaluations` says.
    rules : Rules
    exactly_once : bool
    verdict : Verdict
        Gets the differences.
    """
    return _Judge(found, labels, told, rules, exactly_once, verdict).judge()


class _Judge:
    def __init__(
        self,
        found: Outcome,
        labels: Sequence[Label],
        told: Mapping[str, Any],
        rules: Rules,
        exactly_once: bool,
        verdict: Verdict,
    ) -> None:
        self.found, self.told, self.rules = found, told, rules
        self.labels = sorted(labels, key=lambda label: label.place)
        self.exactly_once, self.verdict = exactly_once, verdict
        self.own = _own_labels(found)
        self.truth = dict(self.own)
        self.result = LabelsFound(len(labels), len(self.own))
        self.copies: dict[int, list[Label]] = defaultdict(list)
        self.misplaced: list[tuple[int, Label]] = []
        # One that had to be sent on may come when its event is forgotten: by the newest time that its
        # partition has seen by then, which is at most the newest of all.
        self.newest_ms: dict[int, int] = defaultdict(int)
        for (partition, _), time_ms in found.event_times.items():
            self.newest_ms[partition] = max(self.newest_ms[partition], time_ms)
        for label in labels:
            partition = label.place[0]
            self.newest_ms[partition] = max(self.newest_ms[partition], label.time_ms)
        self.numbers_elsewhere = {
            value["n"]
            for label in labels
            for value in [json.loads(label.value)]
            if (match := ID.fullmatch(value["id"])) and int(match[2]) != label.place[0]
        }

    def judge(self) -> LabelsFound:
        due = [(label, *self._due(label)) for label in self.labels]
        if not self.exactly_once:
            self.result.ahead = {event for label, event, _ in due if event and UNKNOWN in self._codes(label)}
        for label, event, allowed in due:
            self._judge_one(label, event, allowed)
        for place in self.result.ahead:
            self.truth.pop(place, None)
        self._judge_forwarded()
        self._judge_counts()
        self._judge_metrics()
        return self.result

    def _note(self, kind: str, what: str) -> None:
        self.verdict.differences[f"label {kind}"].append(what)

    # ---- each label

    def _due(self, label: Label) -> tuple[Place | None, set[str]]:
        """Return the answered event that a label is about, if any, and what may become of the label."""
        value = json.loads(label.value)
        try:
            name = canonical_class(value["label"])
        except ValueError:
            name = ""
        match = ID.fullmatch(value["id"])
        if match and not name:
            return None, {INVALID}
        if not match or match[1] != self.rules.topic or int(match[2]) >= len(self.found.watermarks):
            return None, {UNKNOWN}
        place = int(match[2]), int(match[3])
        if place[0] != label.place[0]:
            self.misplaced.append((value["n"], label))
            return None, {FORWARDED}
        self.copies[value["n"]].append(label)
        was_sent_on = value["n"] in self.numbers_elsewhere
        event = self.found.events.get(place)
        if event is None:  # it waits for an event that may yet come
            return None, {HELD, UNKNOWN} if self._can_be_late() else {HELD}
        event_seconds = self.found.event_times[place] / 1000.0
        seconds = label.time_ms / 1000.0 - event_seconds
        at_most = self.newest_ms[place[0]] / 1000.0 - event_seconds if was_sent_on else seconds
        if place not in self.found.predictions or event[0] != label.key:
            forgotten = at_most > self.rules.delay_seconds - FORGET_SECONDS
            return None, {UNKNOWN, LATE} if forgotten else {UNKNOWN}
        if seconds > self.rules.delay_seconds:
            return place, {LATE}
        if at_most > self.rules.delay_seconds and LATE in self._codes(label):
            return place, {LATE}
        if place not in self.truth:
            self.truth[place] = name
            return place, {JOINED}
        return place, {REPEATED if name == self.truth[place] else CONTRADICTING}

    def _can_be_late(self) -> bool:
        times = self.found.event_times.values()
        return max(times) - min(times) > (self.rules.delay_seconds - FORGET_SECONDS) * 1000.0

    def _codes(self, label: Label) -> set[str]:
        letters = self.found.label_letters.get(label.place, [])
        return {letter["error"].removesuffix("-label") for letter in letters}

    def _judge_one(self, label: Label, event: Place | None, allowed: set[str]) -> None:
        letters, codes = self.found.label_letters.get(label.place, []), self._codes(label)
        if len(letters) > 1:
            self.verdict.duplicates["dead letter of a label"] += len(letters) - 1
        if any((letter["key"], letter["value"]) != (label.key, label.value) for letter in letters):
            self._note("in a dead letter", f"{label} is not {letters}")
        if event in self.result.ahead:
            if not codes & {UNKNOWN, LATE}:
                self._note("met another fate", f"{label}: {sorted(codes) or 'silence'}, others are unknown")
            self.result.fates[UNKNOWN] += 1
            self.result.n_unknown_ahead += 1
            return
        fates = codes or (allowed & SILENT)
        if len(fates) != 1 or not fates <= allowed:
            self._note("met another fate", f"{label}: {sorted(codes) or 'silence'}, not {sorted(allowed)}")
        self.result.fates[min(fates & allowed or allowed)] += 1

    def _judge_forwarded(self) -> None:
        for number, label in self.misplaced:
            copies = self.copies[number]
            if not copies or (self.exactly_once and len(copies) > 1):
                self._note("sent on", f"{label}: to {[copy.place for copy in copies]}")
            for copy in copies:
                if (copy.key, copy.value, copy.time_ms) != (label.key, label.value, label.time_ms):
                    self._note("sent on", f"{label}: as {copy}")

    # ---- all of them

    def _judge_counts(self) -> None:
        fates, counts = self.result.fates, Counter(self.told["labels"])
        n_own = len([place for place in self.own if place not in self.result.ahead])
        n_joined = fates[JOINED] + n_own
        self.result.n_own_ahead = n_joined - counts[JOINED]
        if self.result.n_own_ahead < 0 or (self.exactly_once and self.result.n_own_ahead):
            self._note("counted", f"joined: {counts[JOINED]}, not {n_joined}")
        wanted = {kind: fates[kind] for kind in (REPEATED, CONTRADICTING, FORWARDED, INVALID)}
        # Which of the two an event leaves that nobody answered depends on what was forgotten by then.
        wanted["late or unknown"] = fates[LATE] + fates[UNKNOWN]
        counts["late or unknown"] = counts.pop(LATE, 0) + counts.pop(UNKNOWN, 0)
        for kind in sorted((wanted.keys() | counts.keys()) - {JOINED}):
            if counts[kind] != wanted.get(kind, 0):
                self._note("counted", f"{kind}: {counts[kind]}, not {wanted.get(kind, 0)}")

    def _judge_metrics(self) -> None:
        rows = {(row["model"], row["version"], row["group"]): row for row in self.told["evaluations"]}
        predictions = {place: self.found.predictions[place][0] for place in self.truth}
        group_of = re.compile(self.rules.groups)
        by_group: dict[str, list[Place]] = defaultdict(list)
        for place in self.truth:
            by_group[""].append(place)
            by_group[group_of.search(predictions[place]["key"].decode())[1]].append(place)  # type: ignore[index]
        for model, version in versions_of(predictions.values()):
            for group, places in sorted(by_group.items()):
                mine = [place for place in places if predictions[place]["version"] == version]
                row = rows.get((model, version, group))
                if row is None:
                    if mine:
                        self._note("evaluated", f"{model} {version} {group!r}: not at all")
                    continue
                told, truth = row["since_start"], [int(self.truth[place]) for place in mine]
                answers = [predictions[place] for place in mine]
                if self.result.n_own_ahead:
                    self._judge_cells(told, answers, truth, f"{model} {version} {group!r}", group)
                    continue
                for difference in hold_against_scikit_learn(told, answers, truth):
                    self._note("evaluated", f"{model} {version} {group!r}: {difference}")
        self._judge_online(rows)

    def _judge_cells(
        self, told: Mapping[str, Any], answers: Sequence[Any], truth: Sequence[int], about: str, group: str
    ) -> None:
        """Hold a confusion matrix against one of which some events may be missing, nobody knows which."""
        wanted = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
        for label, answer in zip(truth, answers, strict=True):
            wanted[label, int(answer["prediction"])] += 1
        missing = wanted - np.array(told["confusion_matrix"])
        n_missing = self.result.n_own_ahead
        is_right = missing.sum() == n_missing if not group else missing.sum() <= n_missing
        if (missing < 0).any() or not is_right:
            self._note("evaluated", f"{about}: {told['confusion_matrix']}, not {wanted.tolist()}")

    def _judge_online(self, rows: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> None:
        """See that the online learner is judged by the same labels, from about the first one on."""
        (told,) = [
            row["since_start"] for (model, _, group), row in rows.items() if (model, group) == ("online", "")
        ]
        n_least, n_most = Counter[str](), Counter(self.truth.values())
        first: dict[int, int] = {}
        for partition, offset in sorted(self.own):
            first.setdefault(partition, offset)
        for (partition, offset), name in self.truth.items():
            if partition in first and offset >= first[partition] + self.rules.batch_events:
                n_least[name] += 1
        n_found = dict(
            zip(told["classes"], np.array(told["confusion_matrix"]).sum(axis=1).tolist(), strict=True)
        )
        for name, n_events in n_most.items():
            least = n_least[name] - max(self.result.n_own_ahead, 0)
            if not least <= n_found.get(name, 0) <= n_events:
                self._note(
                    "evaluated", f"online, class {name}: {n_found.get(name, 0)}, not {least} to {n_events}"
                )


def _own_labels(found: Outcome) -> dict[Place, str]:
    """Return the labels that answered events brought, in canonical form."""
    own = {}
    for place in found.predictions:
        event = json.loads(found.events[place][1])
        if "label" in event:
            own[place] = canonical_class(event["label"])
    return own
