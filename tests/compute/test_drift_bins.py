from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compute.drift_bins import N_BINS, N_EDGES, count_bins, find_edges

VALUES = st.one_of(
    st.just(math.nan), st.sampled_from([0.0, 1.0, 2.0]), st.floats(allow_nan=False, allow_infinity=False)
)
MATRICES = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=40), elements=VALUES
)


def counts_of(values, edges):
    return count_bins(np.array([values], float), edges, np.array([0]))[0, 0].tolist()


def test_each_bin_of_distinct_values_holds_a_tenth():
    values = np.random.default_rng(1).permutation(1000) * 1.0
    assert counts_of(values, find_edges(values[None, :])) == [100] * 10


@pytest.mark.parametrize("value", [0.0, -7.5, 1e300, 1e-300, np.finfo(float).max, -np.finfo(float).max])
def test_a_constant_has_a_bin_of_its_own_whichever_way_it_changes(value):
    edges = find_edges(np.full((1, 50), value))
    same = counts_of([value], edges)
    for other in (math.nextafter(value, -math.inf), math.nextafter(value, math.inf)):
        if np.isfinite(other):
            assert counts_of([other], edges) != same


def test_each_frequent_value_has_a_bin_of_its_own():
    for values in ([1.0, 2.0, 5.0], [1.0, 2.0, 5.0, 7.0, 8.0]):
        edges = find_edges(np.repeat([values], 100, axis=1))
        found = [counts_of([value], edges).index(1) for value in (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 6.0)]
        assert found == sorted(set(found))


def test_a_feature_without_values_has_one_bin():
    edges = find_edges(np.full((1, 9), math.nan))
    assert counts_of([-1e300, 0.0, math.nan, 1e300], edges) == [3] + [0] * 9


def test_nothing_has_edges_and_counts_of_no_features():
    assert find_edges(np.zeros((0, 5))).shape == (0, N_EDGES)
    assert count_bins(np.zeros((0, 5)), np.zeros((0, N_EDGES)), np.array([0, 2])).shape == (2, 0, N_BINS)
    assert count_bins(np.zeros((2, 0)), np.zeros((2, N_EDGES)), np.array([0, 0])).sum() == 0


@given(MATRICES, MATRICES, st.data())
def test_counts_are_those_of_the_naive_version(reference, values, data):
    n_features = min(len(reference), len(values))
    reference, values = reference[:n_features], values[:n_features]
    edges = find_edges(reference)
    assert (edges[:, 1:] >= edges[:, :-1]).all()
    n_events = values.shape[1]
    cuts = sorted(data.draw(st.lists(st.integers(0, n_events), max_size=4)))
    counts = count_bins(values, edges, np.array([0, *cuts]))
    for run, (start, end) in enumerate(zip([0, *cuts], [*cuts, n_events], strict=True)):
        for feature in range(n_features):
            expected = [0] * N_BINS
            for value in values[feature, start:end]:
                if not math.isnan(value):
                    expected[sum(edge < value for edge in edges[feature])] += 1
            assert counts[run, feature].tolist() == expected
