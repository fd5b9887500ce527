from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.demo.story import STEPS, Story

OLD, NEW = "3fa9c21be07d4410", "91d04be27a5c3f18"
T0 = 1_790_000_000.0
Record = Callable[[Story], None]


def event(offset: int, seconds: float) -> Record:
    return lambda story: story.add_event(0, offset, T0 + seconds)


def change(seconds: float) -> Record:
    return lambda story: story.add_change(T0 + seconds)


def label(offset: int, seconds: float) -> Record:
    return lambda story: story.add_label(f"my-events-0-{offset}", T0 + seconds)


def artefact(version: str, first_event: float) -> Record:
    metadata = {
        "name": "trained",
        "version": version + 48 * "0",
        "trained_on": {"n_events": 4_000, "first_event": T0 + first_event},
        "metrics": {"candidate": "boosting", "held_out": {"accuracy": 0.9375}},
    }
    return lambda story: story.add_artefact(metadata)


def decision(action: str, version: str, seconds: float, previous: str = "", **evidence: Any) -> Record:
    value = {
        "action": action,
        "model": "trained",
        "version": version,
        "previous": previous,
        "reason": "so it is",
    }
    return lambda story: story.add_decision({**value, "evidence": evidence}, T0 + seconds)


def evaluation(version: str, accuracy: float | None, seconds: float, **other: Any) -> Record:
    value = {"version": version, "role": "champion", "group": "", "window": {"accuracy": accuracy}, **other}
    return lambda story: story.add_evaluation(value, T0 + seconds)


def drift(seconds: float, **other: Any) -> Record:
    alert = {
        "rule": "drift",
        "state": "firing",
        "score": 0.314,
        "threshold": 0.2,
        "reasons": [{"feature": "distance"}, {"feature": "n_recent"}],
        **other,
    }
    return lambda story: story.add_alert(alert, T0 + seconds)


EVIDENCE = {"p_value": 3.12e-20, "e_value": 2.5e18, "champion_only": 14, "challenger_only": 1_130}

WHOLE: dict[str, list[Record]] = {
    "begin": [event(0, 0)],
    "labels": [label(0, 2.5)],
    "promoted": [artefact(OLD, 1), decision("promote", OLD, 20)],
    "good": [evaluation(OLD, 0.94, 25)],
    "changed": [change(45)],
    "bad": [evaluation(OLD, 0.70, 55)],
    "drifted": [drift(50)],
    "challenged": [artefact(NEW, 48), decision("challenge", NEW, 70)],
    "replaced": [decision("promote", NEW, 73.5, previous=OLD, **EVIDENCE)],
    "recovered": [evaluation(NEW, 0.93, 81)],
}


def tell(records: list[Record]) -> Story:
    story = Story()
    for record in records:
        record(story)
    return story


def without(*names: str) -> list[Record]:
    return [record for name, records in WHOLE.items() if name not in names for record in records]


def steps_missing(story: Story) -> set[str]:
    text = story.tell()
    return {name for name, step in STEPS.items() if f"NOT SEEN: {step}" in text}


def test_a_whole_story_is_told_in_order_with_its_times_and_numbers() -> None:
    story = tell(without())
    assert story.is_complete
    assert story.tell().splitlines() == [
        "labels                 1   (2.5 to 2.5 s after their events)",
        "accuracy      0.940 before the change, 0.700 at worst, 0.930 at the end",
        "  0:02  labels begin to arrive, 2.5 s after their events",
        "  0:20  model 3fa9c21b trained on 4,000 labelled events, boosting, accuracy 0.938 on held-out ones, "
        "promoted: so it is",
        "  0:45  the world changes",
        "  0:50  drift: distance, n_recent, 0.31 with 0.2 allowed",
        "  1:10  challenger 91d04be2 trained on 4,000 labelled events, boosting, accuracy 0.938 on held-out "
        "ones: so it is",
        "  1:13  91d04be2 promoted: so it is (1,130 to 14 where one alone was right: McNemar p = 3e-20, "
        "e-value 2e+18)",
        "  1:21  accuracy is back at 0.930; it was 0.940 before the change",
    ]


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        ("labels", {"labels", "promoted"}),
        ("promoted", {"promoted"}),
        ("changed", {"changed", "drifted", "challenged", "replaced", "recovered"}),
        ("drifted", {"drifted", "challenged", "replaced", "recovered"}),
        ("challenged", {"challenged", "replaced", "recovered"}),
        ("replaced", {"replaced", "recovered"}),
        ("recovered", {"recovered"}),
        ("good", {"recovered"}),
        ("bad", {"recovered"}),
    ],
)
def test_what_did_not_happen_is_told_and_what_rests_on_it_does_not_count(
    left_out: str, missing: set[str]
) -> None:
    story = tell(without(left_out))
    assert steps_missing(story) == missing
    assert not story.is_complete


