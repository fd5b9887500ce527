"""What an online learner is made of, by itself: what is stored of it.

Owns the checks that a state could have come from learning. Its bytes are in `compute/online_codec.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from compute.moments import Floats
from compute.online_block import block_size
from compute.online_classes import MAX_CLASSES
from compute.online_columns import MAX_FEATURES
from compute.online_features import Rows

Task = Literal["classification", "regression"]

_LARGEST = {"gram": 1e9, "moment": 1e66, "losses": 1e150, "waiting_rows": 10.0, "waiting_targets": 2e60}
"""Above what can have been learnt. Numbers below stay finite whatever is learnt on top of them."""


@dataclass(frozen=True)
class OnlineState:
    """What is stored of an online learner.

    Attributes
    ----------
    version : str
        Of the algorithm.
    task : str
    n_learnt, n_ignored, n_resets : int
        As in `OnlineLearner`.
    names : tuple of str
    n_present : tuple of int
        As in `Columns`.
    classes : tuple of str
        As in `Classes`.
    gram, moment : ndarray
        As in `Memory`.
    losses : ndarray, shape (n_guesses,), float64
        Recent squared errors of each guess.
    packed : ndarray, shape (n_packed,), float64
        What `Classes` or `Numbers` store.
    waiting_rows, waiting_targets : ndarray
        As in `Waiting`.
    """

    version: str
    task: Task
    n_learnt: int
    n_ignored: int
    n_resets: int
    names: tuple[str, ...]
    n_present: tuple[int, ...]
    classes: tuple[str, ...]
    gram: Rows
    moment: Floats
    losses: Floats
    packed: Floats
    waiting_rows: Rows
    waiting_targets: Floats


def check_counts(
    task: Task, n_learnt: int, n_names: int, n_counting: int, n_classes: int, n_targets: int, n_waiting: int
) -> None:
    """Raise ValueError if these cannot be the sizes of one learner.

    Examples
    --------
    >>> check_counts("classification", 1, n_names=300, n_counting=2, n_classes=2, n_targets=2, n_waiting=0)
    Traceback (most recent call last):
    ValueError: features: must be at most 256, received 300, of which 2 count
    """
    if n_names > MAX_FEATURES or n_counting > n_names:
        raise ValueError(
            f"features: must be at most {MAX_FEATURES}, received {n_names}, of which {n_counting} count"
        )
    if task == "regression":
        fits = (n_classes, n_targets) == (0, 1)
    else:
        fits = n_classes <= MAX_CLASSES and (0 < n_targets <= n_classes if n_learnt else n_targets == 0)
    if not fits:
        raise ValueError(
            f"classes: must be at most {MAX_CLASSES}, received {n_classes}, of which {n_targets} are learnt"
        )
    largest = block_size(n_learnt, is_changing=False)
    if n_waiting >= largest:
        raise ValueError(f"waiting: must be fewer than a block of {largest}, received {n_waiting}")


def check_state(state: OnlineState) -> None:
    """Raise ValueError if the numbers of a state, whose sizes fit, cannot have come from learning."""
    for field, largest in _LARGEST.items():
        if not (np.abs(getattr(state, field)) <= largest).all():  # NaN is not
            raise ValueError(f"{field}: must be finite and at most {largest:g}")
    if (state.losses < 0.0).any():
        raise ValueError(f"losses: must be at least 0, received {state.losses.min()}")
    # When a name came to count it was one of that many, later ones found more, and now there are as many.
    n_counting = len(state.n_present)
    present = np.array((*state.n_present, n_counting))
    if (present[:-1] <= np.arange(n_counting)).any() or (np.diff(present) < 0).any():
        raise ValueError(f"n_present: must grow to the {n_counting} names that count")
    codes = np.arange(len(state.classes))
    if state.task == "classification" and not np.isin(state.waiting_targets, codes).all():
        raise ValueError(f"waiting_targets: must be numbers of {len(codes)} classes")
