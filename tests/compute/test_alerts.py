from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.alert_columns import AlertColumns
from compute.alerts import AlertRule, Transition, alert_id, evaluate_alerts

RULE = AlertRule(threshold=0.8, critical=0.9, resolve=0.5, cooldown_seconds=100.0, min_support=30)
N_SLOTS = 2

Event = tuple[int, float, float, int] | tuple[int, float, float, int, bool]
"""Slot, score, timestamp, support, and whether what was before is forgotten (False)."""


def run(columns: AlertColumns, events: list[Event], rule: AlertRule = RULE) -> list[Transition]:
    padded = [event if len(event) == 5 else (*event, False) for event in events]
    slots, scores, timestamps, support, forgotten = zip(*padded, strict=True) if events else ((),) * 5
    return evaluate_alerts(
        columns,
        np.array(slots, np.int64),
        np.array(scores, np.float64),
        np.array(timestamps, np.float64),
        np.array(support, np.int64),
        np.array(forgotten, np.bool_),
        rule,
    )


def run_one_entity(
    *scores_at: tuple[float, float], rule: AlertRule = RULE
) -> list[tuple[int, str, str, int]]:
    return [tuple(t) for t in run(AlertColumns(1), [(0, s, at, 99) for s, at in scores_at], rule)]


def run_plainly(events: list[Event], rule: AlertRule) -> list[Transition]:
    """Apply the rule to one event after the other, as its documentation says it."""
    states: dict[int, dict[str, float]] = {}
    transitions = []
    for position, (slot, score, timestamp, support, *forgotten) in enumerate(events):
        if any(forgotten):
            states.pop(slot, None)
        state = states.setdefault(slot, {"level": 0, "last_fired": -math.inf, "suppressed": 0})
        if score >= rule.threshold and support >= rule.min_support:
            level = 2 if score >= rule.critical else 1
            time = max(timestamp, state["last_fired"])
            cooled = time - state["last_fired"] >= rule.cooldown_seconds
            if (state["level"] == 0 and cooled) or 0 < state["level"] < level:
                severity = "critical" if level == 2 else "warning"
                transitions.append(Transition(position, "firing", severity, int(state["suppressed"])))
                states[slot] = {"level": level, "last_fired": time, "suppressed": 0}
            else:
                state["suppressed"] += 1
        elif score < rule.resolve and state["level"] and timestamp >= state["last_fired"]:
            severity = "critical" if state["level"] == 2 else "warning"
            transitions.append(Transition(position, "resolved", severity, int(state["suppressed"])))
            state.update(level=0, suppressed=0)
    return transitions


def test_an_empty_batch_changes_nothing() -> None:
    assert run(AlertColumns(1), []) == []


def test_a_score_at_the_threshold_fires_a_warning() -> None:
    assert run_one_entity((0.79, 0), (0.8, 1)) == [(1, "firing", "warning", 0)]


def test_a_score_at_the_critical_bound_fires_at_once_as_critical() -> None:
    assert run_one_entity((0.9, 0)) == [(0, "firing", "critical", 0)]


def test_too_little_support_does_not_fire() -> None:
    assert run(AlertColumns(1), [(0, 1.0, 0.0, 29)]) == []
    assert len(run(AlertColumns(1), [(0, 1.0, 0.0, 30)])) == 1


def test_a_firing_alert_does_not_repeat_and_counts_what_it_kept_back() -> None:
    assert run_one_entity((0.85, 0), (0.85, 1), (0.8, 2), (0.1, 3)) == [
        (0, "firing", "warning", 0),
        (3, "resolved", "warning", 2),
    ]


def test_a_score_between_resolve_and_threshold_changes_nothing() -> None:
    assert run_one_entity((0.85, 0), (0.5, 1), (0.79, 2), (0.49, 3)) == [
        (0, "firing", "warning", 0),
        (3, "resolved", "warning", 0),
    ]


def test_a_warning_escalates_once_and_within_the_cool_down() -> None:
    assert run_one_entity((0.85, 0), (0.95, 1), (0.95, 2), (0.85, 3), (0.95, 4), (0.1, 5)) == [
        (0, "firing", "warning", 0),
        (1, "firing", "critical", 0),
        (5, "resolved", "critical", 3),
    ]


def test_the_cool_down_suppresses_and_the_next_alert_says_how_many() -> None:
    assert run_one_entity((0.85, 0), (0.1, 10), (0.85, 20), (0.99, 99.9), (0.85, 100), (0.1, 101)) == [
        (0, "firing", "warning", 0),
        (1, "resolved", "warning", 0),
        (4, "firing", "warning", 2),
        (5, "resolved", "warning", 0),
    ]


def test_the_cool_down_counts_from_the_escalation() -> None:
    assert [t[:2] for t in run_one_entity((0.85, 0), (0.95, 50), (0.1, 60), (0.85, 149), (0.85, 150))] == [
        (0, "firing"),
        (1, "firing"),
        (2, "resolved"),
        (4, "firing"),
    ]


def test_a_late_event_does_not_shorten_the_cool_down() -> None:
    assert [
        t[:2] for t in run_one_entity((0.85, 1000), (0.1, 1001), (0.85, 10), (0.85, 1099), (0.85, 1100))
    ] == [
        (0, "firing"),
        (1, "resolved"),
        (4, "firing"),
    ]


