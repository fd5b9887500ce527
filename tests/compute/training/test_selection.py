from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from compute.training.candidates import Candidate, choose_candidates
from compute.training.fault import TrainingError
from compute.training.plan import Plan, split_by_time
from compute.training.selection import fit, judge, search, thin, usable_folds
from tests.compute.training.samples import sample_from, sample_of

PLAN = Plan("classification", n_folds=3, n_trials=3, gap=5)


class Witness(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Takes note of the rows that it is given: their number is their first feature."""

    fitted: list[np.ndarray] = []  # noqa: RUF012  (clones share it)
    asked: list[np.ndarray] = []  # noqa: RUF012

    def __init__(self, p: float = 0.5, fails: bool = False) -> None:
        self.p, self.fails = p, fails

    def fit(self, inputs: np.ndarray, targets: np.ndarray) -> Witness:
        if self.fails:
            raise RuntimeError("does not\nconverge")
        self.classes_ = np.unique(targets)
        self.fitted.append(inputs[:, 0])
        return self

    def predict_proba(self, inputs: np.ndarray) -> np.ndarray:
        self.asked.append(inputs[:, 0])
        return np.tile([1 - self.p, self.p], (len(inputs), 1))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(inputs).argmax(axis=1)]


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> type[Witness]:
    monkeypatch.setattr(Witness, "fitted", [])
    monkeypatch.setattr(Witness, "asked", [])
    return Witness


def numbered(n_rows: int = 300) -> Any:
    rows = np.arange(n_rows)
    return sample_from(rows[:, None].astype(float), [str(int(row % 5 == 0)) for row in rows])


def clock() -> Any:
    return itertools.count().__next__


def test_a_fold_is_judged_on_what_nothing_in_it_has_seen(witness: type[Witness]) -> None:
    sample = numbered()
    split = split_by_time(300, PLAN)
    search(Candidate("witness", witness()), sample, usable_folds(sample, split), PLAN, clock())
    assert len(witness.fitted) == PLAN.n_folds
    for learnt, (learn, _) in zip(witness.fitted, split.folds, strict=True):
        assert learnt.tolist() == learn.tolist()
    for asked, (learn, test) in zip(witness.asked[::2], split.folds, strict=True):
        assert asked.tolist() == test.tolist()
        assert asked.min() > learn.max() + 5
    assert max(map(np.max, witness.fitted + witness.asked)) < split.held.min()


def test_the_scale_of_raw_features_is_that_of_the_fold() -> None:
    sample = sample_of("classification", 300, kind="far")
    rising = sample_from(sample.inputs + np.arange(300)[:, None], sample.targets.astype(str).tolist())
    candidate = choose_candidates(["linear"], "classification", "none", seed=0)[1]
    for learn, _ in split_by_time(300, PLAN).folds:
        scale = dict(fit(candidate, {}, rising, learn).steps)["scale"]
        np.testing.assert_allclose(scale.mean_, rising.inputs[learn].mean(axis=0))


def test_the_scale_of_the_target_is_that_of_the_fold() -> None:
    sample = sample_of("regression", 300)
    candidate = choose_candidates(["linear"], "regression", "none", seed=0)[1]
    learn = split_by_time(300, PLAN).folds[0][0]
    assert fit(candidate, {}, sample, learn).transformer_.mean_ == pytest.approx(sample.targets[learn].mean())


def test_the_best_parameters_win_and_of_equal_ones_the_first(witness: type[Witness]) -> None:
    sample = numbered()
    folds = usable_folds(sample, split_by_time(300, PLAN))
    share = float((sample.targets == 1).mean())
    better = search(Candidate("w", witness(0.01), {"p": [share]}), sample, folds, PLAN, clock())
    assert better.parameters == {"p": share}
    by_fold = [(sample.targets[test] == 1).mean() for _, test in folds]
    assert better.scores["log_loss"] == pytest.approx(
        [-(found * np.log(share) + (1 - found) * np.log(1 - share)) for found in by_fold], rel=1e-5
    )
    equal = search(Candidate("w", witness(share), {"p": [share]}), sample, folds, PLAN, clock())
    assert equal.parameters == {}


def test_the_chosen_metric_decides(witness: type[Witness]) -> None:
    sample = numbered()
    folds = usable_folds(sample, split_by_time(300, PLAN))
    candidate = Candidate("w", witness(0.4), {"p": [0.9]})
    by_recall = search(candidate, sample, folds, Plan("classification", "f1", n_trials=2), clock())
    assert by_recall.parameters == {"p": 0.9}
    by_loss = search(candidate, sample, folds, Plan("classification", n_trials=2), clock())
    assert by_loss.parameters == {}


def test_the_time_of_a_fit_is_that_of_the_clock(witness: type[Witness]) -> None:
    sample = numbered()
    folds = usable_folds(sample, split_by_time(300, PLAN))
    assert search(Candidate("w", witness()), sample, folds, PLAN, clock()).fit_seconds == 1.0


def test_a_candidate_that_fails_costs_itself_only(witness: type[Witness]) -> None:
    sample = numbered()
    folds = usable_folds(sample, split_by_time(300, PLAN))
    failed = search(Candidate("w", witness(fails=True)), sample, folds, PLAN, clock())
    assert (failed.failure, failed.rank(PLAN)) == ("does not converge", -np.inf)
    candidate = Candidate("w", witness(fails=True), {"fails": [False]})
    assert search(candidate, sample, folds, PLAN, clock()).parameters == {"fails": False}


def test_what_a_step_raises_ends_the_search(witness: type[Witness]) -> None:
    def stop() -> None:
        raise InterruptedError

    sample = numbered()
    folds = usable_folds(sample, split_by_time(300, PLAN))
    with pytest.raises(InterruptedError):
        search(Candidate("w", witness()), sample, folds, PLAN, clock(), stop)
    assert not witness.fitted


def one_late_class(n_first: int, n_rows: int = 300) -> Any:
    inputs = np.random.default_rng(0).normal(size=(n_rows, 2))
    return sample_from(inputs, [str(int(row >= n_first) * row % 2) for row in range(n_rows)])


def test_folds_without_a_second_class_are_left_out() -> None:
    split = split_by_time(300, PLAN)
    assert len(usable_folds(one_late_class(0), split)) == 3
    assert len(usable_folds(one_late_class(100), split)) == 2


@pytest.mark.parametrize(
    ("n_first", "message"),
    [
        (300, r"too few labels of a second class: at least 3 .* among the 235 .*, received 0: 235$"),
        (178, "in none of 3 folds are there two classes"),
    ],
)
def test_a_single_class_is_told_with_numbers(n_first: int, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        usable_folds(one_late_class(n_first), split_by_time(300, PLAN))


def test_a_class_that_was_not_learnt_has_no_probability() -> None:
    sample = sample_of("classification", 300, classes=("a", "b", "c"))
    rows = np.flatnonzero(sample.targets != "b")
    estimator = fit(choose_candidates(["tree"], "classification", "none", 0)[1], {}, sample, rows)
    scores = judge(estimator, sample, np.arange(300))
    assert 0.3 < scores["accuracy"] < 0.67
    assert np.isfinite(scores["log_loss"])


@pytest.mark.parametrize(("n_rows", "n_most"), [(10, 3), (1_000, 7), (5, 5), (5, 9)])
def test_thinned_rows_are_spread_evenly_and_hold_the_newest(n_rows: int, n_most: int) -> None:
    rows = thin(np.arange(100, 100 + n_rows), n_most)
    assert len(rows) == min(n_rows, n_most)
    assert rows[-1] == 99 + n_rows
    assert np.ptp(np.diff(rows)) <= 1
    assert len(thin(np.arange(n_rows), None)) == n_rows
