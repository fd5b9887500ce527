"""Candidates: the models that are tried out of the box, and the bounds of the search for their parameters.

Owns what is tried. Each candidate is a scikit-learn estimator that skl2onnx converts; whether the conversion
holds is checked in `compute/training/finalists.py`, whatever is promised here.

Inputs are float64. Raw ones are standardised inside the estimator, so that each fold fits its own scale;
trees do without, whose order is all that counts. What computes in float32 once it is ONNX (trees, support
vectors) is given float32 here too, by a cast that is part of the estimator: it then learns thresholds that
both sides can tell apart. The target of a regression is standardised the same way, since the width of a
support vector's tube, and what float32 can tell apart, depend on its unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import loguniform, randint
from skl2onnx.sklapi import CastTransformer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import ParameterSampler
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from compute.training.fault import TrainingError

NAMES = ("linear", "svm", "tree", "forest", "boosting", "neighbours")

BASELINE = "baseline"
"""Answers with what is most common, whatever the input: what every candidate must beat."""

_BALANCE = [None, "balanced"]


@dataclass(frozen=True)
class Candidate:
    """One kind of model.

    Attributes
    ----------
    name : str
    estimator : object
        Unfitted, with the parameters that are tried first.
    space : mapping
        By parameter of the estimator, a list or a distribution to draw from.
    max_rows : int or None
        Rows it is fitted on at most, evenly spread over those there are: its cost grows faster than they do,
        or it keeps them all.
    """

    name: str
    estimator: Any
    space: Mapping[str, Any] = field(default_factory=dict)
    max_rows: int | None = None


def choose_candidates(
    names: Sequence[str], task: str, normaliser: str, seed: int, n_jobs: int = 1
) -> list[Candidate]:
    """Return candidates, the baseline first.

    Parameters
    ----------
    names : sequence of str
        Of `NAMES`; empty: all.
    task : {"classification", "regression"}
    normaliser : {"window", "none"}
        Whether inputs are normalised already.
    seed : int
    n_jobs : int
        Threads of those that can use them.

    Raises
    ------
    TrainingError
        There is no such candidate.

    Examples
    --------
    >>> [candidate.name for candidate in choose_candidates(["tree"], "regression", "window", seed=0)]
    ['baseline', 'tree']
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise TrainingError(f"candidates: {', '.join(NAMES)} are known, received {unknown[0]!r}")
    chosen = list(dict.fromkeys(names)) or list(NAMES)
    if task == "classification":
        baseline = Candidate(BASELINE, DummyClassifier(strategy="prior"))
        found = _classifiers(seed, n_jobs)
    else:
        baseline = Candidate(BASELINE, DummyRegressor(strategy="median"))
        found = _regressors(seed, n_jobs)
    return [baseline] + [_assemble(found[name], task, normaliser) for name in chosen]


def draw_parameters(candidate: Candidate, n_trials: int, seed: int) -> list[dict[str, Any]]:
    """Return sets of parameters to try: none changed, then draws from the candidate's space.

    Random search finds good parameters in fewer trials than a grid where few of them matter (Bergstra and
    Bengio 2012).

    Examples
    --------
    >>> candidate = choose_candidates(["linear"], "regression", "window", seed=0)[1]
    >>> [sorted(drawn) for drawn in draw_parameters(candidate, n_trials=2, seed=0)]
    [[], ['regressor__model__alpha']]
    """
    if not candidate.space:
        return [{}]
    drawn = ParameterSampler(candidate.space, max(n_trials - 1, 1), random_state=seed)
    return [{}, *drawn][:n_trials]


