"""How far two counted distributions lie apart, and how likely chance alone would take them as far.

Owns the formulas. Which features are judged, and when, is in `compute/drift_watch.py`; what makes a drift in
`compute/drift.py`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc, kolmogorov

from compute.moments import Floats, Integers

N_BLOCKS = 20
"""Stretches of the reference whose differences tell how much events that follow each other are alike."""


def stability_index(reference: Integers, current: Integers) -> tuple[Floats, Integers]:
    """Return the population stability index, by bin: `(q - p) * ln(q / p)` for shares p before and q now.

    Siddiqi (2006), "Credit risk scorecards". It is the divergence of Jeffreys (1946), symmetric and additive
    over bins. Half an event is added to every bin that either side has filled: a bin that is new, or empty
    by now, counts for much but not for infinitely much.

    Parameters
    ----------
    reference, current : ndarray, shape (n_features, n_bins), int64
        Counts.

    Returns
    -------
    terms : ndarray, shape (n_features, n_bins), float64
        Their sum over bins is the index.
    n_filled : ndarray, shape (n_features,), int64
        Bins that have events on either side.

    Examples
    --------
    >>> terms, n_filled = stability_index(np.array([[500, 500, 0]]), np.array([[800, 200, 0]]))
    >>> terms.sum().round(2).item(), n_filled.tolist()
    (0.41, [2])
    """
    filled = reference + current > 0
    n_filled = filled.sum(axis=1)
    p, q = (
        np.where(filled, counts + 0.5, 1.0) / (counts.sum(axis=1) + 0.5 * n_filled).clip(0.5)[:, None]
        for counts in (reference, current)
    )
    return np.where(filled, (q - p) * np.log(q / p), 0.0), n_filled


def stability_p_value(index: Floats, n_filled: Integers, noise: Floats) -> Floats:
    """Return how likely an index is at least this large where nothing changed.

    Over its noise, `1/n + 1/m` for n and m independent events, the index is distributed as chi-squared with
    one degree of freedom less than there are bins (Yurdakul and Naranjo 2020, "Statistical properties of the
    population stability index").

    Examples
    --------
    >>> index, n_filled, noise = np.array([0.2, 0.2]), np.array([10, 10]), np.array([1 / 50, 1 / 500])
    >>> stability_p_value(index, n_filled, noise).round(4).tolist()
    [0.3505, 0.0]
    """
    degrees = n_filled - 1
    return np.where(degrees > 0, chdtrc(np.maximum(degrees, 1), index / noise), 1.0)


def largest_distance(reference: Integers, current: Integers) -> Floats:
    """Return the Kolmogorov-Smirnov distance of binned values: the largest gap of the shares up to an edge.

    Between two edges the gap may be larger, so the distance is too small rather than too large. It is 0 where
    one side has no values.

    Examples
    --------
    >>> largest_distance(np.array([[50, 50, 0]]), np.array([[2, 6, 2]])).round(2).tolist()
    [0.3]
    """
    before, now = (
        np.cumsum(counts, axis=1) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for counts in (reference, current)
    )
    both = reference.any(axis=1) & current.any(axis=1)
    return np.where(both, np.abs(now - before).max(axis=1, initial=0.0), 0.0)


def distance_p_value(distance: Floats, noise: Floats) -> Floats:
    """Return how likely a Kolmogorov-Smirnov distance is at least this large where nothing changed.

    The limit distribution of Kolmogorov (1933), for two samples after Smirnov (1948).

    Examples
    --------
    >>> distance_p_value(np.array([0.1, 0.1]), np.array([1 / 50, 1 / 500])).round(4).tolist()
    [0.6994, 0.0001]
    """
    return np.asarray(kolmogorov(distance / np.sqrt(noise)))


def excess_noise(blocks: Integers) -> Floats:
    """Return what stretches of events differ by beyond what independent events would.

    A sensor's values resemble the ones before, so n of them tell less than n independent ones. Tests for
    counts that take such for independent are put right by the design effect: the factor by which the
    variance of shares is larger than multinomial (Rao and Scott 1981, "The analysis of categorical data from
    complex sample surveys"). It is estimated here from differences of successive stretches (von Neumann
    1941), so that a slow cycle, which reference and window both go through, is not taken for noise. Values
    that stay alike for longer than a stretch are seen in part only.

    Parameters
    ----------
    blocks : ndarray, shape (n_blocks, n_features, n_bins), int64
        Counts in successive stretches, about as many events in each.

    Returns
    -------
    ndarray, shape (n_features,), float64
        To be added to `1/n` of one stretch; 0 for independent events.

    Examples
    --------
    >>> one, other = [[10, 0]], [[0, 10]]
    >>> excess_noise(np.array([one, other] * 10)).round(2).tolist()
    [1.9]
    >>> excess_noise(np.array([[[5, 5]]] * 20)).tolist()
    [0.0]
    """
    n_blocks = len(blocks)
    expected = blocks.sum(axis=0) / n_blocks
    squares = np.square(np.diff(blocks, axis=0)).sum(axis=0) / 2.0
    pearson = np.divide(squares, expected, out=np.zeros_like(expected), where=expected > 0).sum(axis=1)
    degrees = (n_blocks - 1) * ((expected > 0).sum(axis=1) - 1)
    effect = pearson / np.maximum(degrees, 1)
    return np.where(degrees > 0, np.maximum(effect - 1.0, 0.0) / expected.sum(axis=1).clip(1.0), 0.0)
