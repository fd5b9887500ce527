"""How good predictions are: the metrics of a training, as scikit-learn defines them.

Owns what is measured of one stretch of rows. Which metric decides is in `compute/training/plan.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from compute.metadata import Label

_LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Zero would cost infinitely much where it is wrong; served probabilities are no finer than this."""


def score_classes(
    classes: Sequence[Label],
    labels: NDArray[np.generic],
    predictions: Sequence[Any] | NDArray[np.generic],
    probabilities: NDArray[np.float64],
    positive: Label | None = None,
) -> dict[str, float]:
    """Return the metrics of a classification.

    Of two classes F1 and ROC AUC are those of the positive one; of more each counts the same (macro).

    Parameters
    ----------
    classes : sequence of str or int, length k
        Sorted.
    labels, predictions : array, shape (n,)
        Classes that were and that were predicted.
    probabilities : ndarray, shape (n, k), float64
    positive : str or int, optional
        One of the classes; default: the last one.

    Returns
    -------
    dict of str to float
        NaN where a metric is not defined: ROC AUC where not all classes are among the labels.

    Examples
    --------
    >>> score_classes([0, 1], np.array([0, 1]), np.array([0, 1]), np.array([[1, 0], [0.5, 0.5]]))["log_loss"]
    0.3465...
    """
    chances = np.clip(probabilities, _LEAST_PROBABILITY, None)
    chances = chances / chances.sum(axis=1, keepdims=True)
    found = np.asarray(predictions, dtype=labels.dtype)
    positive = classes[-1] if positive is None else positive
    counted = {"labels": [positive]} if len(classes) == 2 else {}
    return {
        "log_loss": float(metrics.log_loss(labels, chances, labels=list(classes))),
        "roc_auc": _roc_auc(classes, labels, chances, positive),
        "balanced_accuracy": float(
            metrics.recall_score(labels, found, labels=np.unique(labels), average="macro")
        ),
        "f1": float(metrics.f1_score(labels, found, average="macro", zero_division=0.0, **counted)),
        "accuracy": float(metrics.accuracy_score(labels, found)),
    }


def score_numbers(targets: NDArray[np.generic], predictions: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of a regression; R2 is NaN where the targets do not vary.

    Examples
    --------
    >>> score_numbers(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
    {'mae': 0.5, 'rmse': 0.7071..., 'r2': 0.5}
    """
    truth = np.asarray(targets, np.float64)
    varies = bool(np.ptp(truth) > 0)
    return {
        "mae": float(metrics.mean_absolute_error(truth, predictions)),
        "rmse": float(np.sqrt(metrics.mean_squared_error(truth, predictions))),
        "r2": float(metrics.r2_score(truth, predictions)) if varies else float("nan"),
    }


def _roc_auc(
    classes: Sequence[Label], labels: NDArray[np.generic], chances: NDArray[np.float64], positive: Label
) -> float:
    if len(np.unique(labels)) < len(classes):
        return float("nan")
    if len(classes) == 2:
        return float(metrics.roc_auc_score(labels == positive, chances[:, list(classes).index(positive)]))
    return float(
        metrics.roc_auc_score(labels, chances, multi_class="ovr", average="macro", labels=list(classes))
    )
