from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from compute.training.candidates import NAMES, choose_candidates, draw_parameters, show_parameters
from compute.training.fault import TrainingError


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("normaliser", ["window", "none"])
def test_all_candidates_come_behind_the_baseline_and_take_what_is_drawn(task: str, normaliser: str) -> None:
    candidates = choose_candidates([], task, normaliser, seed=3)
    assert [candidate.name for candidate in candidates] == ["baseline", *NAMES]
    for candidate in candidates[1:]:
        drawn = draw_parameters(candidate, n_trials=6, seed=3)
        assert len(drawn) == 6
        assert drawn[0] == {}
        for parameters in drawn:
            clone(candidate.estimator).set_params(**parameters)
            assert set(parameters) <= set(candidate.space)
            assert show_parameters(candidate, parameters)


def test_the_same_seed_draws_the_same() -> None:
    candidate = choose_candidates(["boosting"], "regression", "window", seed=0)[1]
    drawn = [draw_parameters(candidate, 8, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_draws_stay_within_their_bounds() -> None:
    candidate = choose_candidates(["boosting"], "regression", "window", seed=0)[1]
    drawn = [show_parameters(candidate, parameters) for parameters in draw_parameters(candidate, 200, 0)]
    rates = np.array([parameters["learning_rate"] for parameters in drawn])
    assert 0.02 <= rates.min() < 0.03
    assert 0.25 < rates.max() <= 0.3
    assert {parameters["max_leaf_nodes"] for parameters in drawn} == {7, 15, 31}


@pytest.mark.parametrize("name", ["linear", "svm", "neighbours"])
def test_raw_features_are_standardised_within_the_model_where_their_scale_counts(name: str) -> None:
    (_, raw), (_, normalised) = (
        choose_candidates([name], "classification", normaliser, seed=0) for normaliser in ("none", "window")
    )
    assert "scale" in dict(raw.estimator.steps)
    assert "scale" not in dict(normalised.estimator.steps)


def test_candidates_are_taken_once_in_the_order_of_their_names() -> None:
    chosen = choose_candidates(["tree", "linear", "tree"], "regression", "none", seed=0)
    assert [candidate.name for candidate in chosen] == ["baseline", "tree", "linear"]


def test_an_unknown_candidate_is_named_with_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"candidates: linear, svm, .* are known, received 'magic'"):
        choose_candidates(["linear", "magic"], "regression", "none", seed=0)