def show_parameters(candidate: Candidate, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was searched as people know it: names without a path, plain values of four digits.

    Those that are None are left out: there is none then.

    Examples
    --------
    >>> candidate = choose_candidates(["linear"], "regression", "window", seed=0)[1]
    >>> show_parameters(candidate, {}), show_parameters(candidate, {"regressor__model__alpha": 0.123456})
    ({'alpha': 1.0}, {'alpha': 0.1235})
    """
    if not candidate.space:
        return {}
    defaults = candidate.estimator.get_params()
    shown = {}
    for name in sorted(candidate.space):
        value = parameters.get(name, defaults[name])
        plain = value.item() if isinstance(value, np.generic) else value
        if plain is not None:
            shown[name.rpartition("__")[2]] = float(f"{plain:.4g}") if isinstance(plain, float) else plain
    return shown


@dataclass(frozen=True)
class _Kind:
    name: str
    model: Any
    space: Mapping[str, Any]
    max_rows: int | None = None
    in_float32: bool = True
    scaled: bool = False


def _assemble(kind: _Kind, task: str, normaliser: str) -> Candidate:
    steps: list[tuple[str, Any]] = []
    if kind.scaled and normaliser == "none":
        steps.append(("scale", StandardScaler()))
    if kind.in_float32:
        steps.append(("cast", CastTransformer(dtype=np.float32)))
    estimator: Any = Pipeline([*steps, ("model", kind.model)])
    prefix = "model__"
    if task == "regression":
        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
        prefix = "regressor__model__"
    space = {prefix + name: values for name, values in kind.space.items()}
    return Candidate(kind.name, estimator, space, kind.max_rows)


def _classifiers(seed: int, n_jobs: int) -> dict[str, _Kind]:
    # Probabilities of a support vector machine: by a sigmoid over its decisions (Platt 1999).
    machine = CalibratedClassifierCV(SVC(random_state=seed), ensemble=False, cv=3)
    kinds = [
        _Kind(
            "linear",
            LogisticRegression(max_iter=1_000, random_state=seed),
            {"C": loguniform(1e-3, 1e2), "class_weight": _BALANCE},
            in_float32=False,
            scaled=True,
        ),
        _Kind(
            "svm",
            machine,
            {
                "estimator__C": loguniform(1e-1, 1e2),
                "estimator__gamma": loguniform(1e-2, 1e0),
                "estimator__class_weight": _BALANCE,
            },
            max_rows=_MACHINE_ROWS,
            scaled=True,
        ),
        _Kind(
            "tree",
            DecisionTreeClassifier(max_depth=6, min_samples_leaf=10, random_state=seed),
            {**_TREE, "class_weight": _BALANCE},
        ),
        _Kind(
            "forest",
            RandomForestClassifier(
                _N_TREES, max_depth=10, min_samples_leaf=3, random_state=seed, n_jobs=n_jobs
            ),
            {**_FOREST, "class_weight": _BALANCE},
        ),
        _Kind(
            "boosting",
            HistGradientBoostingClassifier(early_stopping=False, random_state=seed),
            {**_BOOSTING, "class_weight": _BALANCE},
        ),
        _Kind(
            "neighbours",
            KNeighborsClassifier(15),
            _NEIGHBOURS,
            max_rows=_NEIGHBOUR_ROWS,
            in_float32=False,
            scaled=True,
        ),
    ]
    return {kind.name: kind for kind in kinds}


def _regressors(seed: int, n_jobs: int) -> dict[str, _Kind]:
    kinds = [
        _Kind("linear", Ridge(), {"alpha": loguniform(1e-2, 1e3)}, in_float32=False, scaled=True),
        _Kind(
            "svm",
            SVR(),
            {
                "C": loguniform(1e-1, 1e2),
                "gamma": loguniform(1e-2, 1e0),
                "epsilon": loguniform(1e-2, 3e-1),
            },
            max_rows=_MACHINE_ROWS,
            scaled=True,
        ),
        _Kind("tree", DecisionTreeRegressor(max_depth=6, min_samples_leaf=10, random_state=seed), _TREE),
        _Kind(
            "forest",
            RandomForestRegressor(
                _N_TREES, max_depth=10, min_samples_leaf=3, random_state=seed, n_jobs=n_jobs
            ),
            _FOREST,
        ),
        _Kind("boosting", HistGradientBoostingRegressor(early_stopping=False, random_state=seed), _BOOSTING),
        _Kind(
            "neighbours",
            KNeighborsRegressor(15),
            _NEIGHBOURS,
            max_rows=_NEIGHBOUR_ROWS,
            in_float32=False,
            scaled=True,
        ),
    ]
    return {kind.name: kind for kind in kinds}


_MACHINE_ROWS = 3_000
"""A fit takes the square of them: 3,000 about 0.5 s."""

_NEIGHBOUR_ROWS = 3_000
"""All are in the artefact and compared with every event: 3,000 take about 10 us an event."""

_N_TREES = 50
"""More are hardly better, and each is in the artefact."""

_TREE: dict[str, Any] = {"max_depth": randint(2, 13), "min_samples_leaf": [1, 2, 5, 10, 20, 50]}

_FOREST: dict[str, Any] = {
    "max_depth": randint(4, 13),
    "min_samples_leaf": [1, 2, 5, 10],
    "max_features": ["sqrt", 0.5, 1.0],
}

_BOOSTING: dict[str, Any] = {
    "learning_rate": loguniform(0.02, 0.3),
    "max_iter": randint(30, 201),
    "max_leaf_nodes": [7, 15, 31],
    "min_samples_leaf": [5, 20, 50],
    "l2_regularization": loguniform(1e-3, 1e1),
}

# Weights by distance are left out: their conversion was seen to differ by whole classes.
_NEIGHBOURS: dict[str, Any] = {"n_neighbors": randint(3, 51)}
