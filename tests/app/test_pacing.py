from __future__ import annotations

import pytest

from app.pacing import Pace, repeat
from app.replay import _turns
from app.sources import Event


def events_at(*timestamps: float) -> list[Event]:
    return [Event(b"a", timestamp, {}) for timestamp in timestamps]


def dues(pace: Pace, *timestamps: float) -> list[float]:
    return [due for due, _ in pace.schedule(events_at(*timestamps))]


def test_without_a_limit_everything_is_due_at_once() -> None:
    assert dues(Pace(), 5, 6, 7) == [0, 0, 0]


def test_a_rate_spaces_events_evenly_whatever_their_times() -> None:
    assert dues(Pace(rate=4), 5, 500, 6) == [0, 0.25, 0.5]


def test_a_speed_keeps_the_recorded_gaps() -> None:
    assert dues(Pace(speed=10), 100, 101, 121) == pytest.approx([0, 0.1, 2.1])


def test_an_event_out_of_order_does_not_wait() -> None:
    assert dues(Pace(speed=1), 100, 110, 105, 111) == [0, 10, 10, 11]


def test_a_rate_bounds_a_speed() -> None:
    assert dues(Pace(rate=1, speed=1), 100, 100, 100, 110) == [0, 1, 2, 10]


def test_a_repeat_goes_on_in_time() -> None:
    times = [event.timestamp for event, _ in zip(repeat(events_at(10, 12, 11)), range(7), strict=False)]
    assert times == [10, 12, 11, 13, 15, 14, 16]


def test_a_repeat_of_one_event_goes_on_by_a_second() -> None:
    assert [e.timestamp for e, _ in zip(repeat(events_at(10)), range(3), strict=False)] == [10, 11, 12]


def test_a_repeat_of_nothing_ends() -> None:
    assert list(repeat([])) == []


def test_nothing_is_sent_before_it_is_due_and_all_is_sent() -> None:
    clock: list[float] = [0.0]
    sent: list[float] = []
    pace = Pace(rate=1_000)
    for turn in _turns(pace.schedule(events_at(*range(500))), lambda: clock[0], pace):
        if isinstance(turn, float):
            clock[0] += turn
        else:
            assert all(due <= clock[0] for due, _ in turn)
            sent += [event.timestamp for _, event in turn]
    assert sent == list(range(500))
    assert clock[0] == pytest.approx(0.5, abs=0.01)


def test_no_event_still_ends() -> None:
    assert list(_turns(Pace().schedule([]), lambda: 0.0, Pace())) == []
    assert list(_turns(Pace(rate=1).schedule([]), lambda: 0.0, Pace(rate=1))) == []
