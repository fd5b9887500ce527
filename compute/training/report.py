"""The table of all candidates: as JSON that is kept with the artefact, and as rows that are printed.

Owns what is told of a training. Times are in it and nowhere else: the metadata that makes a version must not
change when the same data is trained on a busier machine.
"""

from __future__ import annotations

import math
from typing import Any

from compute.training.candidates import BASELINE, show_parameters
from compute.training.finalists import Finalist
from compute.training.plan import METRICS, Plan
from compute.training.training import Outcome


def describe(outcome: Outcome, plan: Plan) -> dict[str, Any]:
    """Return the table as plain values, NaN as None.

    Examples
    --------
    >>> from compute.training.plan import split_by_time
    >>> plan = Plan("regression")
    >>> outcome = Outcome([], None, False, split_by_time(200, plan), 5)
    >>> describe(outcome, plan)["rows"]
    {'training': 158, 'held_out': 40}
    """
    return {
        "task": plan.task,
        "metric": plan.primary,
        "folds": outcome.n_folds,
        "trials": plan.n_trials,
        "seed": plan.seed,
        "rows": {"training": len(outcome.split.train), "held_out": len(outcome.split.held)},
        "winner": outcome.winner.name if outcome.winner else None,
        "beats_baseline": outcome.beats_baseline,
        "candidates": [_describe_one(item, outcome, plan) for item in outcome.finalists],
    }


def winner_metrics(outcome: Outcome, plan: Plan) -> dict[str, Any]:
    """Return what the artefact's metadata says of its metrics: nothing that depends on the machine."""
    assert outcome.winner is not None
    told = _describe_one(outcome.winner, outcome, plan)
    return {
        "candidate": told["candidate"],
        "parameters": told["parameters"],
        "metric": plan.primary,
        "held_out": told["held_out"],
        "cross_validation": told["cross_validation"],
        "baseline_held_out": _rounded(outcome.baseline.held_out),
    }


def headers(plan: Plan) -> list[str]:
    """Return the headers of the printed table: metrics over the folds, the primary one first.

    Examples
    --------
    >>> headers(Plan("regression"))
    ['candidate', 'mae', 'rmse', 'r2', 'held-out mae', 'fit s', 'us/event', 'bytes', 'converted']
    """
    return [
        "candidate",
        *_metrics(plan),
        f"held-out {plan.primary}",
        "fit s",
        "us/event",
        "bytes",
        "converted",
    ]


def tell_rows(outcome: Outcome, plan: Plan) -> list[list[str]]:
    """Return the printed table's rows, in the order of `headers`; a star marks the winner."""
    return [_tell(item, outcome, plan) for item in outcome.finalists]


def tell_short(finalist: Finalist, plan: Plan) -> str:
    """Return one line about a candidate that is done."""
    parameters = tell_parameters(finalist)
    told = parameters and f" ({parameters})"
    scores = f"{plan.primary} {_over_folds(finalist, plan.primary)}" if finalist.trial.scores else "no scores"
    return f"{finalist.name}: {scores}{told}{'; ' + finalist.refusal if finalist.refusal else ''}"


def tell_parameters(finalist: Finalist) -> str:
    """Return the parameters that were chosen; empty where there was no choice."""
    shown = show_parameters(finalist.trial.candidate, finalist.trial.parameters)
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _describe_one(finalist: Finalist, outcome: Outcome, plan: Plan) -> dict[str, Any]:
    trial = finalist.trial
    difference = finalist.difference
    return {
        "candidate": finalist.name,
        "state": _state(finalist, outcome),
        "parameters": show_parameters(trial.candidate, trial.parameters),
        "cross_validation": {
            metric: [_round(trial.mean(metric)), _round(trial.std(metric))]
            for metric in METRICS[plan.task]
            if trial.scores
        },
        "folds": [_round(value) for value in trial.scores.get(plan.primary, [])],
        "held_out": _rounded(finalist.held_out),
        "fit_seconds": _round(trial.fit_seconds, 3),
        "event_microseconds": _round(finalist.event_microseconds, 3),
        "onnx_bytes": len(finalist.onnx_bytes) or None,
        "difference": _round(difference.largest, 3) if difference else None,
        "rows": finalist.n_fitted,
        "refusal": finalist.refusal,
    }


def _state(finalist: Finalist, outcome: Outcome) -> str:
    if finalist.name == BASELINE:
        return "baseline"
    if finalist is outcome.winner:
        return "winner"
    return "refused" if finalist.refusal else "converted"


def _tell(finalist: Finalist, outcome: Outcome, plan: Plan) -> list[str]:
    name = f"{finalist.name} *" if finalist is outcome.winner else finalist.name
    if finalist.n_fitted and finalist.n_fitted < len(outcome.split.train):
        name += f" (of {finalist.n_fitted:,} events)"
    converted = finalist.refusal
    if not converted and finalist.difference is not None:
        converted = f"yes, within {finalist.difference.largest:.0e}"
    return [
        name,
        *(_over_folds(finalist, metric) for metric in _metrics(plan)),
        _number(finalist.held_out.get(plan.primary, math.nan), 3),
        _number(finalist.trial.fit_seconds, 2),
        _number(finalist.event_microseconds, 2),
        f"{len(finalist.onnx_bytes):,}" if finalist.onnx_bytes else "",
        converted,
    ]


def _metrics(plan: Plan) -> list[str]:
    return [plan.primary, *(metric for metric in METRICS[plan.task] if metric != plan.primary)]


def _over_folds(finalist: Finalist, metric: str) -> str:
    mean, std = finalist.trial.mean(metric), finalist.trial.std(metric)
    return f"{_number(mean, 3)} ± {_number(std, 1)}" if math.isfinite(mean) else ""


def _number(value: float, n_digits: int) -> str:
    return f"{value:.{n_digits}g}" if math.isfinite(value) else ""


def _rounded(scores: dict[str, float]) -> dict[str, float | None]:
    return {metric: _round(value) for metric, value in scores.items()}


def _round(value: float, n_digits: int = 6) -> float | None:
    return float(f"{value:.{n_digits}g}") if math.isfinite(value) else None
