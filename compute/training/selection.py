"""Selection: every candidate's parameters tried by cross-validation that respects time.

Owns the search. All that learns is part of the estimator that a fold fits, so nothing of what judges a fold
is known to it. What becomes of the best of each candidate is in `compute/training/finalists.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from compute.metadata import Label
from compute.training.candidates import Candidate, draw_parameters
from compute.training.fault import TrainingError
from compute.training.plan import Indices, Plan, Split
from compute.training.sample import Sample
from compute.training.scores import score_classes, score_numbers

Clock = Callable[[], float]

MIN_CLASS_ROWS = 3
"""Of each of two classes at least, in what a fold learns from."""


@dataclass(frozen=True)
class Trial:
    """One candidate with one set of parameters.

    Attributes
    ----------
    candidate : Candidate
    parameters : dict
        As the estimator's `set_params` takes them.
    scores : dict of str to ndarray, shape (n_folds,)
        By metric.
    fit_seconds : float
        Mean over the folds.
    failure : str
        Why there are no scores; empty if there are.
    """

    candidate: Candidate
    parameters: dict[str, Any]
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    fit_seconds: float = 0.0
    failure: str = ""

    def mean(self, metric: str) -> float:
        """Return the mean over the folds in which the metric is defined; NaN if it is in none."""
        values = self.scores.get(metric, np.zeros(0))
        defined = values[np.isfinite(values)]
        return float(defined.mean()) if len(defined) else float("nan")

    def std(self, metric: str) -> float:
        """Return the standard deviation over the same folds."""
        values = self.scores.get(metric, np.zeros(0))
        defined = values[np.isfinite(values)]
        return float(defined.std()) if len(defined) else float("nan")

    def rank(self, plan: Plan) -> float:
        """Return the primary metric with a sign that makes higher better; without one minus infinity."""
        mean = plan.sign * self.mean(plan.primary)
        return mean if np.isfinite(mean) else -np.inf


def usable_folds(sample: Sample, split: Split) -> list[tuple[Indices, Indices]]:
    """Return the folds that can be learnt from: a class needs another one to differ from.

    Raises
    ------
    TrainingError
        There is none, or the training part itself has a single class.
    """
    if not sample.classes:
        return split.folds
    if not _has_classes(sample.targets[split.train]):
        names, counts = np.unique(sample.targets[split.train], return_counts=True)
        found = ", ".join(f"{name}: {count:,}" for name, count in zip(names, counts, strict=True))
        raise TrainingError(
            f"too few labels of a second class: at least {MIN_CLASS_ROWS} of each of two classes needed "
            f"among the {len(split.train):,} events to learn from, received {found}"
        )
    folds = [fold for fold in split.folds if _has_classes(sample.targets[fold[0]])]
    if not folds:
        raise TrainingError(
            f"in none of {len(split.folds)} folds are there two classes to learn from: those of one class "
            "all come late; take events of a longer time, or fewer folds"
        )
    return folds


def search(
    candidate: Candidate,
    sample: Sample,
    folds: Sequence[tuple[Indices, Indices]],
    plan: Plan,
    clock: Clock,
    on_trial: Callable[[], None] = lambda: None,
) -> Trial:
    """Return the best trial of a candidate.

    Parameters
    ----------
    candidate : Candidate
    sample : Sample
    folds : sequence of (ndarray, ndarray)
        Rows that teach and rows that judge, see `usable_folds`.
    plan : Plan
    clock : callable
        Gives monotonic seconds.
    on_trial : callable
        Called before each trial; what it raises ends the search.

    Returns
    -------
    Trial
        Of equal ones the first. Only failed ones: the first, which says why.
    """
    best: Trial | None = None
    for parameters in draw_parameters(candidate, plan.n_trials, plan.seed):
        on_trial()
        trial = _evaluate(candidate, parameters, sample, folds, clock)
        if best is None or trial.rank(plan) > best.rank(plan):
            best = trial
    assert best is not None
    return best


def fit(candidate: Candidate, parameters: dict[str, Any], sample: Sample, rows: Indices) -> Any:
    """Return a fitted estimator; of more rows than the candidate takes, some evenly spread over time."""
    rows = thin(rows, candidate.max_rows)
    estimator = clone(candidate.estimator).set_params(**parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence and the like: what comes of it is measured
        return estimator.fit(sample.inputs[rows], sample.targets[rows])


def thin(rows: Indices, n_most: int | None) -> Indices:
    """Return at most so many rows, evenly spread.

    Examples
    --------
    >>> thin(np.arange(9), 3).tolist()
    [2, 5, 8]
    """
    if n_most is None or len(rows) <= n_most:
        return rows
    # The last row of each of so many equal parts: the newest one is among them.
    return rows[(np.arange(1, n_most + 1) * len(rows)) // n_most - 1]


def judge(estimator: Any, sample: Sample, rows: Indices) -> dict[str, float]:
    """Return the metrics of a fitted estimator on some rows."""
    inputs, targets = sample.inputs[rows], sample.targets[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictions = estimator.predict(inputs)
        if not sample.classes:
            return score_numbers(targets, np.asarray(predictions, np.float64))
        probabilities = spread(estimator.predict_proba(inputs), estimator.classes_, sample.classes)
        return score_classes(sample.classes, targets, predictions, probabilities, sample.positive)


def spread(
    probabilities: NDArray[np.float64], known: Sequence[Label], classes: Sequence[Label]
) -> NDArray[np.float64]:
    """Return probabilities with a column for each class; one that was not learnt has 0.

    Examples
    --------
    >>> spread(np.array([[0.25, 0.75]]), ["high", "low"], ["high", "high-high", "low"]).tolist()
    [[0.25, 0.0, 0.75]]
    """
    wide = np.zeros((len(probabilities), len(classes)))
    wide[:, np.searchsorted(np.asarray(classes), np.asarray(known))] = probabilities
    return wide


def _evaluate(
    candidate: Candidate,
    parameters: dict[str, Any],
    sample: Sample,
    folds: Sequence[tuple[Indices, Indices]],
    clock: Clock,
) -> Trial:
    found: list[dict[str, float]] = []
    seconds = 0.0
    try:
        for learn, test in folds:
            started = clock()
            estimator = fit(candidate, parameters, sample, learn)
            seconds += clock() - started
            found.append(judge(estimator, sample, test))
    except Exception as error:  # whatever a library raises costs this candidate only
        return Trial(candidate, parameters, failure=one_line(error))
    scores = {metric: np.array([of_fold[metric] for of_fold in found]) for metric in found[0]}
    return Trial(candidate, parameters, scores, seconds / len(folds))


def one_line(error: Exception) -> str:
    """Return an error as one line of a table."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."


def _has_classes(targets: NDArray[np.generic]) -> bool:
    _, counts = np.unique(targets, return_counts=True)
    return int((counts >= MIN_CLASS_ROWS).sum()) >= 2
