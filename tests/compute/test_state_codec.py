from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.state_codec import decode_entity, encode_entity, encode_many
from compute.statistics import EMPTY, EntityColumns, score_and_learn, window_statistics
from tests.compute.test_statistics import arrays, streams


def filled(n_slots=5, n_features=3, n_panes=4, missing=0.2, n_events=60, seed=1):
    random = np.random.default_rng(seed)
    columns = EntityColumns(n_panes, 60.0, [f"f{i}" for i in range(n_features)], n_slots)
    matrix = random.normal(1e6, 1.0, (n_events, n_features))
    matrix[random.random(matrix.shape) < missing] = math.nan
    slots, panes = random.integers(0, n_slots, n_events), np.arange(n_events) // 10
    learnt, scored = score_and_learn(columns, slots, np.arange(n_events), panes, matrix)
    columns.assign(learnt)
    return columns, scored.watermark


def assert_equal_columns(one, other):
    for (name, left), right in zip(arrays(one).items(), arrays(other).values(), strict=True):
        exact = name not in ("pane_low", "window_low", "window_m2", "window_mean")
        np.testing.assert_allclose(left, right, rtol=0 if exact else 1e-12, atol=1e-12, err_msg=name)


@settings(max_examples=100, deadline=None)
@given(streams())
def test_what_is_stored_is_read_back(stream):
    n_panes, n_features, events = stream
    names = [f"f{i}" for i in range(n_features)]
    columns = EntityColumns(n_panes, 60.0, names, 4)
    slots, offsets, panes = (
        np.array([getattr(e, name) for e in events], np.int64) for name in ("slot", "offset", "pane")
    )
    matrix = np.array([e.values for e in events], float).reshape(len(events), n_features)
    learnt, _ = score_and_learn(columns, slots, offsets, panes, matrix)
    columns.assign(learnt)
    extras = [b"", b"x", b"\x00" * 100, b"alert"]
    stored = encode_many(columns, np.arange(4), extras)
    states = [decode_entity(value) for value in stored]
    assert [state.extra for state in states] == extras
    back = EntityColumns(n_panes, 60.0, names, 4)
    back.put(range(4), states)
    assert_equal_columns(columns, back)
    assert encode_many(back, np.arange(4), extras) == stored
    assert [encode_entity(columns, i, extras[i]) for i in range(4)] == stored


def test_scores_after_reading_back_are_those_without():
    columns, watermark = filled()
    back = EntityColumns(4, 60.0, ["f2"], 1)
    back.grow(5)
    back.put(range(5), [decode_entity(value) for value in encode_many(columns, np.arange(5))])
    order = [back.features.index(name) for name in columns.features]
    random = np.random.default_rng(2)
    slots, panes, matrix = random.integers(0, 5, 30), np.full(30, 6), random.normal(1e6, 1.0, (30, 3))
    _, scored = score_and_learn(columns, slots, np.arange(100, 130), panes, matrix, watermark)
    shuffled = np.empty_like(matrix)
    shuffled[:, order] = matrix
    _, again = score_and_learn(back, slots, np.arange(100, 130), panes, shuffled, watermark)
    np.testing.assert_allclose(again.mean[:, order], scored.mean, rtol=1e-14)
    np.testing.assert_allclose(again.stddev[:, order], scored.stddev, rtol=1e-12)


def test_features_without_values_and_empty_panes_are_not_stored():
    columns = EntityColumns(12, 60.0, [f"feature-{i}" for i in range(50)], 2)
    matrix = np.full((2, 50), math.nan)
    matrix[0, 3], matrix[1, :2] = 1.0, 2.0
    learnt, _ = score_and_learn(columns, np.arange(2), np.arange(2), np.array([5, 5]), matrix)
    columns.assign(learnt)
    one, two = encode_many(columns, np.arange(2))
    assert decode_entity(one).features == ("feature-3",)
    assert decode_entity(two).features == ("feature-0", "feature-1")
    assert len(one) == 52 + 2 + 9 + 8 + 40


def test_a_full_ring_of_four_features_takes_about_two_kilobytes():
    columns = EntityColumns(12, 60.0, ["temperature", "pressure", "current", "speed"], 1)
    learnt, _ = score_and_learn(columns, np.zeros(12, int), np.arange(12), np.arange(12), np.ones((12, 4)))
    columns.assign(learnt)
    assert len(encode_entity(columns, 0)) == 52 + 39 + 12 * 168  # header, names, panes


