from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.drift_reference import MAX_SAMPLE, ReferenceSample, stays


def sampled(n_events, cuts=(), columns=None):
    columns = np.arange(n_events * 1.0)[None, :] if columns is None else columns
    sample = ReferenceSample(len(columns))
    for part in np.split(columns, sorted(cuts), axis=1):
        sample.add(part)
    return sample


@given(st.lists(st.integers(0, 5000), max_size=5))
def test_any_split_gives_the_same_sample(cuts):
    one, other = sampled(5000), sampled(5000, cuts)
    assert (one.n_events, one.level) == (other.n_events, other.level)
    np.testing.assert_array_equal(one.positions, other.positions)
    np.testing.assert_array_equal(one.rows, other.rows)


@pytest.mark.parametrize("n_events", [0, 1, 999, 1000, 1001, 2500, 20_000, 300_000])
def test_about_half_of_the_largest_sample_or_more_is_kept(n_events):
    sample = sampled(n_events)
    assert len(sample.rows) == n_events if n_events <= MAX_SAMPLE else 420 < len(sample.rows) <= MAX_SAMPLE
    np.testing.assert_array_equal(sample.rows[:, 0], sample.positions)


def test_the_sample_is_even():
    positions = sampled(300_000).positions
    parts = np.bincount(positions // 30_000)
    assert parts.max() < 2 * parts.min()


@pytest.mark.parametrize("n_entities", [2, 3, 8, 64])
def test_sensors_that_take_turns_are_all_in_the_sample(n_entities):
    shares = np.bincount(sampled(100_000).positions % n_entities, minlength=n_entities)
    assert shares.max() < 4 * max(shares.min(), 1)


def test_the_hash_is_splitmix64():
    def mixed(position):
        bits = position * 0x9E3779B97F4A7C15 % 2**64
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
        return bits ^ (bits >> 31)

    assert mixed(1) == 0xE220A8397B1DCDAF  # the first number of the generator with seed 0
    positions = np.array([*range(1000), 2**40, 2**53])
    for level in (1, 3, 10):
        expected = [mixed(position) % 2**level == 0 for position in positions.tolist()]
        assert stays(positions, level).tolist() == expected


def test_the_reference_has_the_moments_of_the_values_that_are_present():
    random = np.random.default_rng(1)
    columns = random.normal([[1e9], [0.0]], [[1e-3], [5.0]], (2, 500))
    columns[random.random(columns.shape) < 0.3] = np.nan
    reference = sampled(500, columns=columns).freeze()
    np.testing.assert_allclose(reference.mean, np.nanmean(columns, axis=1))
    np.testing.assert_allclose(reference.stddev, np.nanstd(columns, axis=1))
    assert reference.counts.sum(axis=1).tolist() == (~np.isnan(columns)).sum(axis=1).tolist()
    assert (reference.n_events, reference.n_sampled) == (500, 500)


@pytest.mark.filterwarnings("error")
def test_odd_columns_have_a_reference():
    columns = np.array([[math.nan] * 4, [7.0] * 4, [-1.7e308, 1.7e308, 1.7e308, 0.0], [1e-320] * 4])
    reference = sampled(4, columns=columns).freeze()
    assert reference.counts.sum(axis=1).tolist() == [0, 4, 4, 4]
    assert reference.mean[:2].tolist() == [0.0, 7.0]
    assert reference.stddev[:2].tolist() == [0.0, 0.0]
    assert np.isfinite([reference.mean, reference.stddev, reference.noise]).all()


def test_a_sample_that_is_widened_lacks_the_values_from_before():
    sample = sampled(3)
    sample.widen(2)
    sample.add(np.array([[3.0], [30.0]]))
    np.testing.assert_array_equal(sample.rows[:, 1], [math.nan, math.nan, math.nan, 30.0])