def test_nothing_at_all_is_a_story_without_any_step() -> None:
    assert steps_missing(tell([])) == set(STEPS)
    assert "unknown before the change, unknown at worst, unknown at the end" in tell([]).tell()


def test_labels_that_come_with_their_events_or_for_nothing_known_are_not_late() -> None:
    assert "labels" in steps_missing(tell([event(0, 0), label(0, 0.0)]))
    assert "labels" in steps_missing(tell([event(0, 0), label(99, 5.0)]))


def test_a_drift_before_the_change_is_told_but_is_no_answer_to_it() -> None:
    story = tell([event(0, 0), drift(5)])
    assert story.take_news() == ["0:05  drift: distance, n_recent, 0.31 with 0.2 allowed"]
    assert "drifted" in steps_missing(story)


def test_after_the_change_each_rule_is_told_of_once() -> None:
    story = tell([event(0, 0), change(3), drift(5), drift(6), drift(7, rule="error-drift"), drift(8)])
    assert [line.split(":", 2)[1] for line in story.take_news()] == [
        "03  the world changes",
        "05  drift",
        "07  error-drift",
    ]


@pytest.mark.parametrize("other", [{"rule": "score"}, {"state": "resolved"}])
def test_other_alerts_are_no_part_of_the_story(other: dict[str, Any]) -> None:
    assert "drifted" in steps_missing(tell([event(0, 0), change(3), drift(5, **other)]))


def test_errors_that_drift_count_too() -> None:
    story = tell([event(0, 0), change(3), drift(5, rule="error-drift", reasons=[])])
    assert "drifted" not in steps_missing(story)
    assert story.take_news()[-1] == "0:05  error-drift: found, 0.31 with 0.2 allowed"


def test_the_promotion_of_a_challenger_from_before_the_drift_is_no_answer_to_it() -> None:
    early = [decision("challenge", NEW, 47)]
    records = without("challenged")
    assert {"challenged", "replaced"} <= steps_missing(tell(records[:5] + early + records[5:]))


def test_a_challenger_that_also_learnt_from_before_the_change_is_no_answer_to_it() -> None:
    mixed = [artefact(NEW, 40), decision("challenge", NEW, 70)]
    records = without("challenged")
    assert {"challenged", "replaced"} <= steps_missing(tell(records[:-3] + mixed + records[-3:]))


def test_the_time_since_the_last_promotion_is_known() -> None:
    assert tell(without("promoted", "replaced")).serves_since is None
    assert tell(without("replaced")).serves_since == T0 + 20
    assert tell(without()).serves_since == T0 + 73.5


@pytest.mark.parametrize("accuracy", [0.71, 0.85])
def test_an_accuracy_that_stays_low_has_not_recovered(accuracy: float) -> None:
    assert steps_missing(tell([*without("recovered"), evaluation(NEW, accuracy, 81)])) == {"recovered"}


def test_what_a_model_said_as_a_challenger_is_no_recovery() -> None:
    too_soon = [*without("recovered"), evaluation(NEW, 0.93, 80.9)]  # 7.4 s, of which labels take 2.5
    assert steps_missing(tell(too_soon)) == {"recovered"}


def test_a_change_that_cost_nothing_leaves_nothing_to_recover() -> None:
    assert steps_missing(tell([*without("bad"), evaluation(NEW, 0.95, 81)])) == {"recovered"}


@pytest.mark.parametrize(
    "other", [{"role": "challenger"}, {"role": "online"}, {"group": "eu"}, {"window": {"n_labels": 0}}]
)
def test_only_the_accuracy_of_what_serves_counts(other: dict[str, Any]) -> None:
    assert tell([evaluation(OLD, 0.5, 1, **other)]).accuracy is None


def test_a_recovery_is_told_once_and_all_news_are_told_once() -> None:
    story = tell([*without(), evaluation(NEW, 0.94, 82)])
    news = story.take_news()
    assert sum("accuracy is back" in line for line in news) == 1
    assert story.take_news() == []
    assert f"  {news[-1]}" in story.tell()


def test_decisions_by_hand_are_told() -> None:
    story = tell([event(0, 0), decision("rollback", OLD, 4, previous=NEW), decision("retire", NEW, 5)])
    assert story.take_news() == ["0:04  3fa9c21b rolled back: so it is", "0:05  91d04be2 retired: so it is"]
