from __future__ import annotations

import math
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binomtest

from compute.evidence import log_e_value, mcnemar_p_value

counts = st.one_of(st.integers(0, 20), st.integers(0, 400))


def exact_e_value(wins: int, losses: int) -> Fraction:
    """By fractions: B(a, b) = 1 / (b C(a + b - 1, b)), 1 - I_1/2(a, b) = P(X < a) in a + b - 1 throws."""
    n = wins + losses
    beta = Fraction(1, (losses + 1) * comb(n + 1, losses + 1))
    lower = Fraction(sum(comb(n + 1, k) for k in range(wins + 1)), 2 ** (n + 1))
    return 2 ** (n + 1) * beta * lower


@given(counts, counts)
def test_the_evidence_is_that_of_exact_fractions(wins, losses):
    exact = exact_e_value(wins, losses)
    wanted = math.log(exact.numerator) - math.log(exact.denominator)
    assert log_e_value(wins, losses) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 1), (1, 3), (20, 10), (9, 30)])
def test_the_evidence_is_the_mean_likelihood_ratio(wins, losses):
    area, _ = quad(lambda p: (2 * p) ** wins * (2 * (1 - p)) ** losses, 0.5, 1.0)
    assert math.exp(log_e_value(wins, losses)) == pytest.approx(2.0 * area, rel=1e-9)


@given(counts, counts)
def test_a_fair_coin_leaves_the_evidence_where_it_is_on_average_and_a_worse_one_lowers_it(wins, losses):
    now = log_e_value(wins, losses)
    after_win, after_loss = log_e_value(wins + 1, losses), log_e_value(wins, losses + 1)
    assert 0.5 * math.exp(after_win - now) + 0.5 * math.exp(after_loss - now) == pytest.approx(1.0, rel=1e-9)
    assert after_win > now > after_loss


@pytest.mark.parametrize("scale", [1, 10, 10**3, 10**5])
def test_numbers_of_pairs_up_to_1e8_keep_their_digits(scale):
    # A step is exact to all digits; so is a sum of steps, from what fractions give for a thousand pairs.
    wins, losses = 520 * scale, 480 * scale
    steps = 0.5 * math.exp(log_e_value(wins + 1, losses) - log_e_value(wins, losses)) + 0.5 * math.exp(
        log_e_value(wins, losses + 1) - log_e_value(wins, losses)
    )
    assert steps == pytest.approx(1.0, abs=1e-6)
    # Laplace's method, whose error falls as 1 / n: the whole peak lies above 1/2.
    n, p = wins + losses, wins / (wins + losses)
    at_peak = wins * math.log(2 * p) + losses * math.log(2 * (1 - p))
    laplace = math.log(2.0) + at_peak + 0.5 * math.log(2 * math.pi * p * (1 - p) / n)
    if scale >= 10:
        assert log_e_value(wins, losses) == pytest.approx(laplace, abs=1.0 / scale + 1e-6)


@pytest.mark.parametrize(
    ("wins", "losses"),
    [(0, 1_100), (1_000, 10_000), (0, 10**8), (4 * 10**7, 6 * 10**7), (10**8, 0), (10**8, 10**8)],
)
def test_no_count_is_beyond_what_can_be_computed(wins, losses):
    found = log_e_value(wins, losses)
    assert math.isfinite(found)
    if losses > wins:
        # The weight is at 1/2, where the ratio falls as exp(-2 (losses - wins) (p - 1/2)).
        assert found == pytest.approx(-math.log(losses - wins), abs=2e-3)
    assert 0.0 <= mcnemar_p_value(wins, losses) <= 1.0


@given(counts, counts)
def test_the_p_value_is_that_of_the_exact_binomial_test(wins, losses):
    wanted = binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert mcnemar_p_value(wins, losses) == pytest.approx(wanted, rel=1e-9)


def crossing_probability(p: float, significance: float, n_pairs: int) -> float:
    """The exact probability that some prefix has evidence of 1 / significance, by all paths at once."""
    alive, crossed = np.array([1.0]), 0.0  # by number of wins
    for n in range(1, n_pairs + 1):
        after = np.zeros(n + 1)
        after[1:] += p * alive
        after[:-1] += (1 - p) * alive
        reached = np.array([log_e_value(wins, n - wins) >= -math.log(significance) for wins in range(n + 1)])
        crossed += after[reached].sum()
        alive = np.where(reached, 0.0, after)
    return crossed


@pytest.mark.parametrize("significance", [0.01, 0.05, 0.2])
def test_looking_after_every_pair_errs_no_more_often_than_promised(significance):
    assert 0.3 * significance < crossing_probability(0.5, significance, 300) <= significance
    assert crossing_probability(0.45, significance, 300) < 0.4 * significance


def test_a_real_difference_is_found():
    assert crossing_probability(0.6, 0.01, 500) > 0.85
    assert crossing_probability(0.75, 0.01, 100) > 0.95
