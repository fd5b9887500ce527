"""When an entity's alert starts, worsens and ends.

Owns the rule and its transitions; the state they run on is ``compute/alert_columns.py``, the message is
``compute/alert_messages.py``. Time is event time: nothing happens unless an event arrives, so an entity that
falls silent while its alert is firing keeps firing until it speaks again. Its first healthy event resolves
the alert, however empty its window is by then. After ``KEPT_WINDOWS`` of silence the alert is forgotten,
without a ``resolved``: there is no event whose id it could carry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.alert_columns import CRITICAL, QUIET, WARNING, AlertColumns

KEPT_WINDOWS = 168
"""Windows of silence after which an alert is forgotten: a week, where a window is an hour."""

State = Literal["firing", "resolved"]
Severity = Literal["warning", "critical"]

_SEVERITIES: dict[int, Severity] = {WARNING: "warning", CRITICAL: "critical"}


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When a score is worth a person's attention.

    Parameters
    ----------
    name : str
        Name of the rule, part of an alert's id.
    threshold : float
        A score of at least this fires.
    critical : float
        A score of at least this, or more, is critical instead of a warning.
    resolve : float
        A score below this resolves; between it and the threshold nothing changes, so that a score which
        wavers around the threshold raises one alert.
    cooldown_seconds : float
        For this long after a firing alert, in event time, the entity raises no other.
    min_support : int
        Events that the entity's window must hold before its scores can fire.
    """

    name: str = "score"
    threshold: float = 0.8
    critical: float = 0.9
    resolve: float = 0.5
    cooldown_seconds: float = 300.0
    min_support: int = 30


class Transition(NamedTuple):
    """A change that is published as an alert.

    The severity of a firing alert only rises; a resolved one carries the worst that was reached.
    ``suppressed`` counts the exceedances of this entity since its last alert that were not published: those
    within the cool-down and the repeats of a firing one.
    """

    position: int
    state: State
    severity: Severity
    suppressed: int


def alert_id(event_id: str, rule: str, state: State) -> str:
    """Return the id of an alert: the same for the same event, so that consumers can drop repeats.

    Examples
    --------
    >>> alert_id("events-2-1841", "score", "firing")
    'events-2-1841-score-firing'
    """
    return f"{event_id}-{rule}-{state}"


def evaluate_alerts(
    columns: AlertColumns,
    slots: NDArray[np.int64],
    scores: NDArray[np.float64],
    timestamps: NDArray[np.float64],
    support: NDArray[np.int64],
    forgotten: NDArray[np.bool_],
    rule: AlertRule,
) -> list[Transition]:
    """Run the events of a batch through the alert states of their entities, in order.

    ``columns`` is changed in place: it belongs to the caller's table, and copying the state of all entities
    for each batch would cost more than the alerts. Any split of the events into batches gives the same
    transitions. What was applied before is left out by the caller. An event that is older than the last
    firing alert cannot resolve it, and counts as happening at that alert's time for the cool-down.

    Parameters
    ----------
    columns : AlertColumns
        Alert state by slot, for this rule.
    slots : ndarray, shape (n,), int64
        Slot of each event's entity.
    scores : ndarray, shape (n,), float64
        Scores; NaN changes nothing.
    timestamps : ndarray, shape (n,), float64, seconds
        Event times.
    support : ndarray, shape (n,), int64
        Events in the entity's window.
    forgotten : ndarray, shape (n,), bool
        Events before which the entity was silent for so long that it starts anew.
    rule : AlertRule
        The rule.

    Returns
    -------
    list of Transition
        In the order of the events, at most one for each.

    Examples
    --------
    >>> columns, rule = AlertColumns(1), AlertRule(min_support=0)
    >>> scores = np.array([0.1, 0.85, 0.86, 0.95, 0.7, 0.2, 0.9])
    >>> n = len(scores)
    >>> for transition in evaluate_alerts(columns, np.zeros(n, np.int64), scores, np.arange(n) * 1.0,
    ...                                   np.zeros(n, np.int64), np.zeros(n, bool), rule):
    ...     print(*transition)
    1 firing warning 0
    3 firing critical 1
    5 resolved critical 0
    """
    exceeds = (scores >= rule.threshold) & (support >= rule.min_support)
    may_resolve = scores < rule.resolve
    is_firing, had_alert = columns.firing[slots] != QUIET, np.isfinite(columns.last_fired[slots])
    if exceeds.any():
        # An event may also end what an earlier one of this batch raises.
        raised = np.isin(slots, slots[exceeds])
        is_firing |= raised
        had_alert |= raised
    candidates = np.flatnonzero(exceeds | (may_resolve & is_firing) | (forgotten & had_alert))
    if not len(candidates):
        return []
    touched, local = np.unique(slots[candidates], return_inverse=True)
    # Lists, because reading and writing single elements of an array costs several times as much.
    firing = columns.firing[touched].tolist()
    since = columns.since[touched].tolist()
    last_fired = columns.last_fired[touched].tolist()
    suppressed = columns.suppressed[touched].tolist()
    transitions: list[Transition] = []
    for position, slot, score, timestamp, exceeding, anew in zip(
        candidates.tolist(),
        local.tolist(),
        scores[candidates].tolist(),
        timestamps[candidates].tolist(),
        exceeds[candidates].tolist(),
        forgotten[candidates].tolist(),
        strict=True,
    ):
        if anew:
            firing[slot], since[slot], last_fired[slot], suppressed[slot] = QUIET, -math.inf, -math.inf, 0
        before = firing[slot]
        if exceeding:
            reached = CRITICAL if score >= rule.critical else WARNING
            # Late events count from the last firing on: a difference below zero would suppress for ever
            # where no cool-down is wanted.
            time = max(timestamp, last_fired[slot])
            if reached <= before or (before == QUIET and time - last_fired[slot] < rule.cooldown_seconds):
                suppressed[slot] += 1
                continue
            if before == QUIET:
                since[slot] = timestamp
            firing[slot], last_fired[slot] = reached, time
            transitions.append(Transition(position, "firing", _SEVERITIES[reached], suppressed[slot]))
        elif before != QUIET and timestamp >= last_fired[slot]:
            firing[slot] = QUIET
            transitions.append(Transition(position, "resolved", _SEVERITIES[before], suppressed[slot]))
        else:
            continue
        suppressed[slot] = 0
    columns.firing[touched] = firing
    columns.since[touched] = since
    columns.last_fired[touched] = last_fired
    columns.suppressed[touched] = suppressed
    return transitions
