from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from compute.training.scores import score_classes, score_numbers


@pytest.mark.parametrize("classes", [(0, 1), ("a", "b"), (0, 1, 2), ("high", "low", "mid")])
def test_metrics_of_classes_are_those_of_scikit_learn(classes: tuple[str | int, ...]) -> None:
    rng = np.random.default_rng(1)
    names = np.array(classes)
    labels = names[rng.integers(len(classes), size=200)]
    probabilities = rng.dirichlet(np.ones(len(classes)), size=200)
    predictions = names[probabilities.argmax(axis=1)]
    found = score_classes(classes, labels, predictions.tolist(), probabilities)
    assert found["accuracy"] == metrics.accuracy_score(labels, predictions)
    assert found["balanced_accuracy"] == metrics.balanced_accuracy_score(labels, predictions)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=classes))
    if len(classes) == 2:
        assert found["f1"] == metrics.f1_score(labels, predictions, pos_label=classes[-1])
        assert found["roc_auc"] == metrics.roc_auc_score(labels == classes[-1], probabilities[:, 1])
    else:
        assert found["f1"] == metrics.f1_score(labels, predictions, average="macro")
        assert found["roc_auc"] == pytest.approx(
            metrics.roc_auc_score(labels, probabilities, multi_class="ovr", labels=classes)
        )


@pytest.mark.parametrize("positive", ["faulty", "ok"])
def test_f1_and_roc_auc_are_those_of_the_positive_class(positive: str) -> None:
    rng = np.random.default_rng(2)
    classes = ("faulty", "ok")
    labels = np.array(classes)[(rng.random(200) < 0.8).astype(int)]
    probabilities = rng.dirichlet(np.ones(2), size=200)
    predictions = np.array(classes)[probabilities.argmax(axis=1)]
    found = score_classes(classes, labels, predictions, probabilities, positive)
    assert found["f1"] == metrics.f1_score(labels, predictions, pos_label=positive)
    column = probabilities[:, classes.index(positive)]
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels == positive, column))


def test_a_single_class_has_a_log_loss_and_no_roc_auc() -> None:
    found = score_classes([0, 1], np.zeros(2, int), [0, 0], np.array([[0.5, 0.5], [1.0, 0.0]]))
    assert found["log_loss"] == pytest.approx(np.log(2) / 2, abs=1e-6)
    assert np.isnan(found["roc_auc"])
    assert found["accuracy"] == found["balanced_accuracy"] == 1.0


def test_certainty_that_is_wrong_costs_much_and_not_infinitely_much() -> None:
    found = score_classes([0, 1], np.array([1]), [0], np.array([[1.0, 0.0]]))
    assert 15 < found["log_loss"] < 17


def test_metrics_of_numbers_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth, guess = rng.normal(size=(2, 100))
    found = score_numbers(truth, guess)
    assert found["mae"] == metrics.mean_absolute_error(truth, guess)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, guess))
    assert found["r2"] == metrics.r2_score(truth, guess)


def test_a_constant_target_has_no_r2() -> None:
    assert np.isnan(score_numbers(np.ones(3), np.ones(3))["r2"])
