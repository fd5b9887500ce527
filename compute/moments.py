"""Count, mean and m2 of groups of values, and how groups merge exactly.

Owns the numerics of the running statistics. It knows nothing of entities, panes or time.

The mean is kept in two parts: `mean` is the mean rounded to float64 and `low` what the rounding left out.
At 1e9 a float64 step is 1.2e-7, which is a lot for a feature whose standard deviation is 1e-3; with `low` the
difference of two means is exact there. A group without values has 0 in all four.

Squares of deviations above 1e154 overflow: m2 is then infinite or NaN, for that group alone. Squares of those
below 1e-162 are 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Moments(NamedTuple):
    """Statistics of k groups, one row each.

    Attributes
    ----------
    count, mean, low, m2 : ndarray, shape (k, n_features), float64
        Number of values, their mean (rounded, and the rest), and the sum of squared deviations from it.
    """

    count: Floats  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    mean: Floats
    low: Floats
    m2: Floats

    def take(self, rows: Integers) -> Moments:
        """Return the groups at `rows`."""
        return Moments(*(part.take(rows, axis=0) for part in self))


def no_moments(n_groups: int, n_features: int) -> Moments:
    """Return groups that hold no values.

    Examples
    --------
    >>> no_moments(1, 2).count.tolist()
    [[0.0, 0.0]]
    """
    return Moments(*np.zeros((4, n_groups, n_features)))


def summarise(
    values: Floats, starts: Integers, n_values: Integers, valid: Flags | None = None
) -> tuple[Moments, Floats, Floats]:
    """Return the moments, smallest and largest value of runs of rows.

    Sums run over deviations from the first value of the run (the shifted data algorithm, Chan, Golub and
    LeVeque 1983), so a large common level costs no digits.

    Parameters
    ----------
    values : ndarray, shape (n, n_features), float64
        Rows, the rows of a run being consecutive; NaN is a missing value.
    starts, n_values : ndarray, shape (k,), int64
        First row and number of rows of each run; no run is empty.
    valid : ndarray, shape (n, n_features), bool, optional
        Where values are present; None says everywhere.

    Returns
    -------
    Moments of shape (k, n_features), and two ndarrays of that shape: minimum and maximum, which are
    infinity and minus infinity where there is no value.

    Examples
    --------
    >>> values = np.array([[1.0], [3.0], [7.0]])
    >>> moments, low, high = summarise(values, np.array([0, 2]), np.array([2, 1]))
    >>> moments.mean.ravel().tolist(), moments.m2.ravel().tolist(), low.ravel().tolist()
    ([2.0, 7.0], [2.0, 0.0], [1.0, 7.0])
    """
    n_features = values.shape[1]
    first = first_values(values, starts, valid)
    deviations = np.empty((len(values), 2 * n_features))
    deviations[:, :n_features] = values - np.repeat(first, n_values, axis=0)
    if valid is None:
        count = np.repeat(n_values.astype(np.float64), n_features).reshape(len(starts), n_features)
        minimum = np.minimum.reduceat(values, starts, axis=0)
        maximum = np.maximum.reduceat(values, starts, axis=0)
    else:
        deviations[:, :n_features][~valid] = 0.0
        count = np.add.reduceat(valid.astype(np.float64), starts, axis=0)
        minimum = np.minimum.reduceat(np.where(valid, values, np.inf), starts, axis=0)
        maximum = np.maximum.reduceat(np.where(valid, values, -np.inf), starts, axis=0)
    np.square(deviations[:, :n_features], out=deviations[:, n_features:])
    sums = np.add.reduceat(deviations, starts, axis=0)
    shift = sums[:, :n_features] / np.maximum(count, 1.0)
    m2 = np.maximum(sums[:, n_features:] - sums[:, :n_features] * shift, 0.0)
    return Moments(count, *_two_parts(first, shift), m2), minimum, maximum


def merge(one: Moments, other: Moments) -> Moments:
    """Return the moments of the values of both, row by row.

    Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample
    variances", with the mean in two parts.

    Examples
    --------
    >>> starts, n_values = np.array([0]), np.array([2])
    >>> one, _, _ = summarise(np.array([[1.0], [3.0]]), starts, n_values)
    >>> other, _, _ = summarise(np.array([[5.0], [7.0]]), starts, n_values)
    >>> both = merge(one, other)
    >>> both.count.item(), both.mean.item(), both.m2.item()
    (4.0, 4.0, 20.0)
    """
    count = one.count + other.count
    share = other.count / np.maximum(count, 1.0)
    reference = np.where(one.count > 0, one.mean, other.mean)
    delta = (other.mean - reference) + (other.low - one.low)
    # Multiplied in this order: a count of 0 must win before delta is squared and perhaps overflows.
    m2 = one.m2 + other.m2 + delta * (delta * (one.count * share))
    return Moments(count, *_two_parts(reference, one.low + delta * share), m2)


def merge_by(parts: Moments, owner: Integers, n_owners: int) -> Moments:
    """Return the moments of all parts of each owner.

    Parameters
    ----------
    parts : Moments of shape (k, n_features)
    owner : ndarray, shape (k,), int64
        Which group each part belongs to, from 0 to `n_owners - 1`.
    n_owners : int

    Returns
    -------
    Moments of shape (n_owners, n_features)

    Examples
    --------
    >>> parts, _, _ = summarise(np.array([[1.0], [3.0], [7.0]]), np.array([0, 1, 2]), np.array([1, 1, 1]))
    >>> merge_by(parts, np.array([1, 0, 1]), n_owners=3).mean.ravel().tolist()
    [3.0, 4.0, 0.0]
    """
    merged = no_moments(n_owners, parts.count.shape[1])
    if not owner.size:
        return merged
    if (owner[1:] < owner[:-1]).any():
        order = np.argsort(owner, kind="stable")
        parts, owner = parts.take(order), owner.take(order)
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    n_parts = np.diff(np.r_[starts, len(owner)])
    count = np.add.reduceat(parts.count, starts, axis=0)
    # Any mean among the parts with values serves as reference: the first, or the largest if some have none.
    filled = parts.count > 0
    if filled.all():
        reference = parts.mean.take(starts, axis=0)
        away = parts.mean - np.repeat(reference, n_parts, axis=0)
        away += parts.low
    else:
        largest = np.maximum.reduceat(np.where(filled, parts.mean, -np.inf), starts, axis=0)
        reference = np.where(count > 0, largest, 0.0)
        away = np.where(filled, parts.mean - np.repeat(reference, n_parts, axis=0) + parts.low, 0.0)
    shift = np.add.reduceat(parts.count * away, starts, axis=0) / np.maximum(count, 1.0)
    away -= np.repeat(shift, n_parts, axis=0)
    m2 = np.add.reduceat(parts.m2 + away * (away * parts.count), starts, axis=0)
    for whole, part in zip(merged, (count, *_two_parts(reference, shift), m2), strict=True):
        whole[owner.take(starts)] = part
    return merged


def first_values(values: Floats, starts: Integers, valid: Flags | None = None) -> Floats:
    """Return the first value that is present in each run of rows, and 0 where none is.

    Examples
    --------
    >>> values = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, 5.0]])
    >>> first_values(values, np.array([0, 2]), ~np.isnan(values)).tolist()
    [[2.0, 1.0], [0.0, 5.0]]
    """
    if valid is None:
        return values.take(starts, axis=0)
    n_rows = len(values)
    rows = np.where(valid, np.arange(n_rows)[:, None], n_rows)
    first = np.minimum.reduceat(rows, starts, axis=0)
    found = np.take_along_axis(values, np.minimum(first, n_rows - 1), axis=0)
    return np.where(first < n_rows, found, 0.0)


def _two_parts(reference: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """Return `reference + shift` rounded, and what the rounding left out (Knuth's two-sum)."""
    total = reference + shift
    shifted = total - reference
    return total, (reference - (total - shifted)) + (shift - shifted)
