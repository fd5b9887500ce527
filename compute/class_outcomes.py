"""Labels, predictions and probabilities as the rows that a tally counts.

Owns what an outcome of a classifier amounts to: its cell of the confusion matrix, its logarithmic loss, and
the scores that rank it. What is counted of that is in `compute/class_tally.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.class_names import STRIDE, ClassNames
from compute.class_tally import ClassRows
from compute.moments import Flags, Floats
from compute.score_counts import score_keys

_EPSILON = float(np.finfo(np.float64).eps)
"""Probabilities are clipped to between this and 1 less it, as by scikit-learn's log_loss."""


def class_rows(
    names: ClassNames,
    labels: Sequence[str] | NDArray[Any],
    predictions: Sequence[str] | NDArray[Any],
    by_class: Floats | None,
    ranking: Floats | None,
    positive: int | None,
) -> ClassRows:
    """Return the outcomes of events.

    Parameters
    ----------
    names : ClassNames
        Which the classes of labels and predictions are added to.
    labels, predictions : sequences of n str
    by_class : ndarray, shape (n, k), float64, optional
        Probabilities of the first k classes of `names`; of others it is 0.
    ranking : ndarray, shape (n,), float64, optional
        Scores for one class; None: each class is ranked by its probabilities, if there are some.
    positive : int or None
        That class.

    Examples
    --------
    >>> rows = class_rows(ClassNames(["a", "b"]), ["b"], ["c"], np.array([[0.5, 0.5]]), None, None)
    >>> divmod(rows.cells[0].item(), STRIDE), rows.losses.round(3).tolist(), rows.owners.tolist()
    ((1, 2), [0.693], [0, 1, 2])
    """
    n_rows = len(labels)
    codes, predicted = names.codes(labels), names.codes(predictions)
    cells = codes * np.int64(STRIDE) + predicted
    losses = np.full(n_rows, np.nan)
    if by_class is not None:
        by_class = np.pad(by_class, ((0, 0), (0, len(names) - by_class.shape[1])))
        mine = by_class[np.arange(n_rows), codes]
        losses = -np.log(np.clip(mine, _EPSILON, 1.0 - _EPSILON))
    if ranking is not None:
        by_class, owners = ranking[:, None], np.array([positive], np.int64)
    elif by_class is None or names.overflowed:  # what became one class has no scores that could be merged
        by_class, owners = np.zeros((n_rows, 0)), np.zeros(0, np.int64)
    else:
        owners = np.arange(len(names))
    has_scores: Flags = np.logical_not(np.isnan(by_class).any(axis=1))
    return ClassRows(cells, losses, has_scores, owners, score_keys(by_class))


def probabilities_by_class(names: ClassNames, probabilities: Floats, columns: Sequence[str]) -> Floats:
    """Return probabilities in the order of the classes.

    Parameters
    ----------
    names : ClassNames
        Which the classes of the columns are added to.
    probabilities : ndarray, shape (n, k), float64
    columns : sequence of k str
        Several that are no longer told apart add up.

    Returns
    -------
    ndarray, shape (n, number of classes), float64

    Raises
    ------
    ValueError
        If the shape does not fit.

    Examples
    --------
    >>> probabilities_by_class(ClassNames(["a", "b", "c"]), np.array([[0.25, 0.75]]), ["c", "a"]).tolist()
    [[0.75, 0.0, 0.25]]
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != len(columns):
        raise ValueError(f"probabilities: shape (n, {len(columns)}) needed, received {probabilities.shape}")
    codes = names.codes(columns)
    by_class = np.zeros((len(probabilities), len(names)))
    for column, code in enumerate(codes.tolist()):
        by_class[:, code] += probabilities[:, column]
    return by_class
