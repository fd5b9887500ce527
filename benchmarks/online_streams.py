"""River's bundled streams, and those of its models that the online learner is compared with.

Owns what both are given: the streams in their own order, and River's linear and tree models with the options
that it ships. Linear ones stand behind its StandardScaler; where there are more than two classes, one that
knows only two is asked about each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import datasets, linear_model, multiclass, preprocessing, tree

from compute.labels import canonical_class

SEED = 1

STREAMS = {
    "Phishing": datasets.Phishing,
    "Bananas": datasets.Bananas,
    "ImageSegments": datasets.ImageSegments,
    "Shuttle": datasets.Shuttle,
    "TrumpApproval": datasets.TrumpApproval,
}


@dataclass(frozen=True)
class Stream:
    """A stream in memory, in the form that each side reads.

    Attributes
    ----------
    task : str
    rows : list of (dict, label)
        For River.
    names : list of str
    matrix : ndarray, shape (n, n_features), float64
    labels : list of str or float
    classes : list of str
        Empty for a regression.
    """

    task: str
    rows: list[tuple[dict[str, float], Any]]
    names: list[str]
    matrix: np.ndarray
    labels: list[Any]
    classes: list[str]


def read_stream(name: str) -> Stream:
    rows = list(STREAMS[name]())
    names = list(rows[0][0])
    matrix = np.array([[x[feature] for feature in names] for x, _ in rows], np.float64)
    if name == "TrumpApproval":
        return Stream("regression", rows, names, matrix, [float(y) for _, y in rows], [])
    labels = [canonical_class(y) for _, y in rows]
    classes = sorted(set(labels))
    if len(classes) == 2:  # of Shuttle they are 0 and 1, which River's binary models take for numbers
        rows = [(x, bool(y)) for x, y in rows]
    return Stream("classification", rows, names, matrix, labels, classes)


def _scaled(model: Any) -> Any:
    return preprocessing.StandardScaler() | model


def _each(model: Any) -> Any:
    return multiclass.OneVsRestClassifier(model)


BINARY: dict[str, Callable[[], Any]] = {
    "LogisticRegression": lambda: _scaled(linear_model.LogisticRegression()),
    "SoftmaxRegression": lambda: _scaled(linear_model.SoftmaxRegression()),
    "PAClassifier": lambda: _scaled(linear_model.PAClassifier()),
    "Perceptron": lambda: _scaled(linear_model.Perceptron()),
    "ALMAClassifier": lambda: _scaled(linear_model.ALMAClassifier()),
    "HoeffdingTree": tree.HoeffdingTreeClassifier,
    "HoeffdingAdaptiveTree": lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=SEED),
    "ExtremelyFastDecisionTree": tree.ExtremelyFastDecisionTreeClassifier,
    "SGTClassifier": tree.SGTClassifier,
}

MULTICLASS: dict[str, Callable[[], Any]] = {
    "LogisticRegression": lambda: _scaled(_each(linear_model.LogisticRegression())),
    "SoftmaxRegression": lambda: _scaled(linear_model.SoftmaxRegression()),
    "PAClassifier": lambda: _scaled(_each(linear_model.PAClassifier())),
    "Perceptron": lambda: _scaled(_each(linear_model.Perceptron())),
    "ALMAClassifier": lambda: _scaled(_each(linear_model.ALMAClassifier())),
    "HoeffdingTree": tree.HoeffdingTreeClassifier,
    "HoeffdingAdaptiveTree": lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=SEED),
    "ExtremelyFastDecisionTree": tree.ExtremelyFastDecisionTreeClassifier,
}

REGRESSION: dict[str, Callable[[], Any]] = {
    "LinearRegression": lambda: _scaled(linear_model.LinearRegression(intercept_lr=0.1)),
    "PARegressor": lambda: _scaled(linear_model.PARegressor()),
    "BayesianLinearRegression": linear_model.BayesianLinearRegression,
    "HoeffdingTree": lambda: _scaled(tree.HoeffdingTreeRegressor()),
    "HoeffdingAdaptiveTree": lambda: _scaled(tree.HoeffdingAdaptiveTreeRegressor(seed=SEED)),
    "SGTRegressor": tree.SGTRegressor,
}


def models_for(stream: Stream) -> dict[str, Callable[[], Any]]:
    """Return the models that fit a stream."""
    if stream.task == "regression":
        return REGRESSION
    return BINARY if len(stream.classes) == 2 else MULTICLASS