def test_without_a_cool_down_a_late_event_fires_too() -> None:
    rule = replace(RULE, cooldown_seconds=0.0)
    assert [t[:2] for t in run_one_entity((0.85, 1000), (0.1, 1001), (0.85, 10), rule=rule)] == [
        (0, "firing"),
        (1, "resolved"),
        (2, "firing"),
    ]


def test_an_event_from_before_the_alert_does_not_resolve_it() -> None:
    assert run_one_entity((0.85, 1000), (0.1, 999), (0.1, 1000)) == [
        (0, "firing", "warning", 0),
        (2, "resolved", "warning", 0),
    ]


def test_a_silent_entity_keeps_firing_until_it_speaks() -> None:
    assert run_one_entity((0.85, 0), (0.1, 1e9))[-1] == (1, "resolved", "warning", 0)


def test_an_alert_is_forgotten_after_a_silence_that_long_with_its_cool_down() -> None:
    events = [(0, 0.85, 0.0, 99), (0, 0.1, 10.0, 99, True), (0, 0.85, 11.0, 99)]
    assert run(AlertColumns(1), events) == [
        Transition(0, "firing", "warning", 0),
        Transition(2, "firing", "warning", 0),
    ]


def test_a_score_that_is_not_a_number_changes_nothing() -> None:
    assert run_one_entity((math.nan, 0), (0.85, 1), (math.nan, 2)) == [(1, "firing", "warning", 0)]


def test_since_is_the_time_of_the_first_firing_alert() -> None:
    columns = AlertColumns(1)
    run(columns, [(0, 0.85, 5.0, 99), (0, 0.95, 6.0, 99)])
    assert (columns.since[0], columns.last_fired[0]) == (5.0, 6.0)


@pytest.mark.parametrize("state", ["firing", "resolved"])
def test_an_id_names_event_rule_and_state(state: str) -> None:
    assert alert_id("events-0-7", "score", state) == f"events-0-7-score-{state}"


EVENTS = st.lists(
    st.tuples(
        st.integers(0, N_SLOTS - 1),
        st.sampled_from([0.0, 0.49, 0.5, 0.7, 0.8, 0.85, 0.9, 1.0, math.nan]),
        st.integers(-20, 400).map(float),
        st.sampled_from([99, 99, 30, 29]),
    ),
    max_size=40,
)
SILENCES = EVENTS.flatmap(
    lambda events: st.lists(
        st.sampled_from([False] * 4 + [True]), min_size=len(events), max_size=len(events)
    ).map(lambda flags: [(*e, flag) for e, flag in zip(events, flags, strict=True)])
)
"""Events, before some of which their entities were silent for so long that they start anew."""

RULES = st.builds(AlertRule, cooldown_seconds=st.sampled_from([0.0, 50.0, 1e6]), min_support=st.just(30))


@settings(max_examples=200, deadline=None)
@given(SILENCES, RULES)
def test_transitions_equal_those_of_one_event_after_the_other(events: list[Event], rule: AlertRule) -> None:
    assert run(AlertColumns(N_SLOTS), events, rule) == run_plainly(events, rule)


@settings(max_examples=200, deadline=None)
@given(SILENCES, RULES, st.data())
def test_any_split_into_batches_gives_the_same_transitions(
    events: list[Event], rule: AlertRule, data: st.DataObject
) -> None:
    columns, transitions, start = AlertColumns(N_SLOTS), [], 0
    while start < len(events):
        end = data.draw(st.integers(start + 1, len(events)))
        for transition in run(columns, events[start:end], rule):
            transitions.append(transition._replace(position=transition.position + start))
        slots = np.arange(N_SLOTS)
        restored = AlertColumns(N_SLOTS)  # a restart between two batches changes nothing either
        restored.unpack(slots, columns.pack(slots))
        columns, start = restored, end
    assert transitions == run(AlertColumns(N_SLOTS), events, rule)


@settings(max_examples=200, deadline=None)
@given(EVENTS, RULES)
def test_an_alert_fires_again_only_after_it_resolved_or_to_escalate(
    events: list[Event], rule: AlertRule
) -> None:
    severity_of: dict[int, str] = {}
    for transition in run(AlertColumns(N_SLOTS), events, rule):
        slot = events[transition.position][0]
        if transition.state == "resolved":
            assert severity_of.pop(slot) == transition.severity
        elif slot in severity_of:
            assert (severity_of[slot], transition.severity) == ("warning", "critical")
            severity_of[slot] = "critical"
        else:
            severity_of[slot] = transition.severity


@settings(max_examples=200, deadline=None)
@given(EVENTS, RULES)
def test_every_exceedance_is_published_or_counted_once(events: list[Event], rule: AlertRule) -> None:
    columns = AlertColumns(N_SLOTS)
    transitions = run(columns, events, rule)
    exceedances = [e for e in events if e[1] >= rule.threshold and e[3] >= rule.min_support]
    published = sum(transition.state == "firing" for transition in transitions)
    counted = sum(transition.suppressed for transition in transitions) + int(columns.suppressed.sum())
    assert published + counted == len(exceedances)
