from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.events import DecodeLimits, decode_batch
from compute.label_reading import decode_labels
from compute.labels import LARGEST_NUMBER, MAX_NAME, canonical_class, finite_numbers, numeric_label


@pytest.mark.parametrize(
    "label", [True, 1, 1.0, "1", np.int64(1), np.float32(1.0), np.bool_(True), np.str_("1")]
)
def test_what_json_and_models_write_for_one_is_one_class(label):
    assert canonical_class(label) == "1"
    assert type(canonical_class(label)) is str


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (False, "0"),
        (-0.0, "0"),
        (-1, "-1"),
        (0.1, "0.1"),
        (10**20, "100000000000000000000"),
        (1e20, "100000000000000000000"),
        ("1.0", "1.0"),
        ("True", "True"),
        ("", ""),
        (" a ", " a "),
        ("grün", "grün"),
    ],
)
def test_numbers_are_named_by_value_and_strings_by_themselves(label, name):
    assert canonical_class(label) == name


@given(st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)))
def test_the_name_of_a_name_is_itself_and_can_be_stored(label):
    name = canonical_class(label)
    assert canonical_class(name) == name
    assert len(name) <= MAX_NAME
    assert name.encode().decode() == name


@given(
    st.integers(), st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-9, 9).map(float))
)
def test_numbers_have_one_name_just_when_they_are_equal(one, other):
    assert (canonical_class(one) == canonical_class(other)) == (one == other)


def test_long_names_stay_different():
    assert canonical_class("x" * 1000) != canonical_class("x" * 1001)
    assert canonical_class("x" * MAX_NAME) == "x" * MAX_NAME


@pytest.mark.parametrize(
    "label",
    [
        None,
        [1],
        {"a": 1},
        b"1",
        math.nan,
        math.inf,
        -math.inf,
        pytest.param(10**6000, id="huge"),
        1j,
        np.float64("nan"),
    ],
)
def test_what_is_no_class_is_refused_in_one_line(label):
    with pytest.raises(
        ValueError, match=r"^label: must be a string, boolean or finite number, received [^\n]*$"
    ):
        canonical_class(label)


@given(st.one_of(st.integers(-(10**60), 10**60), st.floats(-LARGEST_NUMBER, LARGEST_NUMBER)))
def test_a_number_is_its_own_label(label):
    assert numeric_label(label) == float(label)


@pytest.mark.parametrize(
    "label",
    [
        None,
        True,
        np.bool_(False),
        "3",
        "",
        math.nan,
        math.inf,
        1.7976931348623157e308,
        -2e60,
        10**61,
        pytest.param(10**400, id="huge"),
        pytest.param(-(10**6000), id="huger"),
        [1.0],
        np.inf,
    ],
)
def test_what_is_no_number_is_refused_in_one_line(label):
    with pytest.raises(
        ValueError, match=r"^label: must be a number from -1e\+60 to 1e\+60, received [^\n]*$"
    ):
        numeric_label(label)


@pytest.mark.parametrize("column", [[1.0, math.inf], [None], ["a"], np.array([math.nan])])
def test_a_column_with_what_is_no_number_is_refused(column):
    with pytest.raises(ValueError, match=r"\w"):
        finite_numbers("labels", column)


@given(
    st.one_of(
        st.text(max_size=300),
        st.integers(),
        st.integers(10**190, 10**210),
        st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_the_same_labels_are_taken_from_an_event_and_from_their_topic(label):
    event = json.dumps({"timestamp": 1, "features": {"a": 1}, "label": label}).encode()
    own = decode_batch([b"k"], [event], np.full(1, np.nan), limits=DecodeLimits(), now=1.0)
    record = json.dumps({"id": "events-0-0", "label": label}).encode()
    later = decode_labels([b"k"], [record], max_bytes=10_000)
    assert own.index.tolist() == [0]  # it is scored, whatever its label is
    assert list(own.labels.values()) == later.labels
    assert own.not_labels == [rejected.position for rejected in later.rejected]
