"""What `/api/evaluations` says of a version, held against scikit-learn on the predictions that it made.

Owns asking the view and the comparison. Which labels count is for others to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sklearn import metrics

from tests.live.workers import Worker

TOLERANCE = 1e-6
CLASSES = [0, 1]


def evaluations(worker: Worker) -> dict[str, Any]:
    """Return what a worker says of all evaluations; nothing where not every worker has answered."""
    status, found = worker.get("/api/evaluations")
    return found if status == 200 and not found["unanswered"] else {}


def evaluation_of(found: Mapping[str, Any], model: str, version: str, group: str = "") -> dict[str, Any]:
    """Return the one evaluation of a version in a group of entities."""
    about = (model, version, group)
    (row,) = [row for row in found["evaluations"] if (row["model"], row["version"], row["group"]) == about]
    return dict(row)


def versions_of(predictions: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return name and version of the models that made some predictions."""
    return sorted({(prediction["model"], prediction["version"]) for prediction in predictions})


def hold_against_scikit_learn(
    told: Mapping[str, Any],
    predictions: Sequence[Mapping[str, Any]],
    truth: Sequence[int],
    are_probabilities: bool = False,
) -> list[str]:
    """Return where the metrics since the start are not scikit-learn's; there are two classes, 0 and 1.

    Parameters
    ----------
    told : mapping
        `since_start` of an evaluation.
    predictions : sequence, length n
        As the topic has them: `prediction` and `score`.
    truth : sequence of int, length n
        Their labels.
    are_probabilities : bool
        Whether the scores are those of class 1, so that there is a log loss.
    """
    guesses = [int(prediction["prediction"]) for prediction in predictions]
    scores = [prediction["score"] for prediction in predictions]
    matrix = metrics.confusion_matrix(truth, guesses, labels=CLASSES)
    wanted: dict[str, Any] = {
        "n_labels": len(truth),
        "confusion_matrix": matrix.tolist(),
        "accuracy": metrics.accuracy_score(truth, guesses),
        "precision": metrics.precision_score(truth, guesses, zero_division=0),
        "recall": metrics.recall_score(truth, guesses, zero_division=0),
        "f1": metrics.f1_score(truth, guesses, zero_division=0),
    }
    if len(set(truth)) == len(CLASSES):
        wanted["balanced_accuracy"] = metrics.balanced_accuracy_score(truth, guesses)
        wanted["roc_auc"] = metrics.roc_auc_score(truth, scores)
        if are_probabilities:
            wanted["log_loss"] = metrics.log_loss(truth, scores)
    bounds = {"roc_auc": told["roc_auc_resolution"] or 0.0}
    return [
        f"{name}: {told[name]}, not {value}"
        for name, value in wanted.items()
        if not _same(told[name], value, bounds.get(name, 0.0))
    ]


def _same(told: Any, wanted: Any, bound: float) -> bool:
    if isinstance(wanted, float) and isinstance(told, float | int):
        return math.isclose(told, wanted, rel_tol=TOLERANCE, abs_tol=bound + 1e-9)
    return bool(told == wanted)
