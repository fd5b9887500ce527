"""The judge of the fault tests notices what it is there for."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from compute.entity_columns import EntityColumns
from compute.state_codec import decode_entity, encode_entity
from compute.statistics import score_and_learn
from tests.live.verdict import Outcome, judge


def make_outcome() -> Outcome:
    columns = EntityColumns(n_panes=12, pane_seconds=10.0, features=("temperature",), n_slots=1)
    slots, panes = np.zeros(3, np.int64), np.full(3, 7)
    learnt, _ = score_and_learn(columns, slots, np.arange(3), panes, np.array([[1.0], [3.0], [9.0]]))
    columns.assign(learnt)
    state = decode_entity(encode_entity(columns, 0, b"quiet"))
    prediction = {"key": b"pump", "score": 0.25, "warming_up": False}
    return Outcome(
        events={(0, i): (b"pump", b"%d" % i) for i in range(4)},
        predictions={(0, i): [deepcopy(prediction)] for i in range(3)},
        alerts={((0, 2), "score-firing"): [{"key": b"pump", "severity": "warning"}]},
        dead_letters={(0, 3): [{"error": "invalid-json"}]},
        states={(0, b"pump"): state},
        watermarks={0: 7},
        views={"pump": {"n_events": 3, "features": {"temperature": {"mean": 13 / 3}}}},
    )


def lose(outcome: Outcome) -> None:
    del outcome.predictions[0, 1]


def repeat(outcome: Outcome) -> None:
    outcome.predictions[0, 1] *= 2


def repeat_otherwise(outcome: Outcome) -> None:
    outcome.predictions[0, 1].append({**outcome.predictions[0, 1][0], "score": 0.25 + 1e-6})


def predict_otherwise(outcome: Outcome) -> None:
    outcome.predictions[0, 1][0]["score"] = 0.25 + 1e-6


def answer_in_both_ways(outcome: Outcome) -> None:
    outcome.dead_letters[0, 1] = [{"error": "late-event"}]


def forget_an_alert(outcome: Outcome) -> None:
    outcome.alerts.clear()


def raise_another_alert(outcome: Outcome) -> None:
    outcome.alerts[(0, 1), "score-firing"] = [{"key": b"pump", "severity": "warning"}]


def forget_a_state(outcome: Outcome) -> None:
    outcome.states.clear()


def learn_twice(outcome: Outcome) -> None:
    state = outcome.states[0, b"pump"]
    outcome.states[0, b"pump"] = replace(state, n_events=state.n_events + 1)


def forget_an_alerts_state(outcome: Outcome) -> None:
    outcome.states[0, b"pump"] = replace(outcome.states[0, b"pump"], extra=b"")


def show_otherwise(outcome: Outcome) -> None:
    outcome.views["pump"]["features"]["temperature"]["mean"] += 1e-6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lose, "lost: 1"),
        (repeat_otherwise, "prediction repeated otherwise: 1"),
        (predict_otherwise, "prediction differs: 1"),
        (answer_in_both_ways, "dead letter too many: 1"),
        (forget_an_alert, "alert missing: 1"),
        (raise_another_alert, "alert too many: 1"),
        (forget_a_state, "state: 1"),
        (learn_twice, "state: 1"),
        (forget_an_alerts_state, "state: 1"),
        (show_otherwise, "view: 1"),
    ],
)
def test_what_differs_from_an_undisturbed_run_is_told(change: Callable[[Outcome], None], told: str) -> None:
    found = make_outcome()
    change(found)
    assert judge(found, make_outcome()).faults(exactly_once=False) == [told]


def test_equal_outcomes_have_no_fault_and_rounding_is_none() -> None:
    found = make_outcome()
    found.predictions[0, 1][0]["score"] += 1e-13
    found.views["pump"]["features"]["temperature"]["mean"] *= 1 + 1e-13
    assert judge(found, make_outcome()).faults(exactly_once=True) == []


def test_repeats_are_counted_and_are_a_fault_in_exactly_once_alone() -> None:
    found = make_outcome()
    repeat(found)
    verdict = judge(found, make_outcome())
    assert verdict.n_duplicates == 1
    assert verdict.faults(exactly_once=False) == []
    assert verdict.faults(exactly_once=True) == ["duplicates: {'prediction': 1}"]


def test_an_entity_that_fell_silent_may_be_removed_already() -> None:
    found, clean = make_outcome(), make_outcome()
    found.watermarks[0] = clean.watermarks[0] = 7 + 12
    found.states.clear()
    found.views.clear()
    assert judge(found, clean).faults(exactly_once=True) == []


def test_other_events_are_not_compared() -> None:
    found = make_outcome()
    found.events[0, 4] = (b"pump", b"4")
    assert judge(found, make_outcome()).faults(exactly_once=False) == ["events: 1"]