def test_a_stored_empty_entity_keeps_its_last_offset():
    columns = EntityColumns(3, 60.0, ["f"], 1)
    columns.last_offset[0] = 7
    state = decode_entity(encode_entity(columns, 0))
    assert (state.newest, state.last_offset, len(state.panes)) == (EMPTY, 7, 0)


def test_overflown_statistics_are_stored_as_they_are():
    columns = EntityColumns(3, 60.0, ["f"], 1)
    matrix = np.array([[1.7e308], [-1.7e308], [3.0]])
    learnt, _ = score_and_learn(columns, np.zeros(3, int), np.arange(3), np.zeros(3, int), matrix)
    columns.assign(learnt)
    state = decode_entity(encode_entity(columns, 0))
    assert (state.minimum[0, 0], state.maximum[0, 0]) == (-1.7e308, 1.7e308)


def test_state_of_another_window_is_refused():
    columns, _ = filled()
    state = decode_entity(encode_entity(columns, 0))
    with pytest.raises(ValueError, match=r"n_panes: the stored state must have 5 as configured, received 4"):
        EntityColumns(5, 60.0, ["f0"], 1).put([0], [state])
    with pytest.raises(ValueError, match=r"pane_seconds: the stored state must have 30.0"):
        EntityColumns(4, 30.0, ["f0"], 1).put([0], [state])


def test_nothing_encodes_to_nothing():
    assert encode_many(filled()[0], np.zeros(0, np.int64)) == []


def test_extras_must_fit_the_slots():
    with pytest.raises(ValueError, match="extras: must have 2 items as slots, received 1"):
        encode_many(filled()[0], np.arange(2), [b""])


def replaced(stored: bytes, at: int, form: str, value: object) -> bytes:
    return stored[:at] + struct.pack(form, value) + stored[at + struct.calcsize(form) :]


NAMES_AT, PANES_AT, SMALL, NUMBERS = 52, 64, 8, 8 + 24  # of an entity with features f0, f1, f2


@pytest.mark.parametrize(
    ("at", "form", "value", "message"),
    [
        (0, "<B", 1, "must begin with"),
        (2, "<B", 9, "must begin with"),
        (4, "<H", 0, "n_panes, pane_seconds: must be above 0"),
        (4, "<H", 1, "ages: must fall"),
        (6, "<H", 65535, "must have .* bytes"),
        (8, "<H", 65535, "must have .* bytes"),
        (12, "<I", 2**32 - 1, "must have .* bytes"),
        (16, "<I", 2**32 - 1, "must have .* bytes"),
        (20, "<d", math.nan, "pane_seconds: must be above 0"),
        (28, "<q", 2**60, "newest, seen: must be panes"),
        (36, "<q", -(2**60), "newest, seen: must be panes"),
        (44, "<q", -2, "last_offset: must be at least -1"),
        (NAMES_AT, "<H", 60000, "feature names: must end"),
        (NAMES_AT + 2, "<2s", b"f1", "different names"),
        (NAMES_AT + 2, "<2s", b"\xff\xff", "utf-8"),
        (PANES_AT, "<I", 0, "must have events"),
        (PANES_AT + 4, "<H", 9, "ages: must fall"),
        (PANES_AT + SMALL, "<I", 99, "no feature more values than events"),
        (PANES_AT + SMALL, "<I", 0, "must be 0 where there is no value"),
        (PANES_AT + SMALL + 12, "<f", math.nan, "low finite"),
        (PANES_AT + NUMBERS + 24, "<d", -1.0, "m2 must be at least 0"),
        (PANES_AT + NUMBERS + 48, "<d", 1e9, "minimum must be at most maximum"),
    ],
)
def test_a_field_out_of_bounds_is_refused(at, form, value, message):
    columns, _ = filled(missing=0.0)
    stored = encode_entity(columns, 0, b"extra")
    with pytest.raises(ValueError, match=message):
        decode_entity(replaced(stored, at, form, value))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_are_read_or_refused(data):
    columns, _ = filled(missing=0.3)
    stored = bytearray(encode_entity(columns, 1, b"extra"))
    for _ in range(data.draw(st.integers(0, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    stored = stored[: data.draw(st.sampled_from([len(stored), len(stored) - 1, 40, 60, 100]))]
    try:
        state = decode_entity(bytes(stored))
        back = EntityColumns(4, 60.0, [], 1)
        back.put([0], [state])
    except ValueError:
        return
    assert math.isfinite(window_statistics(back, 0)["n_events"])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(stored):
    with pytest.raises(ValueError, match="stored entity"):
        decode_entity(stored)
