"""Finalists: the best of each candidate, fitted anew, converted, and held against the original.

Owns which artefact comes of a training. Each finalist learns from the training part and is judged on the
held-out one, which nothing before it has seen. It is judged as what will serve: loaded by `load_artefact`,
run by ONNX Runtime. One whose answers differ from the original's by more than a tolerance is refused, and the
next best is taken.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from compute.artefact import load_artefact
from compute.metadata import Label
from compute.scoring import Model, Scores
from compute.training.conversion import to_onnx
from compute.training.plan import Indices, Plan, Split
from compute.training.sample import Sample
from compute.training.scores import score_classes, score_numbers
from compute.training.selection import Clock, Trial, fit, judge, one_line, spread

TOLERANCE = 1e-3
"""Of a probability, and of a number in standard deviations of the targets: float32 is this rough."""

TIMED_ROWS = 2_000


@dataclass(frozen=True)
class Difference:
    """How far a converted model's answers lie from the original's.

    Attributes
    ----------
    largest : float
        Of probabilities, or of numbers in standard deviations of the targets; infinite where one is not
        finite.
    n_labels : int
        Predicted classes that differ, but for those the original itself could hardly decide.
    n_rows : int
    """

    largest: float
    n_labels: int
    n_rows: int

    @property
    def is_tolerable(self) -> bool:
        """Whether the converted model may stand for the original."""
        return self.largest <= TOLERANCE and not self.n_labels

    def __str__(self) -> str:
        labels = f", {self.n_labels} of {self.n_rows} labels differ" if self.n_labels else ""
        return f"differs by up to {self.largest:.2g}, {TOLERANCE:g} allowed{labels}"


@dataclass(frozen=True)
class Finalist:
    """The best trial of a candidate, and what became of it.

    Attributes
    ----------
    trial : Trial
    held_out : dict of str to float
        Metrics on the held-out rows: of the converted model, or of the original where there is none.
    onnx_bytes : bytes
        Empty if it could not be converted.
    difference : Difference or None
        None where it could not be measured.
    refusal : str
        Why it cannot be published; empty if it can.
    event_microseconds : float
        One event of many, by ONNX Runtime on one core; NaN where it was not measured.
    n_fitted : int
        Rows it learnt from.
    classes : tuple of str or int
        Of a classification, those it learnt, by column of the probabilities.
    """

    trial: Trial
    held_out: dict[str, float] = field(default_factory=dict)
    onnx_bytes: bytes = b""
    difference: Difference | None = None
    refusal: str = ""
    event_microseconds: float = float("nan")
    n_fitted: int = 0
    classes: tuple[Label, ...] = ()

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return self.trial.candidate.name


def finish(
    trial: Trial,
    sample: Sample,
    split: Split,
    fields: Mapping[str, Any],
    clock: Clock,
    *,
    max_bytes: int,
    converts: bool = True,
    convert: Callable[[Any, int], bytes] = to_onnx,
) -> Finalist:
    """Fit a trial on the training part, convert it, and hold it against the original on the held-out part.

    Parameters
    ----------
    trial : Trial
    sample : Sample
    split : Split
    fields : mapping
        Metadata that `load_artefact` needs, but for the classes.
    clock : callable
        Gives monotonic seconds.
    max_bytes : int
        Largest artefact.
    converts : bool
        Whether it is to be converted; the baseline is not.
    convert : callable
        Gives ONNX bytes of an estimator and its number of features.
    """
    if trial.failure:
        return Finalist(trial, refusal=f"failed: {trial.failure}")
    try:
        original = fit(trial.candidate, trial.parameters, sample, split.train)
        held_out = judge(original, sample, split.held)
    except Exception as error:  # as in a fold
        return Finalist(trial, refusal=f"failed: {one_line(error)}")
    n_fitted = min(len(split.train), trial.candidate.max_rows or len(split.train))
    classes = tuple(np.asarray(original.classes_).tolist()) if sample.classes else ()
    done = Finalist(trial, held_out, n_fitted=n_fitted, classes=classes)
    if not converts:
        return done
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what scikit-learn will remove one day
            onnx_bytes = convert(original, len(sample.features))
        metadata_json = json.dumps({**fields, "classes": classes}).encode()
        model = load_artefact(onnx_bytes, metadata_json, max_bytes=max_bytes)
        scores, _ = model.predict(sample.inputs[split.held])
    except Exception as error:  # whatever a converter raises
        return replace(done, refusal=f"cannot be converted: {one_line(error)}")
    difference = compare(original, scores, sample, split.held)
    done = replace(
        done,
        onnx_bytes=onnx_bytes,
        difference=difference,
        event_microseconds=_time(model, sample, split.held, clock),
    )
    if not difference.is_tolerable:
        return replace(done, refusal=str(difference))
    return replace(done, held_out=_judge_scores(scores, classes, sample, split.held))


def compare(original: Any, scores: Scores, sample: Sample, rows: Indices) -> Difference:
    """Hold a converted model's answers against the original's.

    Labels differ where the predicted class is another one, unless the original's two best probabilities lie
    within the tolerance of each other: there any rounding decides.
    """
    inputs = sample.inputs[rows]
    if not sample.classes:
        unit = float(np.std(np.asarray(sample.targets[rows], np.float64))) or 1.0
        return Difference(_largest(scores.scores - original.predict(inputs)) / unit, 0, len(rows))
    expected = original.predict_proba(inputs)
    assert scores.probabilities is not None
    best = np.sort(expected, axis=1)
    is_clear = best[:, -1] - best[:, -2] > TOLERANCE
    differ = np.array(scores.predictions, object) != np.asarray(original.predict(inputs)).astype(object)
    return Difference(_largest(scores.probabilities - expected), int((differ & is_clear).sum()), len(rows))


def choose(finalists: list[Finalist], plan: Plan) -> Finalist | None:
    """Return the finalist that cross-validation ranks first among those that may be published.

    The held-out part has no say in it, so that its numbers stay those of events that decided nothing.
    """
    allowed = [item for item in finalists if item.onnx_bytes and not item.refusal]
    return max(allowed, key=lambda item: item.trial.rank(plan), default=None)


def beats(finalist: Finalist, baseline: Finalist, plan: Plan) -> bool:
    """Tell whether a finalist is better than the baseline, over the folds and on the held-out part."""
    ours, theirs = (plan.sign * item.held_out.get(plan.primary, np.nan) for item in (finalist, baseline))
    # Where the held-out part has a single class, a metric of ranks says nothing there; the folds decide.
    on_held_out = bool(ours > theirs) or bool(np.isnan(theirs))
    return finalist.trial.rank(plan) > baseline.trial.rank(plan) and on_held_out


def _largest(differences: Any) -> float:
    largest = float(np.max(np.abs(differences)))
    return largest if np.isfinite(largest) else float("inf")


def _judge_scores(
    scores: Scores, classes: tuple[Label, ...], sample: Sample, rows: Indices
) -> dict[str, float]:
    targets = sample.targets[rows]
    if scores.probabilities is None:
        return score_numbers(targets, scores.scores)
    probabilities = spread(scores.probabilities, classes, sample.classes)
    return score_classes(sample.classes, targets, scores.predictions, probabilities, sample.positive)


def _time(model: Model, sample: Sample, rows: Indices, clock: Clock) -> float:
    inputs = sample.inputs[rows[:TIMED_ROWS]]
    model.predict(inputs)  # the first call of a size plans its memory
    started = clock()
    model.predict(inputs)
    return (clock() - started) / len(inputs) * 1e6
