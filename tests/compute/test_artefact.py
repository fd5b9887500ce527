"""What a model answers that was loaded from an artefact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from compute.artefact import ArtefactError
from tests.artefacts import converted, graph, linear
from tests.compute.artefact_samples import AXES, HELD, N_FEATURES, NODE, TRUTH, X, load, predict


@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        DecisionTreeClassifier(max_depth=4, random_state=0),
        RandomForestClassifier(20, max_depth=5, random_state=0),
        make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=1000, random_state=0)),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_classifier_answers_as_its_original(estimator: Any, zipmap: bool) -> None:
    estimator.fit(X, TRUTH)
    model = load(converted(estimator, X, zipmap=zipmap), kind="classification")
    scores = predict(model, HELD)
    expected = estimator.predict_proba(HELD)
    np.testing.assert_allclose(scores.probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(scores.scores, expected[:, 1], atol=1e-5)
    assert scores.predictions == estimator.predict(HELD).tolist()
    assert model.classes == (0, 1)


@pytest.mark.filterwarnings("ignore")
def test_svc_with_probabilities_answers_as_its_original() -> None:
    estimator = SVC(probability=True, random_state=0).fit(X, TRUTH)
    scores = predict(load(converted(estimator, X), kind="classification"), HELD)
    np.testing.assert_allclose(scores.probabilities, estimator.predict_proba(HELD), atol=1e-4)
    assert scores.predictions == estimator.predict(HELD).tolist()


def test_svc_without_probabilities_is_no_classification() -> None:
    with pytest.raises(ArtefactError, match="probabilities that sum to 1 needed"):
        load(converted(SVC().fit(X, TRUTH), X), kind="classification")


@pytest.mark.parametrize("zipmap", [False, True])
def test_classes_are_the_artefacts_own_strings(zipmap: bool) -> None:
    names = np.array(["worn", "new"])[TRUTH]
    estimator = LogisticRegression().fit(X, names)
    model = load(converted(estimator, X, zipmap=zipmap), kind="classification", output={"positive": "new"})
    scores = predict(model, HELD)
    assert model.classes == ("new", "worn")
    assert scores.predictions == estimator.predict(HELD).tolist()
    np.testing.assert_allclose(scores.scores, estimator.predict_proba(HELD)[:, 0], atol=1e-5)


@pytest.mark.parametrize("zipmap", [False, True])
def test_metadata_names_classes_that_are_numbers_in_the_artefact(zipmap: bool) -> None:
    estimator = LogisticRegression().fit(X, TRUTH)
    onnx_bytes = converted(estimator, X, zipmap=zipmap)
    model = load(onnx_bytes, kind="classification", classes=["ok", "fault"])
    assert predict(model, HELD).predictions == [["ok", "fault"][i] for i in estimator.predict(HELD)]


def test_three_classes_that_do_not_count_from_zero() -> None:
    estimator = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, TRUTH + (X[:, 2] > 0) + 3)
    model = load(converted(estimator, X), kind="classification")
    assert model.classes == (3, 4, 5)
    assert predict(model, HELD).predictions == estimator.predict(HELD).tolist()


def test_one_column_is_the_probability_of_the_second_class() -> None:
    nodes = [NODE, helper.make_node("Sigmoid", ["score"], ["chance"])]
    onnx_bytes = graph(nodes, n_features=1, outputs=["chance"], constants=[AXES]).SerializeToString()
    scores = predict(load(onnx_bytes, kind="classification", n_features=1), np.array([[0.0], [3.0], [-3.0]]))
    np.testing.assert_allclose(scores.probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(scores.scores, 1 / (1 + np.exp([0.0, -3.0, 3.0])), atol=1e-6)
    assert scores.predictions == [0, 1, 0]


@pytest.mark.parametrize(
    "estimator", [LinearRegression(), DecisionTreeRegressor(max_depth=5, random_state=0)]
)
def test_regression_answers_as_its_original(estimator: Any) -> None:
    estimator.fit(X, X @ [1.0, 2.0, -1.0, 0.5])
    scores = predict(load(converted(estimator, X)), HELD)
    np.testing.assert_allclose(scores.scores, estimator.predict(HELD), atol=1e-4)
    assert scores.predictions == scores.scores.tolist()
    assert scores.probabilities is None


@pytest.mark.parametrize("estimator", [IsolationForest(n_estimators=20, random_state=0), OneClassSVM(nu=0.1)])
def test_anomaly_scores_are_higher_for_the_unusual_once_the_sign_is_turned(estimator: Any) -> None:
    estimator.fit(X)
    onnx_bytes = converted(estimator, X)
    model = load(onnx_bytes, kind="anomaly", output={"score": "scores", "sign": -1}, threshold=0.0)
    scores = predict(model, HELD)
    expected = -estimator.decision_function(HELD)
    np.testing.assert_allclose(scores.scores, expected, atol=1e-4)
    assert scores.predictions == (scores.scores >= 0.0).astype(int).tolist()
    assert predict(model, np.full((1, N_FEATURES), 9.0)).predictions == [1]


def test_anomaly_without_threshold_predicts_its_score() -> None:
    scores = predict(load(linear([1, 1, 1, 1]).SerializeToString(), kind="anomaly"), HELD)
    assert scores.predictions == scores.scores.tolist()


def test_input_of_float64_keeps_its_precision() -> None:
    onnx_bytes = graph([NODE], kind=TensorProto.DOUBLE, constants=[AXES]).SerializeToString()
    assert predict(load(onnx_bytes, n_features=2), np.array([[1e9, 1e-3]])).predictions == [1e9 + 1e-3]


def test_no_rows_give_no_scores() -> None:
    classifier = load(converted(LogisticRegression().fit(X, TRUTH), X), kind="classification")
    scores, errors = classifier.predict(np.empty((0, N_FEATURES)))
    assert (scores.scores.shape, scores.predictions, scores.probabilities.shape, errors) == (
        (0,),
        [],
        (0, 2),
        {},
    )


def test_rows_alone_together_and_in_any_split_have_the_same_scores() -> None:
    model = load(converted(RandomForestClassifier(5, random_state=0).fit(X, TRUTH), X), kind="classification")
    together = predict(model, HELD).scores
    for size in (1, 7, 399):
        parts = [predict(model, HELD[at : at + size]).scores for at in range(0, len(HELD), size)]
        assert np.concatenate(parts).tolist() == together.tolist()


# Rows that fail


def test_row_without_a_finite_score_costs_no_other_its_score() -> None:
    model = load(linear([1, 1, 1, 1]).SerializeToString())
    rows = HELD[:5].copy()
    rows[1, 2], rows[3, 0] = np.nan, 1e300
    before = rows.copy()
    scores, errors = model.predict(rows)
    assert sorted(errors) == [1, 3]
    assert "must be finite, received nan" in errors[1]
    assert scores.predictions[1] is None
    assert np.isfinite(scores.scores).tolist() == [True, False, True, False, True]
    np.testing.assert_array_equal(rows, before)


class Moody:
    """A session that cannot bear rows that start with 13."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.n_calls = 0

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> Any:
        self.n_calls += 1
        if (next(iter(inputs.values()))[:, 0] == 13).any():
            raise RuntimeError("[ONNXRuntimeError] : 2 :\n INVALID_ARGUMENT")
        return self._session.run(names, inputs)


