from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.normalisation import normalise


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=True), min_size=3, max_size=3))
def test_z_is_bounded_or_missing_whatever_comes(numbers):
    matrix, mean, stddev = (np.array([[number]]) for number in numbers)
    z = normalise(matrix, mean, np.abs(stddev))[0, 0]
    assert math.isnan(z) if math.isnan(numbers[0]) else abs(z) <= 100


def test_a_constant_that_jumps_goes_to_the_limit_and_rounding_noise_does_not():
    matrix = np.array([[0.1, np.nextafter(0.1, 1), 0.2, -5.0]])
    z = normalise(matrix, np.full((1, 4), 0.1), np.zeros((1, 4)))[0]
    assert z[0] == 0
    assert abs(z[1]) < 0.5
    assert z[2:].tolist() == [100, -100]


def test_tiny_features_keep_their_scale():
    z = normalise(np.array([[3e-9]]), np.array([[1e-9]]), np.array([[1e-9]]))
    np.testing.assert_allclose(z, 2.0)


def test_normalise_does_not_change_its_arguments():
    arrays = [np.array([[1.0, np.nan]]), np.array([[np.nan, 1.0]]), np.array([[np.nan, 0.0]])]
    before = [array.copy() for array in arrays]
    normalise(*arrays)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
