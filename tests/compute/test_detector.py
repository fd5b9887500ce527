from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compute.detector import predict_anomalies, score_anomalies, share_blame

Z = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6),
    elements=st.floats(allow_nan=True, allow_infinity=True),
)


def score(*z: float, warming_up: bool = False) -> float:
    (result,) = score_anomalies(np.array([z]), np.array([warming_up])).tolist()
    return float(result)


@pytest.mark.parametrize(("z", "expected"), [(0.0, 0.0), (3.0, 0.5), (-3.0, 0.5), (6.0, 0.8), (9.0, 0.9)])
def test_the_score_at_a_distance_is_as_documented(z: float, expected: float) -> None:
    assert score(z) == expected


def test_the_furthest_feature_decides() -> None:
    assert score(1.0, -6.0, 2.0) == score(-6.0)


def test_missing_features_do_not_count() -> None:
    assert score(np.nan, 6.0) == 0.8
    assert score(np.nan, np.nan) == 0.0


def test_no_features_score_zero() -> None:
    assert score_anomalies(np.empty((2, 0)), np.zeros(2, bool)).tolist() == [0.0, 0.0]


def test_an_entity_that_is_warming_up_scores_zero() -> None:
    assert score(100.0, warming_up=True) == 0.0


def test_extremes_are_told_apart() -> None:
    assert score(20.0) < score(200.0) < score(20_000.0) < 1.0


def test_a_prediction_is_one_from_the_threshold_on() -> None:
    assert predict_anomalies(np.array([0.79, 0.8, 1.0]), 0.8).tolist() == [0, 1, 1]


def test_shares_of_an_event_at_its_mean_are_equal() -> None:
    assert share_blame(np.array([[0.0, 0.0, np.nan]])).tolist() == [[0.5, 0.5, 0.0]]


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e140])
def test_shares_do_not_depend_on_scale(scale: float) -> None:
    np.testing.assert_allclose(share_blame(np.array([[3.0, 4.0]]) * scale), [[0.36, 0.64]])


@pytest.mark.filterwarnings("error")
@given(Z)
def test_scores_are_from_zero_to_one_and_the_input_is_untouched(z: np.ndarray) -> None:
    before = z.copy()
    scores = score_anomalies(z, np.zeros(len(z), bool))
    assert scores.shape == (len(z),)
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_array_equal(z, before)


@pytest.mark.filterwarnings("error")
@given(Z)
def test_shares_sum_to_one_where_a_feature_is_present(z: np.ndarray) -> None:
    before = z.copy()
    shares = share_blame(z)
    present = ~np.isnan(z)
    assert (shares >= 0).all()
    assert (shares[~present] == 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), present.any(axis=1).astype(float), atol=1e-12)
    np.testing.assert_array_equal(z, before)
