"""How strongly pairs speak for one of two versions: events on which just one of them was right.

Owns the two tests, and how much evidence a challenger needs. Both tests leave out the pairs on which the
versions are even, and ask whether the others fall to one side as a fair coin would. Which pairs these are is
in `compute/comparison.py`.

Whoever looks at a p-value again and again, and stops as soon as it is small, sees a small one by chance
sooner or later. A rule that looks every few seconds needs evidence that is valid at any time: a test
martingale.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

LARGEST_LOG = 690.0
"""Evidence is cut at e**690, about 5e299, since JSON has no infinity."""


def mcnemar_p_value(n_wins: int, n_losses: int) -> float:
    """Return the probability of so uneven a count, or a more uneven one, from a fair coin.

    The exact two-sided test of McNemar (1947), which on errors of a regression is the sign test. Valid for
    one look, at a number of pairs fixed before; `log_e_value` is valid for any.

    Parameters
    ----------
    n_wins, n_losses : int
        Pairs that speak for the one and for the other.

    Examples
    --------
    >>> mcnemar_p_value(8, 2)
    0.109375
    >>> mcnemar_p_value(0, 0)
    1.0
    """
    if n_wins == n_losses:
        return 1.0
    fewer, more = sorted((n_wins, n_losses))
    # P(X <= fewer) of a binomial with n = fewer + more and p = 1/2.
    return min(1.0, 2.0 * float(special.betainc(more, fewer + 1.0, 0.5)))


def log_e_value(n_wins: int, n_losses: int) -> float:
    """Return the logarithm of the evidence for that wins are more frequent than losses.

    As long as wins are at most as frequent (each pair is a win with a probability of at most 1/2, whatever
    came before), the evidence, starting at 1, is a supermartingale: that it ever reaches 1/a, however often
    one looks, has a probability of at most a (Ville 1939). It is the likelihood of the pairs under a
    probability p of a win, over that under 1/2, in the mean over all p between 1/2 and 1 (Robbins 1970;
    always valid p-values, Johari, Koomen, Pekelis and Walsh 2022, are its inverse)::

        E = 2 * integral from 1/2 to 1 of (2p)^wins * (2(1 - p))^losses dp
          = 2^(n + 1) * B(wins + 1, losses + 1) * (1 - I_1/2(wins + 1, losses + 1))

    Parameters
    ----------
    n_wins, n_losses : int

    Examples
    --------
    >>> round(math.exp(log_e_value(1, 0)), 6), round(math.exp(log_e_value(0, 1)), 6)
    (1.5, 0.5)
    >>> math.exp(log_e_value(20, 2)) > 100
    True
    """
    upper = float(special.betainc(n_losses + 1.0, n_wins + 1.0, 0.5))  # without the 1 - I that cancels
    if upper < np.finfo(np.float64).tiny:
        # So many more losses that the integral's weight is all at 1/2, where it is that of an exponential.
        return -math.log(n_losses - n_wins)
    n_pairs = n_wins + n_losses
    beta = float(special.betaln(n_wins + 1.0, n_losses + 1.0))
    return (n_pairs + 1) * math.log(2.0) + beta + math.log(upper)


def needed_e_value(significance: float, number: int = 1) -> float:
    """Return the evidence that the n-th challenger of a champion needs: n (n + 1) / significance.

    Each of several tests has its own chance to err, and a champion may meet challengers for years. So the
    n-th one, in whatever order and however many at once, is tested at the level significance / (n (n + 1)):
    these add up to `significance` over all n there can ever be. That is then the bound of the probability
    that any challenger which is no better is ever found better than this champion, whatever the tests have
    to do with each other (alpha-spending, the online form of Bonferroni's correction; Tian and Ramdas 2021).

    Parameters
    ----------
    significance : float
        In (0, 1), for all challengers of a champion together.
    number : int
        From 1 on, given before the first pair was seen.

    Raises
    ------
    ValueError
        If either is out of bounds.

    Examples
    --------
    >>> [round(needed_e_value(0.01, number)) for number in (1, 2, 3, 10)]
    [200, 600, 1200, 11000]
    """
    if not 0 < significance < 1:
        raise ValueError(f"significance: must be between 0 and 1, received {significance}")
    if number < 1:
        raise ValueError(f"number: must be 1 or more, received {number}")
    return number * (number + 1) / significance
