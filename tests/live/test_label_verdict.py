"""The judge of labels notices what it is there for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.live.label_verdict import Label, LabelsFound, Rules, judge_labels
from tests.live.verdict import Outcome, Verdict

KEY = b"sensor-1"
DETECTOR = ("detector", "builtin-1")
RULES = Rules(topic="events", delay_seconds=20.0, batch_events=4_000, groups="^sensor-([0-9])")
TRUTH = {0: 1, 1: 0, 2: 1, 3: 0}
"""Of the events that have one; 4 has none, 5 is a dead letter."""

WRONG = {0: 0, 1: 0, 2: 1, 3: 1}
"""What was predicted."""


@dataclass
class Case:
    """What a run left: event 0 brought its label, the others' came by the topic."""

    found: Outcome
    labels: list[Label]
    told: dict[str, Any]


def label_of(offset: int, event: int, label: Any, seconds: float = 1.0, partition: int = 0) -> Label:
    value = json.dumps({"id": f"events-0-{event}", "label": label, "n": event * 10 + (label == 1)}).encode()
    return Label((partition, offset), KEY, value, int((100 + seconds) * 1000))


def letter_of(label: Label, code: str) -> dict[str, Any]:
    return {"error": f"{code}-label", "key": label.key, "value": label.value}


def evaluation(model: str, group: str, matrix: list[list[int]]) -> dict[str, Any]:
    (a, b), (c, d) = matrix
    told = {"n_labels": a + b + c + d, "classes": ["0", "1"], "confusion_matrix": matrix}
    told |= dict.fromkeys(("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc"), 0.5)
    told["roc_auc_resolution"] = 0.0
    version = DETECTOR[1] if model == DETECTOR[0] else "online-1"
    return {"model": model, "version": version, "group": group, "since_start": told}


def make_case() -> Case:
    events = {(0, i): (KEY, json.dumps({"label": 1} if i == 0 else {}).encode()) for i in range(6)}
    predictions: dict[Any, Any] = {}
    for i in range(5):
        guess = WRONG.get(i, 0)
        about = {"model": DETECTOR[0], "version": DETECTOR[1], "key": KEY}
        predictions[0, i] = [{**about, "prediction": guess, "score": float(guess)}]
    labels = [
        label_of(0, 1, 0),
        label_of(1, 2, 1),
        label_of(2, 2, True),
        label_of(3, 1, 1),
        label_of(4, 5, 1),
        label_of(5, 4, 1, seconds=21.0),
        label_of(0, 3, 0, partition=1),
        label_of(6, 3, 0),
    ]
    letters = {(0, 3): "contradicting", (0, 4): "unknown", (0, 5): "late"}
    by_place = {label.place: label for label in labels}
    found = Outcome(
        events=dict(events),
        predictions=predictions,
        alerts={},
        dead_letters={(0, 5): [{"error": "late-event"}]},
        states={},
        watermarks={0: 7, 1: 7},
        views={},
        event_times=dict.fromkeys(events, 100000),
        label_letters={place: [letter_of(by_place[place], code)] for place, code in letters.items()},
    )
    matrix = [[1, 1], [1, 1]]
    counts = {"joined": 4, "repeated": 1, "contradicting": 1, "unknown": 1, "late": 1, "forwarded": 1}
    rows = [evaluation("detector", group, matrix) for group in ("", "1")]
    return Case(found, labels, {"labels": counts, "evaluations": [*rows, evaluation("online", "", matrix)]})


def judge(case: Case, exactly_once: bool = True) -> tuple[LabelsFound, Verdict]:
    verdict = Verdict(0, 0, 0)
    return judge_labels(case.found, case.labels, case.told, RULES, exactly_once, verdict), verdict


def count(case: Case, **more: int) -> None:
    case.told["labels"] = dict(Counter(case.told["labels"]) + Counter(more))


def miss(case: Case, **fewer: int) -> None:
    counts = Counter(case.told["labels"])
    counts.subtract(fewer)
    case.told["labels"] = dict(counts)


def count_a_label_twice(case: Case) -> None:
    count(case, joined=1)


def lose_a_label(case: Case) -> None:
    miss(case, joined=1)


def lose_a_contradiction(case: Case) -> None:
    del case.found.label_letters[0, 3]


def refuse_a_label(case: Case) -> None:
    case.found.label_letters[0, 0] = [letter_of(case.labels[0], "unknown")]