@pytest.mark.parametrize("bad", [[0], [399], [17, 18, 200], list(range(400))])
def test_row_that_breaks_the_model_costs_no_other_its_score(bad: list[int]) -> None:
    model = load(converted(LogisticRegression().fit(X, TRUTH), X), kind="classification")
    expected = predict(model, HELD)
    moody = Moody(model.session)
    object.__setattr__(model, "session", moody)
    rows = HELD.copy()
    rows[bad, 0] = 13
    scores, errors = model.predict(rows)
    good = np.setdiff1d(np.arange(len(rows)), bad)
    assert sorted(errors) == bad
    assert errors[bad[0]] == "'pump': [ONNXRuntimeError] : 2 : INVALID_ARGUMENT"
    np.testing.assert_allclose(scores.scores[good], expected.scores[good], rtol=1e-6)
    assert [scores.predictions[row] for row in good] == [expected.predictions[row] for row in good]
    assert np.isnan(scores.probabilities[bad]).all()
    assert moody.n_calls <= 2 * len(bad) * (1 + int(np.ceil(np.log2(len(rows))))) + 1


def test_matrix_of_another_width_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"shape \(n, 4\) needed, received \(3, 2\)"):
        load(linear([1, 1, 1, 1]).SerializeToString()).predict(np.zeros((3, 2)))
