"""What a model is given: its ordered features, normalised or raw, and what happens where one is missing.

Owns the step from a partition's columns to a model's input matrix. Running the model is elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def model_inputs(
    features: Sequence[str],
    *,
    normaliser: str,
    missing: str,
    feature_names: Sequence[str],
    matrix: NDArray[np.float64],
    mean: NDArray[np.float64],
    z: NDArray[np.float64],
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Return a model's input matrix, and why rows cannot be scored.

    Parameters
    ----------
    features : sequence of str, length k
        The model's features in its order.
    normaliser : {"window", "none"}
        Whether the model takes normalised features or raw values.
    missing : {"reject", "mean", "nan"}
        What a missing feature becomes: a reason, the entity's mean in the window (0 when normalised), or NaN.
    feature_names : sequence of str, length n_features
        Names of the columns below.
    matrix, mean, z : ndarray, shape (n, n_features), float64
        Raw values (NaN is missing), the window's means, and normalised values.

    Returns
    -------
    inputs : ndarray, shape (n, k), float64
    reasons : dict of int to str
        By row, the feature that is missing; empty unless `missing` is "reject".

    Examples
    --------
    >>> matrix = np.array([[5.0, 1.0], [5.0, np.nan]])
    >>> inputs, reasons = model_inputs(
    ...     ["heat", "flow"], normaliser="none", missing="reject", feature_names=["flow", "heat"],
    ...     matrix=matrix, mean=matrix, z=matrix)
    >>> inputs[0].tolist(), reasons
    ([1.0, 5.0], {1: 'features: the model needs "heat", received none'})
    """
    column_of = {name: column for column, name in enumerate(feature_names)}
    columns = [column_of.get(name, -1) for name in features]
    # A feature that this partition never saw reads from a column of NaN behind the others.
    absent = np.full((len(matrix), 1), np.nan)
    values = np.hstack([matrix, absent]).take(columns, axis=1)
    is_missing = np.isnan(values)
    inputs = values if normaliser == "none" else np.hstack([z, absent]).take(columns, axis=1)
    reasons: dict[int, str] = {}
    if not is_missing.any():
        return inputs, reasons
    if missing == "reject":
        for row in np.flatnonzero(is_missing.any(axis=1)).tolist():
            name = features[int(np.argmax(is_missing[row]))]
            reasons[row] = f'features: the model needs "{name}", received none'
    elif missing == "mean":
        fallback = np.hstack([mean, absent]).take(columns, axis=1) if normaliser == "none" else 0.0
        inputs = np.where(is_missing, np.nan_to_num(fallback), inputs)
    return inputs, reasons