def refuse_for_another_reason(case: Case) -> None:
    case.found.label_letters[0, 5] = [letter_of(case.labels[5], "contradicting")]


def change_a_dead_letter(case: Case) -> None:
    case.found.label_letters[0, 3][0]["value"] = b"{}"


def send_on_nothing(case: Case) -> None:
    del case.labels[7]


def send_on_with_another_time(case: Case) -> None:
    case.labels[7] = replace(case.labels[7], time_ms=case.labels[7].time_ms + 1)


def evaluate_otherwise(case: Case) -> None:
    case.told["evaluations"][0]["since_start"]["confusion_matrix"] = [[1, 1], [0, 2]]


def evaluate_a_group_otherwise(case: Case) -> None:
    case.told["evaluations"][1]["since_start"]["roc_auc"] = 0.6


def let_the_online_learner_be_judged_twice(case: Case) -> None:
    case.told["evaluations"][2]["since_start"]["confusion_matrix"] = [[1, 2], [1, 1]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (count_a_label_twice, "label counted"),
        (lose_a_label, "label counted"),
        (lose_a_contradiction, "label met another fate"),
        (refuse_a_label, "label met another fate"),
        (refuse_for_another_reason, "label met another fate"),
        (change_a_dead_letter, "label in a dead letter"),
        (send_on_nothing, "label sent on"),
        (send_on_with_another_time, "label sent on"),
        (evaluate_otherwise, "label evaluated"),
        (evaluate_a_group_otherwise, "label evaluated"),
        (let_the_online_learner_be_judged_twice, "label evaluated"),
    ],
)
def test_what_should_not_have_become_of_a_label_is_told(change: Callable[[Case], None], told: str) -> None:
    case = make_case()
    change(case)
    assert told in judge(case)[1].differences


@pytest.mark.parametrize("exactly_once", [True, False])
def test_what_became_as_it_should_is_no_fault(exactly_once: bool) -> None:
    became, verdict = judge(make_case(), exactly_once)
    assert verdict.differences == {}
    assert became.n_own == 1
    assert became.fates == {
        "joined": 3,
        "repeated": 1,
        "contradicting": 1,
        "unknown": 1,
        "late": 1,
        "forwarded": 1,
    }
    assert (became.n_unknown_ahead, became.n_own_ahead) == (0, 0)


def ahead_of(case: Case) -> None:
    """Let event 2 be one that its entity was ahead of: its two labels find nothing."""
    for place in (1, 2):
        case.found.label_letters[0, place] = [letter_of(case.labels[place], "unknown")]
    miss(case, joined=1, repeated=1)
    count(case, unknown=2)
    for row in case.told["evaluations"]:
        row["since_start"] |= {"confusion_matrix": [[1, 1], [1, 0]], "n_labels": 3, "accuracy": 1 / 3}
        row["since_start"] |= {"balanced_accuracy": 0.25, "precision": 0.0, "recall": 0.0, "f1": 0.0}
        row["since_start"] |= {"roc_auc": 0.25}


def test_an_entity_ahead_of_its_partition_is_told_of_and_is_a_fault_in_exactly_once_alone() -> None:
    case = make_case()
    ahead_of(case)
    became, verdict = judge(case, exactly_once=False)
    assert verdict.differences == {}
    assert (became.n_unknown_ahead, became.ahead) == (2, {(0, 2)})
    assert "label met another fate" in judge(case)[1].differences


def test_of_an_entity_ahead_of_its_partition_all_labels_are_unknown() -> None:
    case = make_case()
    ahead_of(case)
    del case.found.label_letters[0, 2]
    assert "label met another fate" in judge(case, exactly_once=False)[1].differences


def test_own_labels_of_an_entity_ahead_of_its_partition_are_found_by_their_number() -> None:
    case = make_case()
    miss(case, joined=1)
    for row in case.told["evaluations"]:
        row["since_start"] |= {"confusion_matrix": [[1, 1], [0, 1]], "n_labels": 3}
    became, verdict = judge(case, exactly_once=False)
    assert verdict.differences == {}
    assert became.n_own_ahead == 1
    case.told["evaluations"][0]["since_start"]["confusion_matrix"] = [[1, 0], [0, 2]]
    assert "label evaluated" in judge(case, exactly_once=False)[1].differences


def test_a_dead_letter_twice_is_a_duplicate() -> None:
    case = make_case()
    case.found.label_letters[0, 3] *= 2
    assert judge(case, exactly_once=False)[1].duplicates == {"dead letter of a label": 1}
