"""A champion and all that ever challenge it: how often chance promotes one, and what it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from compute.comparison import Comparison
from compute.evidence import log_e_value, needed_e_value

SIGNIFICANCE = 0.1
N_REIGNS = 1_500
N_CHALLENGERS = 12
N_AT_ONCE = 3
N_LABELS = 600
ACCURACY = 0.75


def least_wins(evidence: float, n_pairs: int) -> np.ndarray:
    """By number of pairs, how many must be wins for that evidence."""
    wins, found = 0, []
    for n in range(n_pairs + 1):
        while wins <= n and log_e_value(wins, n - wins) < math.log(evidence):
            wins += 1
        found.append(wins)
    return np.array(found)


def reigns(seed: int, accuracy: float = ACCURACY) -> np.ndarray:
    """Whether each challenger of each reign was ever found better, after whichever label.

    Challengers come three at a time. All of a time see the same labels and the same answers of the champion,
    so the luck of one is that of the others.
    """
    random = np.random.default_rng(seed)
    found = np.zeros((N_REIGNS, N_CHALLENGERS, 2), bool)
    whole, parts = least_wins(1 / SIGNIFICANCE, N_LABELS), {}
    for number in range(1, N_CHALLENGERS + 1):
        parts[number] = least_wins(needed_e_value(SIGNIFICANCE, number), N_LABELS)
    for i in range(N_CHALLENGERS):
        if i % N_AT_ONCE == 0:
            champion = random.random((N_REIGNS, N_LABELS)) < ACCURACY
        challenger = random.random((N_REIGNS, N_LABELS)) < accuracy
        wins = np.cumsum(challenger & ~champion, axis=1)
        pairs = np.cumsum(challenger ^ champion, axis=1)
        found[:, i, 0] = (wins >= parts[i + 1][pairs]).any(axis=1)
        found[:, i, 1] = (wins >= whole[pairs]).any(axis=1)
    return found


def most_by_chance(n: int, probability: float) -> int:
    return int(binom.ppf(0.999, n, probability))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_champion_is_rarely_replaced_by_any_of_its_challengers_that_is_no_better(seed):
    found = reigns(seed)
    n_false = int(found[:, :, 0].any(axis=1).sum())
    assert n_false <= most_by_chance(N_REIGNS, SIGNIFICANCE)
    assert n_false > 0  # else this would show nothing
    # Each at the whole level: far more of the champions fall to chance than the level says.
    assert found[:, :, 1].any(axis=1).sum() > 2 * most_by_chance(N_REIGNS, SIGNIFICANCE)


def test_the_same_bound_holds_for_those_that_are_there_at_once():
    found = reigns(4)[:, :N_AT_ONCE]
    assert found[:, :, 0].any(axis=1).sum() <= most_by_chance(N_REIGNS, SIGNIFICANCE)
    assert found[:, :, 1].any(axis=1).sum() > most_by_chance(N_REIGNS, SIGNIFICANCE)


def test_worse_challengers_are_promoted_more_rarely_still():
    assert reigns(5, accuracy=ACCURACY - 0.03)[:, :, 0].any(axis=1).mean() < 0.3 * SIGNIFICANCE


def test_better_challengers_are_found_whatever_their_number():
    found = reigns(6, accuracy=ACCURACY + 0.15)[:, :, 0].mean(axis=0)
    assert (found > 0.9).all()


def pairs_needed(evidence: float, share_of_wins: float) -> float:
    """Median of the pairs until that evidence, looked at after each."""
    n_pairs = 2_500
    random = np.random.default_rng(7)
    wins = np.cumsum(random.random((2_000, n_pairs)) < share_of_wins, axis=1)
    reached = wins >= least_wins(evidence, n_pairs)[1:]
    return float(np.median(np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, np.inf)))


@pytest.mark.parametrize(
    ("number", "at_most"), [(1, 1.2), (2, 1.5), (3, 1.7), (10, 2.2), (52, 3.0)], ids=lambda value: str(value)
)
def test_later_challengers_need_more_labels_but_not_many_times_as_many(number, at_most):
    alone = pairs_needed(1 / 0.01, 0.6)
    assert 1.0 < pairs_needed(needed_e_value(0.01, number), 0.6) / alone < at_most


def test_levels_of_all_challengers_there_can_ever_be_add_up_to_the_whole():
    levels = [1 / needed_e_value(0.05, number) for number in range(1, 10_000)]
    assert 0.0499 < sum(levels) < 0.05


def test_a_verdict_keeps_to_the_evidence_that_its_number_needs():
    for number in (1, 4):
        needed = least_wins(needed_e_value(SIGNIFICANCE, number), 40)
        for n in range(1, 41):
            for wins in (needed[n] - 1, needed[n]):
                if 0 <= wins <= n:
                    comparison = Comparison("classification")
                    labels = ["a"] * n
                    challenger = ["a"] * wins + ["b"] * (n - wins)
                    comparison.add(labels, ["b"] * wins + ["a"] * (n - wins), challenger)
                    better, evidence = comparison.verdict(0.0, SIGNIFICANCE, 0, number)
                    assert better == (wins >= needed[n]), evidence
