"""Marks of labelled events: added, stored, read back, undone."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.label_marks import MAX_SPAN, LabelMarks, mark_of
from tests.fuzz.mutations import mutated


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.data())
def test_marks_are_those_of_a_dict_whatever_is_stored_between_and_the_last_can_be_undone(
    span: int, data: st.DataObject
) -> None:
    known: dict[int, int] = {}
    before = dict(known)
    marks = LabelMarks.new(span)
    for _ in range(data.draw(st.integers(0, 4))):
        free = [place for place in range(span) if place not in known]
        if not free:
            break
        places = sorted(data.draw(st.sets(st.sampled_from(free), min_size=1)))
        new = data.draw(st.lists(st.integers(1, 5), min_size=len(places), max_size=len(places)))
        before = dict(known)
        known.update(zip(places, new, strict=True))
        marks = marks.add(np.array(places), np.array(new, np.uint32))
        stored = marks.encode()
        marks = LabelMarks.decode(stored)
        assert marks.encode() == stored
    everywhere = np.arange(span)
    assert marks.known(everywhere).tolist() == [known.get(place, 0) for place in range(span)]
    undone = LabelMarks.decode(marks.undone().encode())
    assert undone.known(everywhere).tolist() == [before.get(place, 0) for place in range(span)]
    assert undone.undone().known(everywhere).tolist() == undone.known(everywhere).tolist()


def test_adding_changes_no_array_that_was_there() -> None:
    empty = LabelMarks.new(4)
    one = empty.add(np.array([1]), np.array([7]))
    two = one.add(np.array([2]), np.array([8]))
    assert [marks.known(np.arange(4)).tolist() for marks in (empty, one, two)] == [
        [0, 0, 0, 0],
        [0, 7, 0, 0],
        [0, 7, 8, 0],
    ]


def test_a_span_full_of_different_labels_is_kept() -> None:
    marks = LabelMarks.new(MAX_SPAN)
    for start in range(0, MAX_SPAN, 100):
        places = np.arange(start, min(start + 100, MAX_SPAN))
        marks = LabelMarks.decode(marks.add(places, places + 1).encode())
    assert marks.known(np.arange(MAX_SPAN)).tolist() == list(range(1, MAX_SPAN + 1))


def test_two_classes_take_a_byte_for_each_offset() -> None:
    marks = LabelMarks.new(1000).add(np.arange(1000), np.arange(1000) % 2 + 1)
    assert len(marks.add(np.zeros(0, np.int64), np.zeros(0, np.int64)).encode()) == 12 + 2 * 4 + 1000


def test_no_label_takes_no_byte() -> None:
    assert len(LabelMarks.new(1000).encode()) == 12


def test_no_label_has_the_mark_of_none() -> None:
    assert mark_of("") == 1
    assert mark_of("\ud800") > 0
    assert mark_of("1") != mark_of("0")


@pytest.mark.parametrize("span", [0, -1, MAX_SPAN + 1])
def test_a_span_out_of_bounds_is_refused(span: int) -> None:
    with pytest.raises(ValueError, match=f"span: must be from 1 to {MAX_SPAN}, received {span}"):
        LabelMarks.new(span)


STORED = LabelMarks.new(6).add(np.array([1, 4]), np.array([7, 8])).encode()


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(max_size=60), mutated(STORED), mutated(LabelMarks.new(6).encode())))
def test_any_bytes_are_read_or_refused(stored: bytes) -> None:
    try:
        marks = LabelMarks.decode(stored)
    except ValueError:
        return
    everywhere = np.arange(len(marks.codes))
    assert len(marks.undone().known(everywhere)) == len(marks.codes)
    again = marks.add(everywhere[:1], np.array([5]))
    assert LabelMarks.decode(again.encode()).known(everywhere[:1]).tolist() == [5]


@pytest.mark.parametrize(
    ("at", "form", "value", "message"),
    [
        (0, "<2s", b"XX", "must be of version 1"),
        (2, "<B", 2, "must be of version 1"),
        (3, "<B", 3, "must be of version 1"),
        (4, "<I", 0, "must be of version 1"),
        (4, "<I", MAX_SPAN + 1, "must be of version 1"),
        (4, "<I", 5, "must have 29 bytes, received 30"),
        (8, "<H", 3, "must have 34 bytes, received 30"),
        (10, "<H", 0, "must have 26 bytes, received 30"),
        (12 + 8 + 1, "<B", 3, "must be within their bounds"),
        (12 + 8 + 6, "<H", 6, "must be within their bounds"),
    ],
)
def test_a_field_out_of_bounds_is_refused(at: int, form: str, value: object, message: str) -> None:
    stored = bytearray(STORED)
    struct.pack_into(form, stored, at, value)
    with pytest.raises(ValueError, match=message):
        LabelMarks.decode(bytes(stored))
