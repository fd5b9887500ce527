from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compute.drift_bins import count_bins, find_edges
from compute.drift_measures import (
    distance_p_value,
    excess_noise,
    largest_distance,
    stability_index,
    stability_p_value,
)

COUNTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=12)


def naive_index(before, now):
    filled = [(b, n) for b, n in zip(before, now, strict=True) if b + n]
    index = 0.0
    for b, n in filled:
        p = (b + 0.5) / (sum(before) + 0.5 * len(filled))
        q = (n + 0.5) / (sum(now) + 0.5 * len(filled))
        index += (q - p) * math.log(q / p)
    return index, len(filled)


@given(COUNTS)
def test_the_index_is_that_of_the_naive_version_and_symmetric(counts):
    before, now = (np.array(part)[None, :] for part in zip(*counts, strict=True))
    terms, n_filled = stability_index(before, now)
    index, n_expected = naive_index(before[0].tolist(), now[0].tolist())
    assert terms.sum() == pytest.approx(index, abs=1e-12)
    assert n_filled.tolist() == [n_expected]
    assert (terms >= 0).all()
    np.testing.assert_allclose(stability_index(now, before)[0], terms)


def test_the_index_of_a_shift_is_its_square_in_standard_deviations():
    random = np.random.default_rng(1)
    before = random.normal(size=(1, 100_000))
    edges = find_edges(before)
    reference = count_bins(before, edges, np.array([0]))[0]
    for shift, expected in ((0.5, 0.25), (1.0, 0.94)):  # by bins a little less: 1.0 loses 6%
        current = count_bins(before + shift, edges, np.array([0]))[0]
        assert stability_index(reference, current)[0].sum() == pytest.approx(expected, rel=0.05)


def drawn(n, m, weights, seed, n_pairs=4000):
    random = np.random.default_rng(seed)
    return random.multinomial(n, weights, n_pairs), random.multinomial(m, weights, n_pairs)


@pytest.mark.parametrize(("n", "m"), [(500, 100), (1000, 600), (1000, 50_000)])
@pytest.mark.parametrize("weights", [[0.1] * 10, [0.9, 0.05, 0.05], [0.5, 0.3, 0.1, 0.05, 0.03, 0.02]])
def test_p_values_of_the_index_are_uniform_without_a_change(n, m, weights):
    terms, n_filled = stability_index(*drawn(n, m, weights, seed=n + m))
    p_values = stability_p_value(terms.sum(axis=1), n_filled, np.full(len(terms), 1 / n + 1 / m))
    assert (p_values <= 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert (p_values <= 0.001).mean() <= 0.003


def test_one_bin_tells_nothing():
    terms, n_filled = stability_index(np.array([[10, 0], [0, 0]]), np.array([[900, 0], [0, 0]]))
    assert terms.sum() == 0
    assert stability_p_value(terms.sum(axis=1), n_filled, np.array([0.1, 0.1])).tolist() == [1.0, 1.0]


@given(COUNTS)
def test_the_distance_is_that_of_scipy_on_the_same_bins(counts):
    before, now = (np.array(part) for part in zip(*counts, strict=True))
    distance = largest_distance(before[None, :], now[None, :])[0]
    if not before.any() or not now.any():
        assert distance == 0
        return
    bins = np.arange(len(before))
    expected = stats.ks_2samp(np.repeat(bins, before), np.repeat(bins, now), method="asymp").statistic
    assert distance == pytest.approx(expected, abs=1e-12)


def test_p_values_of_the_distance_are_too_large_rather_than_too_small():
    before, now = drawn(1000, 600, [0.1] * 10, seed=3)
    noise = np.full(len(before), 1 / 1000 + 1 / 600)
    p_values = distance_p_value(largest_distance(before, now), noise)
    assert 0.01 < (p_values <= 0.05).mean() <= 0.05
    assert distance_p_value(np.array([0.05]), np.array([1 / 400]))[0] == stats.kstwobign.sf(1.0)


def blocks_of(values, n_blocks=20):
    edges = find_edges(values[None, :])
    return count_bins(values[None, :], edges, len(values) * np.arange(n_blocks) // n_blocks)


def test_independent_events_have_no_excess_noise():
    random = np.random.default_rng(1)
    found = [excess_noise(blocks_of(random.normal(size=1000)))[0] for _ in range(200)]
    assert np.mean(found) < 0.1 / 50  # of what 50 events of a block have by chance


def test_excess_noise_puts_the_tests_of_events_that_are_alike_right():
    # Runs of 5 equal values: 1,000 events tell as much as 200.
    random = np.random.default_rng(2)
    p_values, without = [], []
    for _ in range(300):
        values = np.repeat(random.normal(size=400), 5)
        before, now = values[:1000], values[1000:]
        edges = find_edges(before[None, :])
        reference, current = (count_bins(part[None, :], edges, np.array([0]))[0] for part in (before, now))
        terms, n_filled = stability_index(reference, current)
        noise = 2 / 1000 + 2 * excess_noise(blocks_of(before)) / 20
        p_values.append(stability_p_value(terms.sum(axis=1), n_filled, noise)[0])
        without.append(stability_p_value(terms.sum(axis=1), n_filled, np.array([2 / 1000]))[0])
    assert np.mean(np.array(without) <= 0.001) > 0.7
    assert np.mean(np.array(p_values) <= 0.001) <= 0.02
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.04)


def test_a_slow_cycle_is_not_taken_for_noise():
    random = np.random.default_rng(3)
    cycle = np.sin(2 * np.pi * np.arange(1000) / 1000) + random.normal(size=1000)
    assert excess_noise(blocks_of(cycle))[0] < 0.5 / 50


def test_a_constant_has_no_excess_noise():
    assert excess_noise(np.full((20, 1, 3), [50, 0, 0])).tolist() == [0.0]
    assert excess_noise(np.zeros((20, 1, 3), int)).tolist() == [0.0]
