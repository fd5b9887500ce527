"""The story of the scenario `learning`, told from what the topics say, and whether all of it happened.

Pure bookkeeping: records come in as decoded JSON with their Kafka timestamps. Nothing is taken for granted; a
step that no record shows is told as not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from compute.metadata import VERSION_LENGTH

LOST_LEAST = 0.05
"""Accuracy that the change of the world has to cost for a recovery to mean anything."""

RECOVERED_SHARE = 0.8
"""Share of the lost accuracy that has to come back."""

SERVED_SECONDS = 5.0
"""How long a model has to serve, beside the delay of its labels, until its accuracy is not a challenger's."""

STEPS = {
    "labels": "labels that come later than their events",
    "promoted": "a first model, trained on them and promoted",
    "changed": "the change of the world",
    "drifted": "an alert of drift after it",
    "challenged": "a challenger, trained on what came after the change",
    "replaced": "its promotion, for better answers to the same events",
    "recovered": "an accuracy that recovers",
}
"""By name, in the order in which they have to happen: what the story needs."""


PAST = {
    "challenge": "challenges",
    "promote": "promoted",
    "rollback": "rolled back",
    "retire": "retired",
    "split": "split",
}


class _Measured(NamedTuple):
    at: float
    version: str
    accuracy: float


class Story:
    """What happened so far.

    Attributes
    ----------
    n_labels : int
        Labels seen.
    accuracy_built_in : float or None
        Accuracy over the window of the built-in detector, which serves before the first model.

    Examples
    --------
    >>> story = Story()
    >>> story.add_event(0, 0, 1_000.0)
    >>> story.add_label("events-0-0", 1_002.5)
    >>> story.take_news()
    ['0:02  labels begin to arrive, 2.5 s after their events']
    >>> print(story.tell().splitlines()[-1])
      -:--  NOT SEEN: an accuracy that recovers
    """

    def __init__(self) -> None:
        self._began_at: float | None = None
        self._sent_at: dict[tuple[int, int], float] = {}
        self._delays: list[float] = []  # shortest and longest
        self._trained: dict[str, dict[str, Any]] = {}
        self._measured: list[_Measured] = []
        self._steps: dict[str, float] = {}
        self._answers: set[str] = set()  # challengers that learnt from the changed world alone
        self._rules: set[str] = set()
        self._serves_since: float | None = None
        self._lines: list[str] = []
        self._n_told = 0
        self.n_labels = 0
        self.accuracy_built_in: float | None = None

    @property
    def accuracy(self) -> float | None:
        """Accuracy over the window of the model that serves; None while none is known."""
        return self._measured[-1].accuracy if self._measured else None

    @property
    def serves_since(self) -> float | None:
        """When the model that serves was promoted; None without one."""
        return self._serves_since

    @property
    def is_complete(self) -> bool:
        """Whether every step was seen."""
        return set(self._steps) == set(STEPS)

    def add_event(self, partition: int, offset: int, at: float) -> None:
        """Take note of an event and the time of its record, epoch seconds."""
        self._began_at = at if self._began_at is None else self._began_at
        self._sent_at[partition, offset] = at

    def add_change(self, at: float) -> None:
        """Take note that the world changes."""
        self._step("changed", at, "the world changes")

    def add_label(self, event_id: str, at: float) -> None:
        """Take note of a label by the id that it names."""
        self.n_labels += 1
        partition, offset = event_id.rsplit("-", 2)[1:]
        sent_at = self._sent_at.pop((int(partition), int(offset)), None)
        if sent_at is None:
            return
        delay = at - sent_at
        self._delays = [min(delay, *self._delays), max(delay, *self._delays)] if self._delays else [delay] * 2
        if delay > 0 and "labels" not in self._steps:
            self._step("labels", at, f"labels begin to arrive, {delay:.1f} s after their events")

    def add_artefact(self, metadata: Mapping[str, Any]) -> None:
        """Take note of an artefact's metadata."""
        self._trained[metadata["version"][:VERSION_LENGTH]] = dict(metadata)

    def add_decision(self, decision: Mapping[str, Any], at: float) -> None:
        """Take note of an entry of the audit trail."""
        action, version = decision["action"], decision["version"]
        step, line = "", f"{version[:8]} {PAST[action]}"
        if action == "challenge":
            line = f"challenger {version[:8]}{self._describe_training(version)}"
            if "drifted" in self._steps and self._first_event(version) >= self._steps["changed"]:
                step = "challenged"
                self._answers.add(version)
        elif action == "promote" and not decision.get("previous"):
            line = f"model {version[:8]}{self._describe_training(version)}, promoted"
            step = "promoted" if "labels" in self._steps else ""
        elif action == "promote" and version in self._answers:
            step = "replaced"
        if action in ("promote", "rollback"):
            self._serves_since = at
        reason = f": {decision['reason']}" if decision.get("reason") else ""
        self._step(step, at, line + reason + _describe_evidence(decision.get("evidence") or {}))

    def add_evaluation(self, value: Mapping[str, Any], at: float) -> None:
        """Take note of an evaluation; what counts is the accuracy over the window of the one that serves."""
        accuracy = value["window"].get("accuracy")
        if value["role"] == "built-in" and not value["group"] and accuracy is not None:
            self.accuracy_built_in = accuracy
        if value["role"] != "champion" or value["group"] or accuracy is None:
            return
        self._measured.append(_Measured(at, value["version"], accuracy))
        before, worst = self.accuracy_before, self.accuracy_worst
        if "replaced" not in self._steps or before is None or worst is None:
            return
        if at - self._steps["replaced"] < SERVED_SECONDS + max(self._delays, default=0.0):
            return
        lost = before - worst
        if lost >= LOST_LEAST and accuracy - worst >= RECOVERED_SHARE * lost:
            self._step(
                "recovered", at, f"accuracy is back at {accuracy:.3f}; it was {before:.3f} before the change"
            )

    def add_alert(self, alert: Mapping[str, Any], at: float) -> None:
        """Take note of an alert of drift; the rest are no part of the story."""
        if not alert["rule"].endswith("drift") or alert["state"] != "firing":
            return
        what = ", ".join(reason["feature"] for reason in alert.get("reasons", [])[:3])
        measure = f"{alert['score']:.2f} with {alert['threshold']:g} allowed"
        line = f"{alert['rule']}: {what or 'found'}, {measure}"
        if "changed" in self._steps:
            if alert["rule"] in self._rules:  # every partition finds it
                return
            self._rules.add(alert["rule"])
        self._step("drifted" if "changed" in self._steps else "", at, line)

    @property
    def accuracy_before(self) -> float | None:
        """Accuracy at the last look before the world changed."""
        end = self._steps.get("changed")
        known = [each.accuracy for each in self._measured if end is not None and each.at <= end]
        return known[-1] if known else None

    @property
    def accuracy_worst(self) -> float | None:
        """Lowest accuracy between the change and the promotion that answered it."""
        start, end = self._steps.get("changed", float("inf")), self._steps.get("replaced", float("inf"))
        return min((each.accuracy for each in self._measured if start < each.at <= end), default=None)

    def take_news(self) -> list[str]:
        """Return what happened since the last call, a line each."""
        news, self._n_told = self._lines[self._n_told :], len(self._lines)
        return news

    def tell(self) -> str:
        """Return the whole story."""
        before, worst, now = (
            "unknown" if value is None else f"{value:.3f}"
            for value in (self.accuracy_before, self.accuracy_worst, self.accuracy)
        )
        delays = (
            f"   ({self._delays[0]:.1f} to {self._delays[1]:.1f} s after their events)"
            if self._delays
            else ""
        )
        missing = [f"  -:--  NOT SEEN: {text}" for name, text in STEPS.items() if name not in self._steps]
        return "\n".join(
            [
                f"labels        {self.n_labels:>10,}{delays}",
                f"accuracy      {before} before the change, {worst} at worst, {now} at the end",
                *(f"  {line}" for line in self._lines),
                *missing,
            ]
        )

    def _step(self, name: str, at: float, line: str) -> None:
        if name and name in self._steps:
            name = ""
        if name:
            self._steps[name] = at
        elif line.startswith("accuracy"):
            return
        seconds = max(0.0, at - (self._began_at if self._began_at is not None else at))
        self._lines.append(f"{int(seconds // 60)}:{int(seconds % 60):02d}  {line}")

    def _first_event(self, version: str) -> float:
        trained_on = self._trained.get(version, {}).get("trained_on")
        return trained_on.get("first_event", 0.0) if isinstance(trained_on, Mapping) else 0.0

    def _describe_training(self, version: str) -> str:
        metadata = self._trained.get(version, {})
        metrics, trained_on = metadata.get("metrics") or {}, metadata.get("trained_on")
        n_events = trained_on.get("n_events") if isinstance(trained_on, Mapping) else None
        accuracy = (metrics.get("held_out") or {}).get("accuracy")
        told = [
            f" on {n_events:,} labelled events" if n_events else "",
            f", {metrics['candidate']}" if metrics.get("candidate") else "",
            f", accuracy {accuracy:.3f} on held-out ones" if accuracy else "",
        ]
        return f" trained{''.join(told)}" if any(told) else ""


def _describe_evidence(evidence: Mapping[str, Any]) -> str:
    if evidence.get("p_value") is None:
        return ""
    return (
        f" ({evidence['challenger_only']:,} to {evidence['champion_only']:,} where one alone was right: "
        f"McNemar p = {evidence['p_value']:.1g}, e-value {evidence['e_value']:.1g})"
    )
