from __future__ import annotations

import pytest

from compute.model_pace import MAX_SECONDS, SHARE, Pace

TIMEOUT = 10.0


def run(
    pace: Pace, n_calls: int, seconds_per_row: float, n_available: int = 4_000
) -> tuple[Pace, list[float]]:
    """Call a model again and again; return the pace after it and what each call took."""
    took = []
    for _ in range(n_calls):
        n_rows = min(pace.n_rows, n_available)
        took.append(n_rows * seconds_per_row)
        pace = pace.answered(n_rows, took[-1])
    return pace, took


def test_the_first_call_gets_one_row() -> None:
    assert Pace(TIMEOUT).n_rows == 1


def test_a_fast_model_gets_whole_batches_after_twelve_calls() -> None:
    pace, _ = run(Pace(TIMEOUT), 12, seconds_per_row=10e-6)
    assert pace.n_rows >= 4_000


@pytest.mark.parametrize("seconds_per_row", [1e-6, 1e-4, 0.005, 0.02, 0.3, 2.0, 9.0])
def test_a_call_never_takes_more_than_a_small_part_of_the_timeout_unless_one_row_does(
    seconds_per_row: float,
) -> None:
    _, took = run(Pace(TIMEOUT), 50, seconds_per_row)
    assert max(took) <= max(TIMEOUT * SHARE, seconds_per_row) * (1 + 1e-9)


def test_a_slow_model_gets_as_many_rows_as_that_allows() -> None:
    pace, _ = run(Pace(TIMEOUT), 20, seconds_per_row=0.005)
    assert pace.n_rows == 100


def test_a_long_timeout_makes_no_long_calls() -> None:
    _, took = run(Pace(300.0), 20, seconds_per_row=0.005)
    assert max(took) <= MAX_SECONDS


def test_a_call_that_was_given_up_makes_the_next_ones_smaller_but_never_empty() -> None:
    pace = Pace(TIMEOUT, n_rows=100)
    sizes = []
    for _ in range(5):
        pace = pace.expired(pace.n_rows)
        sizes.append(pace.n_rows)
    assert sizes == [25, 6, 1, 1, 1]


def test_a_model_that_is_fast_again_gets_whole_batches_again() -> None:
    pace, _ = run(Pace(TIMEOUT, n_rows=4_000).expired(4_000), 4, seconds_per_row=10e-6)
    assert pace.n_rows >= 4_000


def test_a_small_batch_says_nothing_about_large_ones() -> None:
    pace = Pace(TIMEOUT, n_rows=4_000)
    assert pace.answered(1, 50e-6).n_rows == 4_000
    assert pace.answered(0, 0.0) == pace


def test_events_that_never_reach_the_model_do_not_keep_the_pace_down() -> None:
    pace = Pace(TIMEOUT)
    for _ in range(12):  # half of each call's records are dead letters before it
        pace = pace.answered(max(pace.n_rows // 2, 1), 1e-3)
    assert pace.n_rows >= 4_000
