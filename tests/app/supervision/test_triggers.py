"""When a training is due."""

from __future__ import annotations

from typing import Any

from app.settings import Settings
from app.supervision.triggers import DRIFT_LABELS, Due, Triggers

FIRING = {"partition": 1, "rule": "drift", "state": "firing", "since": 1_700_000_000.0}


def triggers(**settings: Any) -> Triggers:
    return Triggers(Settings(train_task="classification", **settings))


def look(
    of: Triggers, n_labels: int, *, now: float = 0.0, since: int = 0, last: Any = None, drift: Any = ()
) -> Any:
    return of.look(now, n_labels, since, last, drift)


def test_nothing_is_trained_unless_a_task_is_set() -> None:
    assert look(Triggers(Settings(train_after_labels=1)), 1_000, since=1_000) is None


def test_enough_new_labels_are_counted_from_the_last_training_on() -> None:
    of = triggers(train_after_labels=100)
    assert look(of, 99, since=99) is None
    assert look(of, 100, since=100) == Due("100 new labels")
    of.begun(100, 0.0)
    assert look(of, 199) is None
    assert look(of, 200) == Due("100 new labels")


def test_who_begins_to_supervise_counts_the_labels_since_the_model_that_was_trained_last() -> None:
    of = triggers(train_after_labels=100)
    assert look(of, 5_000, since=40) is None
    assert look(of, 5_060) == Due("100 new labels")


def test_a_schedule_waits_for_something_to_learn_from() -> None:
    of = triggers(train_every_seconds=60)
    assert look(of, 0, now=1_000.0) is None
    assert look(of, 1, now=1_000.0, last=950.0) is None
    assert look(of, 1, now=1_010.0, last=950.0) == Due("every 60 s")


def test_a_training_that_brought_nothing_counts_for_the_schedule_too() -> None:
    of = triggers(train_every_seconds=60)
    assert look(of, 1, since=1, now=1_000.0) is not None
    of.begun(1, 1_000.0)
    assert look(of, 2, now=1_059.0) is None
    assert look(of, 2, now=1_060.0) is not None


def test_a_drift_is_learnt_from_once_enough_labels_have_come_behind_it() -> None:
    of = triggers(train_on_drift=True)
    assert look(of, 4_000, drift=[{**FIRING, "state": "quiet", "since": None}]) is None
    assert look(of, 4_000, drift=[FIRING]) is None
    assert look(of, 4_000 + DRIFT_LABELS - 1, drift=[FIRING]) is None
    due = look(of, 4_000 + DRIFT_LABELS, drift=[FIRING])
    assert due == Due(f"drift, and {DRIFT_LABELS} labels since", FIRING["since"])
    of.begun(4_000 + DRIFT_LABELS, 0.0)
    assert look(of, 9_000, drift=[FIRING]) is None  # the same drift, which was learnt from
    assert look(of, 9_000, drift=[{**FIRING, "since": 1_700_009_000.0}]) is None
    assert look(of, 9_500, drift=[]).since == 1_700_009_000.0


def test_before_a_drift_has_its_labels_nothing_else_starts_a_training() -> None:
    of = triggers(train_on_drift=True, train_after_labels=100)
    assert look(of, 90, since=90, drift=[FIRING]) is None
    assert look(of, 150, drift=[FIRING]) is None
    assert look(of, 190, drift=[FIRING]) == Due("drift, and 100 labels since", FIRING["since"])


def test_a_drift_whose_training_failed_is_learnt_from_after_a_pause_that_grows() -> None:
    of, now = triggers(train_on_drift=True), 1_000.0
    look(of, 0, drift=[FIRING])
    pauses = []
    for _ in range(9):
        due = look(of, DRIFT_LABELS, now=now, drift=[FIRING])
        assert due == Due(f"drift, and {DRIFT_LABELS} labels since", FIRING["since"])
        of.begun(DRIFT_LABELS, now)
        assert look(of, 9_000, now=now, drift=[FIRING]) is None
        of.ended(False, now)
        begun = now
        while look(of, DRIFT_LABELS, now=now, drift=[]) is None:  # whether or not it still fires
            of.ended(False, now)  # told again
            now += 30.0
        pauses.append(now - begun)
    assert pauses == [60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]
    of.begun(DRIFT_LABELS, now)
    of.ended(True, now)
    assert look(of, 9_000, now=now + 10_000, drift=[FIRING]) is None
    look(of, 9_000, now=now, drift=[{**FIRING, "since": 1_700_009_000.0}])
    of.begun(9_500, now)
    of.ended(False, now)
    assert look(of, 9_500, now=now + 59.0) is None
    assert look(of, 9_500, now=now + 60.0).since == 1_700_009_000.0


def test_a_drift_during_a_training_that_fails_is_the_one_to_learn_from() -> None:
    of = triggers(train_on_drift=True)
    look(of, 0, drift=[FIRING])
    of.begun(DRIFT_LABELS, 0.0)
    look(of, 800, drift=[{**FIRING, "since": 1_700_009_000.0}])
    of.ended(False, 10.0)
    assert look(of, 1_299, now=100.0) is None
    assert look(of, 1_300, now=100.0).since == 1_700_009_000.0


def test_a_failed_training_of_new_labels_waits_for_as_many_again() -> None:
    of = triggers(train_after_labels=100)
    assert look(of, 100, since=100) is not None
    of.begun(100, 0.0)
    of.ended(False, 1.0)
    assert look(of, 199, now=10_000.0) is None
    assert look(of, 200, now=10_000.0) == Due("100 new labels")
