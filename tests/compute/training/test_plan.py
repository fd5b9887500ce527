from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.training.fault import TrainingError
from compute.training.plan import Plan, split_by_time


@given(
    n_rows=st.integers(150, 5_000),
    n_folds=st.integers(2, 8),
    held_out=st.sampled_from([0.1, 0.2, 0.5]),
    gap=st.one_of(st.none(), st.integers(0, 12)),
)
def test_what_judges_comes_after_what_teaches_and_a_gap(
    n_rows: int, n_folds: int, held_out: float, gap: int | None
) -> None:
    plan = Plan("regression", n_folds=n_folds, held_out=held_out, gap=gap)
    try:
        split = split_by_time(n_rows, plan)
    except TrainingError:
        assert n_rows < 500
        return
    width = gap if gap is not None else max(n_rows // 100, 1)
    assert split.held.tolist() == list(range(n_rows - int(n_rows * held_out), n_rows))
    assert split.train.tolist() == list(range(n_rows - int(n_rows * held_out) - width))
    assert len(split.folds) == n_folds
    tested = np.concatenate([test for _, test in split.folds])
    assert len(set(tested.tolist())) == len(tested)
    assert tested[-1] == split.train[-1]
    for learn, test in split.folds:
        assert learn[0] == 0
        assert test[0] - learn[-1] == width + 1


@pytest.mark.parametrize("gap", [None, 0, 7, 40])
@pytest.mark.parametrize("n_folds", [2, 5])
def test_the_number_of_events_that_are_needed_is_enough(n_folds: int, gap: int | None) -> None:
    plan = Plan("classification", n_folds=n_folds, gap=gap)
    with pytest.raises(TrainingError, match=r"too few labelled events: .* received 20$") as error:
        split_by_time(20, plan)
    needed = int(str(error.value).split("at least ")[1].split(",")[0])
    split = split_by_time(needed, plan)
    assert all(len(learn) and len(test) >= 10 for learn, test in split.folds)
    assert len(split.held) >= 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "ranking"}, "task: one of classification, regression needed, received 'ranking'"),
        ({"task": "regression", "metric": "f1"}, "metric: one of mae, rmse, r2 needed for regression"),
        ({"task": "regression", "n_folds": 1}, "folds: at least 2 needed, received 1"),
        ({"task": "regression", "n_trials": 0}, "trials: at least 1 needed, received 0"),
        ({"task": "regression", "held_out": 0.9}, "held-out share: 0.05 to 0.5 needed, received 0.9"),
    ],
)
def test_a_wrong_plan_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Plan(**options)


def test_higher_is_better_of_whatever_decides() -> None:
    assert [Plan("classification").primary, Plan("classification").sign] == ["log_loss", -1.0]
    assert [Plan("classification", "f1").primary, Plan("classification", "f1").sign] == ["f1", 1.0]
    assert [Plan("regression").primary, Plan("regression").sign] == ["mae", -1.0]
