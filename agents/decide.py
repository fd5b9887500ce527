"""Who decides: the model that serves, or the built-in detector before any was published.

Owns the one shape that both answers have. The model itself is held by `tables/models.py` and called by
`agents/model_calls.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.model_calls import ModelCaller, ModelTimeoutError
from compute import detector
from compute.alerts import AlertRule
from compute.inputs import model_inputs
from compute.metadata import Label
from compute.scoring import Scores


@dataclass(frozen=True)
class Rows:
    """Accepted events of one record batch as columns, n rows, with what their entities had seen before.

    Attributes
    ----------
    position : ndarray, shape (n,), int64
        Place in the record batch.
    keys : list of bytes, length n
    offsets, slots : ndarray, shape (n,), int64
    timestamps : ndarray, shape (n,), float64, seconds
    matrix, mean, stddev, z : ndarray, shape (n, n_features), float64
    n_events : ndarray, shape (n,), float64
    warming_up, forgotten : ndarray, shape (n,), bool
        Forgotten is what was known of alerts: the entity was silent for that long.
    """

    position: NDArray[np.int64]
    keys: list[bytes]
    offsets: NDArray[np.int64]
    slots: NDArray[np.int64]
    timestamps: NDArray[np.float64]
    matrix: NDArray[np.float64]
    mean: NDArray[np.float64]
    stddev: NDArray[np.float64]
    z: NDArray[np.float64]
    n_events: NDArray[np.float64]
    warming_up: NDArray[np.bool_]
    forgotten: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Return some of the rows."""
        return Rows(**{name: _take(column, rows) for name, column in vars(self).items()})


@dataclass(frozen=True)
class Decision:
    """What was decided, row by row, and by whom.

    Attributes
    ----------
    scores : ndarray, shape (n,), float64
    predictions : list or ndarray, length n
    probabilities : ndarray, shape (n, n_classes), float64, or None
    rule : AlertRule or None
        The rule that the scores are held against; None where they are no measure of alarm.
    kind : {"anomaly", "classification", "regression"}
    positive : int or None
        Index of the class whose probability the score is.
    faults : dict of int to (str, str)
        Code and message of the rows that could not be decided.
    """

    model: str
    version: str
    scores: NDArray[np.float64]
    predictions: Any
    probabilities: NDArray[np.float64] | None = None
    classes: tuple[Label, ...] = ()
    rule: AlertRule | None = None
    kind: str = "anomaly"
    positive: int | None = None
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by column of the probabilities."""
        return tuple(map(str, self.classes))

    def take(self, rows: NDArray[np.int64]) -> Decision:
        """Return some of the rows, which are ascending."""
        places = {row: place for place, row in enumerate(rows.tolist())} if self.faults else {}
        return replace(
            self,
            scores=self.scores.take(rows),
            predictions=_take(self.predictions, rows),
            probabilities=None if self.probabilities is None else self.probabilities.take(rows, axis=0),
            faults={places[row]: fault for row, fault in self.faults.items() if row in places},
        )


def decide_by_detector(rows: Rows, rule: AlertRule) -> Decision:
    """Score rows by the built-in detector, at once: it is some array operations."""
    scores = detector.score_anomalies(rows.z, rows.warming_up)
    predictions = detector.predict_anomalies(scores, rule.threshold)
    return Decision(detector.MODEL, detector.VERSION, scores, predictions, rule=rule)


async def decide_by_model(
    caller: ModelCaller, rows: Rows, feature_names: tuple[str, ...], rule: AlertRule
) -> Decision:
    """Score rows by a published model; where it does not answer in time, every row is at fault.

    A regression's number is no measure of alarm unless its artefact names a threshold.
    """
    model = caller.model
    inputs, missing = model_inputs(
        model.features,
        normaliser=model.normaliser,
        missing=model.missing,
        feature_names=feature_names,
        matrix=rows.matrix,
        mean=rows.mean,
        z=rows.z,
    )
    try:
        result, failed = await caller.call(inputs)
        faults = {row: ("model-error", message) for row, message in failed.items()}
    except ModelTimeoutError as error:
        n_rows = len(inputs)
        result = Scores(np.full(n_rows, np.nan), [None] * n_rows)
        faults = dict.fromkeys(range(n_rows), ("model-timeout", str(error)))
    faults.update({row: ("missing-feature", message) for row, message in missing.items()})
    return Decision(
        model.name,
        model.version,
        result.scores,
        result.predictions,
        result.probabilities,
        tuple(model.classes or ()),
        rule_for(model.kind, model.threshold, rule),
        model.kind,
        _positive_of(model),
        faults,
    )


def decide_nothing(model: Any, n_rows: int, rule: AlertRule, message: str) -> Decision:
    """Return what a model says that could not say anything: every row is at fault."""
    return Decision(
        model.name,
        model.version,
        np.full(n_rows, np.nan),
        [None] * n_rows,
        np.full((n_rows, len(model.classes)), np.nan) if model.kind == "classification" else None,
        tuple(model.classes or ()),
        rule_for(model.kind, model.threshold, rule),
        model.kind,
        _positive_of(model),
        dict.fromkeys(range(n_rows), ("model-error", message)),
    )


def rule_for(kind: str, threshold: float | None, rule: AlertRule) -> AlertRule | None:
    """Return the rule that the scores of such a model are held against."""
    if threshold is not None:
        return replace(
            rule,
            threshold=threshold,
            critical=max(rule.critical, threshold) if kind != "regression" else np.inf,
            resolve=min(rule.resolve, threshold) if kind != "regression" else threshold,
        )
    return None if kind == "regression" else rule


def _positive_of(model: Any) -> int | None:
    if model.kind != "classification":
        return None
    positive = model.metadata.output.positive
    return len(model.classes) - 1 if positive is None else model.classes.index(positive)


def _take(column: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(column, np.ndarray):
        return column.take(rows, axis=0)
    return [column[row] for row in rows.tolist()]
