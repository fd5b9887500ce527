"""The plan of a training: task, metric, bounds, and how rows are split by time.

Owns which rows may teach and which may judge. Rows are in order of time here, so that no split looks ahead:
each fold is judged on what came after everything it learnt from, and the last stretch is held out from all
folds. Between what teaches and what judges lies a gap: neighbouring events are often one incident.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import TimeSeriesSplit

from compute.training.fault import TrainingError

Indices = NDArray[np.int64]

METRICS = {
    "classification": ("log_loss", "roc_auc", "balanced_accuracy", "f1", "accuracy"),
    "regression": ("mae", "rmse", "r2"),
}
"""By task; the first is the default.

Log loss is a proper scoring rule (Gneiting and Raftery 2007) of what is published, the probabilities, and is
defined in every fold, also in one without an anomaly. The mean absolute error is in the target's unit, and no
single spike decides it.
"""

LOWER_IS_BETTER = frozenset(["log_loss", "mae", "rmse"])

MIN_TEST_ROWS = 10
"""Of a fold, and of the held-out stretch."""


@dataclass(frozen=True)
class Plan:
    """What is wanted of a training.

    Attributes
    ----------
    task : {"classification", "regression"}
    metric : str
        One of `METRICS[task]`, by which candidates are chosen; empty: the first.
    n_folds : int
    n_trials : int
        Parameters that are tried of each candidate, its defaults first.
    seed : int
        Of the search and of every candidate.
    n_jobs : int
        Threads of a candidate that can use them.
    held_out : float
        Share of the rows, the last ones, that no fit ever sees.
    gap : int or None
        Rows left out before each stretch that judges; None: a hundredth of all rows.
    """

    task: str
    metric: str = ""
    n_folds: int = 5
    n_trials: int = 5
    seed: int = 0
    n_jobs: int = 1
    held_out: float = 0.2
    gap: int | None = None

    def __post_init__(self) -> None:
        if self.task not in METRICS:
            raise TrainingError(f"task: one of {', '.join(METRICS)} needed, received {self.task!r}")
        if self.metric not in ("", *METRICS[self.task]):
            raise TrainingError(
                f"metric: one of {', '.join(METRICS[self.task])} needed for {self.task}, "
                f"received {self.metric!r}"
            )
        for name, value, least in (("folds", self.n_folds, 2), ("trials", self.n_trials, 1)):
            if value < least:
                raise TrainingError(f"{name}: at least {least} needed, received {value}")
        if not 0.05 <= self.held_out <= 0.5:
            raise TrainingError(f"held-out share: 0.05 to 0.5 needed, received {self.held_out}")

    @property
    def primary(self) -> str:
        """The metric that decides."""
        return self.metric or METRICS[self.task][0]

    @property
    def sign(self) -> float:
        """Factor that makes higher values of the primary metric the better ones."""
        return -1.0 if self.primary in LOWER_IS_BETTER else 1.0


@dataclass(frozen=True)
class Split:
    """Rows by what they are for; all of them are positions in order of time.

    Attributes
    ----------
    train, held : ndarray of int64
        What the folds and the last fit may use, and what judges the converted models.
    folds : list of (ndarray, ndarray)
        Of each fold, what teaches and what judges; both within `train`.
    """

    train: Indices
    held: Indices
    folds: list[tuple[Indices, Indices]]


def split_by_time(n_rows: int, plan: Plan) -> Split:
    """Return which rows teach and which judge.

    Folds grow: each learns from all of the training part before its gap (`TimeSeriesSplit`).

    Raises
    ------
    TrainingError
        There are too few rows.

    Examples
    --------
    >>> split = split_by_time(100, Plan("regression", n_folds=3, gap=2))
    >>> split.train[-1].item(), split.held[0].item(), [(len(a), len(b)) for a, b in split.folds]
    (77, 80, [(19, 19), (38, 19), (57, 19)])
    """
    gap = plan.gap if plan.gap is not None else max(n_rows // 100, 1)
    n_held = int(n_rows * plan.held_out)
    n_train = n_rows - n_held - gap
    test_rows = n_train // (plan.n_folds + 1)
    if n_held < MIN_TEST_ROWS or test_rows < MIN_TEST_ROWS or n_train - plan.n_folds * test_rows <= gap:
        raise TrainingError(
            f"too few labelled events: {plan.n_folds} folds, a held-out share of {plan.held_out:g} and gaps "
            f"of {gap} need at least {_rows_needed(plan, gap)}, received {n_rows}"
        )
    train = np.arange(n_train)
    folds = TimeSeriesSplit(plan.n_folds, gap=gap, test_size=test_rows).split(train)
    return Split(train, np.arange(n_rows - n_held, n_rows), list(folds))


def _rows_needed(plan: Plan, gap: int) -> int:
    per_fold = max(MIN_TEST_ROWS, gap + 1)
    for_training = ((plan.n_folds + 1) * per_fold + gap) / (1.0 - plan.held_out)
    return int(np.ceil(max(for_training, MIN_TEST_ROWS / plan.held_out)))
