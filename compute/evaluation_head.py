"""What an evaluation is of: task, window and model.

Owns which evaluations can be merged: those of which all this is equal, except which class is positive where
only outcomes tell the classes.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from compute.score_counts import MIN_BOUND

Task = Literal["classification", "regression"]
TASKS: tuple[Task, Task] = ("classification", "regression")

MAX_PANES = 1_000
MAX_SCORES_BOUND = 2**20


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an evaluation is of.

    Attributes
    ----------
    task : {"classification", "regression"}
    n_panes : int
    pane_seconds : float
    classes : tuple of str
        The model's, in canonical form; empty where only outcomes tell them.
    positive : str or None
        The class that scores are of, where it is said: one of the model's, or any if only outcomes tell them.
    max_scores : int
        Different scores told apart since the start.
    """

    task: Task
    n_panes: int
    pane_seconds: float
    classes: tuple[str, ...]
    positive: str | None
    max_scores: int

    @property
    def by_score(self) -> bool:
        """Whether the ROC curve is that of the scores; else each class has one, by the probabilities."""
        return 1 <= len(self.classes) <= 2

    @property
    def pane_scores(self) -> int:
        """Different scores told apart in one pane."""
        return max(MIN_BOUND, 2 * self.max_scores // self.n_panes)


def check_head(head: Head) -> None:
    """Raise ValueError if there is no such evaluation.

    Examples
    --------
    >>> check_head(
    ...     Head(task="regression", n_panes=0, pane_seconds=1, classes=(), positive=None, max_scores=256)
    ... )
    Traceback (most recent call last):
    ValueError: n_panes: must be between 1 and 1000, received 0
    """
    if head.task not in TASKS:
        raise ValueError(f"task: must be one of {TASKS}, received {head.task!r}")
    if not 1 <= head.n_panes <= MAX_PANES:
        raise ValueError(f"n_panes: must be between 1 and {MAX_PANES}, received {head.n_panes}")
    if not 0 < head.pane_seconds < math.inf:
        raise ValueError(f"pane_seconds: must be above 0 and finite, received {head.pane_seconds}")
    if not MIN_BOUND <= head.max_scores <= MAX_SCORES_BOUND:
        raise ValueError(
            f"max_scores: must be between {MIN_BOUND} and {MAX_SCORES_BOUND}, received {head.max_scores}"
        )
    if len(set(head.classes)) < len(head.classes):
        raise ValueError(f"classes: must differ, received {list(head.classes)[:100]}")
    if head.task == "regression" and (head.classes or head.positive is not None):
        received = [*head.classes, *([] if head.positive is None else [head.positive])]
        raise ValueError(f"classes: a regression has none, received {received[:100]}")
    if head.positive is not None and head.classes and head.positive not in head.classes:
        raise ValueError(f"positive: must be one of {list(head.classes)[:100]}, received {head.positive!r}")
