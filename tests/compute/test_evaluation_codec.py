from __future__ import annotations

import json
import math
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.evaluation import Evaluation, merge_all
from compute.evaluation_codec import MAX_COUNT
from compute.varints import decode_varints, encode_varints
from tests.fuzz.amount import amount
from tests.fuzz.mutations import mutated

FRAME = struct.Struct("<2sBBIII")


def filled(task, classes=(), n_events=300, seed=5, max_scores=4096, n_panes=4):
    random = np.random.default_rng(seed)
    evaluation = Evaluation(task, n_panes, 60.0, classes, max_scores=max_scores)
    timestamps = random.uniform(0, 400, n_events)
    if task == "regression":
        labels = random.normal(size=n_events)
        evaluation.add(timestamps, labels, labels + random.normal(size=n_events), labels)
        return evaluation
    columns = classes or ("x", "y", "z")
    names = np.array(columns, object)
    chances = random.dirichlet(np.ones(len(columns)), n_events)
    labels = names[random.integers(0, len(columns), n_events)]
    evaluation.add(timestamps, labels, names[chances.argmax(axis=1)], chances[:, -1], chances, columns)
    return evaluation


FILLED = [
    filled("classification", ("0", "1")),
    filled("classification", ("é", "b", "c")),
    filled("classification", ("é", "b", "c"), max_scores=256),
    filled("classification"),
    filled("regression"),
    Evaluation("classification", 4, 60.0),
    Evaluation("regression", 4, 60.0),
]
STORED = [evaluation.encode() for evaluation in FILLED]


@pytest.mark.parametrize("evaluation", FILLED)
def test_what_is_stored_is_read_back(evaluation):
    stored = evaluation.encode()
    back = Evaluation.decode(stored)
    assert back.describe() == evaluation.describe()
    assert back.encode() == stored
    assert back.head == evaluation.head


def test_counting_goes_on_after_reading_back_as_without():
    one = filled("classification", ("0", "1"))
    back = Evaluation.decode(one.encode())
    for evaluation in (one, back):
        evaluation.add(np.array([420.0, 10.0]), ["0", "2"], ["1", "1"], np.array([0.7, 0.1]))
    assert back.encode() == one.encode()
    assert merge_all([one, back]).n_labels == 604


@pytest.mark.parametrize(
    ("classes", "n_bytes"),
    [(("0", "1"), 75_000), (tuple("abcdefg"), 75_000), (tuple(map(str, range(100))), 150_000)],
)
def test_what_is_stored_is_bounded_however_many_events_there_are(classes, n_bytes):
    random = np.random.default_rng(9)
    evaluation = Evaluation("classification", 12, 60.0, classes)
    names, sizes = np.array(classes, object), []
    for start in range(0, 1_200, 60):
        n = 2_000
        chances = random.dirichlet(np.ones(len(classes)), n)
        labels, predictions = names[random.integers(0, len(classes), n)], names[chances.argmax(axis=1)]
        evaluation.add(start + random.uniform(0, 60, n), labels, predictions, chances[:, -1], chances)
        sizes.append(len(evaluation.encode()))
    assert max(sizes) < n_bytes


def test_panes_without_labels_are_refused():
    evaluation = filled("classification", ("0", "1"))
    evaluation.panes[evaluation.newest - 1] = Evaluation(
        "classification", 4, 60.0, max_scores=512
    ).since_start
    with pytest.raises(ValueError, match="panes must have labels"):
        Evaluation.decode(evaluation.encode())


def test_a_smaller_bound_stores_less():
    sizes = [len(filled("classification", ("0", "1"), 20_000, max_scores=n).encode()) for n in (256, 4096)]
    assert 4 * sizes[0] < sizes[1]


def rewritten(stored, change):
    """Return stored bytes whose head, floats and numbers are changed, so that their lengths still fit."""
    *begin, head_bytes, floats_bytes, _ = FRAME.unpack_from(stored)
    numbers_at = FRAME.size + head_bytes + floats_bytes
    head = json.loads(stored[FRAME.size : FRAME.size + head_bytes])
    floats = np.frombuffer(stored[FRAME.size + head_bytes : numbers_at], "<f8").copy()
    numbers = decode_varints(stored[numbers_at:])
    head, floats, numbers = change(head, floats, numbers)
    parts = json.dumps(head).encode(), floats.tobytes(), encode_varints(numbers)
    return FRAME.pack(*begin, *map(len, parts)) + b"".join(parts)


def changed(name, value):
    def change(head, floats, numbers):
        of = {**head["of"], name: value} if name in head["of"] else head["of"]
        return {**head, "of": of, **({name: value} if name in head else {})}, floats, numbers

    return change


def number(at, value):
    def change(head, floats, numbers):
        numbers[at] = value
        return head, floats, numbers

    return change


def only_float(at, value):
    def change(head, floats, numbers):
        floats[at] = value
        return head, floats, numbers

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("n_panes", 0), "n_panes: must be between 1 and 1000, received 0"),
        (changed("n_panes", 10**9), "n_panes: must be between"),
        (changed("n_panes", 2), "a number must be at most 2, received 4"),
        (changed("pane_seconds", -1.0), "pane_seconds: must be above 0"),
        (changed("max_scores", 10**12), "max_scores: must be between"),
        (changed("task", "ranking"), "stored evaluation: head: "),
        (changed("classes", ["0", "0"]), "classes: must differ"),
        (changed("positive", "2"), "positive: must be one of"),
        (changed("names", ["1", "0"]), "names must differ and begin with classes"),
        (changed("names", ["0", "1", "1"]), "names must differ and begin with classes"),
        (changed("names", [str(i) for i in range(102)]), "stored evaluation: head: "),
        (changed("names", [str(i) for i in range(101)]), "names must differ and begin with classes"),
        (changed("newest", 2**60), "newest must be a pane"),
        (number(0, 0), "newest must be a pane"),
        (number(1, 0), "ages must fall"),
        (number(5, 5), "a number must be at most 4, received 5"),
        (number(6, 128 * 5), "cells must rise and be of 2 classes"),
        (number(7, 0), "cells must rise and be of 2 classes"),
        (number(10, 0), "cells must have labels"),
        (number(10, 2**60), "a number must be at most"),
        (number(14, 2**50), "a number must be at most 300"),  # losses
        (number(15, 0), "classes must rise and have bins"),  # events with scores
        (number(15, 299), "a class must have all 299 events"),
        (number(16, 64), "a number must be at most 63"),  # bits dropped
        (number(16, 63), "keys must rise within each class, and have 1 bits"),
        (number(19, 0), "classes must rise and have bins"),
        (number(20, 0), None),  # the lowest score, whatever it is
        (number(21, 0), "keys must rise within each class"),
        (number(21, 2**64 - 1), "keys must rise within each class"),
        (number(-1, MAX_COUNT), "a class must have all"),
        (only_float(0, -1.0), "losses cannot sum to -1.0"),
        (only_float(0, math.nan), "losses cannot sum to nan"),
        (only_float(0, 1e9), "losses cannot sum to 1000000000.0"),
        (
            lambda head, floats, numbers: (head, floats[1:], numbers),
            "1 floats for each tally needed, received 4",
        ),
        (lambda head, floats, numbers: (head, floats, numbers[:-1]), "more numbers needed"),
        (
            lambda head, floats, numbers: (head, floats, np.append(numbers, numbers[-1:])),
            "numbers needed, received",
        ),
    ],
)
def test_what_no_outcomes_lead_to_is_refused(change, message):
    stored = rewritten(STORED[0], change)
    if message is None:
        assert Evaluation.decode(stored).n_labels == 300
        return
    with pytest.raises(ValueError, match=message):
        Evaluation.decode(stored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (number(0, 3), "ages must fall"),
        (number(5, 0), "sums of 0 errors"),
        (number(6, 0), "sums of 0 errors"),
        (number(6, 301), "panes must have labels"),
        (only_float(0, -1.0), "sums of 300 errors cannot be"),
        (only_float(3, math.inf), "sums of 300 errors cannot be"),
        (only_float(4, -1.0), "sums of 300 errors cannot be"),
    ],
)
def test_sums_that_no_errors_lead_to_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Evaluation.decode(rewritten(STORED[4], change))


@pytest.mark.parametrize(
    "stored", [b"", b"NE\x01\x00" + bytes(8), b"NE\x02" + STORED[0][3:], b"NS" + STORED[0][2:]]
)
def test_other_bytes_are_refused(stored):
    with pytest.raises(ValueError, match="stored evaluation: must "):
        Evaluation.decode(stored)


@st.composite
def wrong_values(draw):
    """Return a stored evaluation with other bytes, or other numbers in their place."""
    stored = draw(st.sampled_from(STORED))
    if draw(st.booleans()):
        return draw(mutated(stored))

    def change(head, floats, numbers):
        for _ in range(draw(st.integers(1, 3))):
            odd = draw(st.sampled_from([0, 1, 2, 3, 63, 128, 300, 2**31, 2**53, 2**63, 2**64 - 1]))
            early = min(len(numbers) - 1, draw(st.sampled_from([30, 10**6])))
            if draw(st.booleans()):
                numbers[draw(st.integers(0, early))] = odd
            else:
                at = draw(st.integers(0, len(floats) - 1))
                floats[at] = draw(st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e308, math.inf, math.nan]))
        return head, floats, numbers

    return rewritten(stored, change)


@amount(300)
@given(st.one_of(wrong_values(), st.binary(max_size=100)))
def test_a_value_is_read_or_refused_in_one_line_and_never_asks_for_more_than_there_is(stored):
    tracemalloc.start()
    try:
        try:
            found = Evaluation.decode(stored)
        except ValueError as error:
            found, message = None, str(error)
        assert tracemalloc.get_traced_memory()[1] < 100_000 + 60 * len(stored)
    finally:
        tracemalloc.stop()
    if found is None:
        assert "\n" not in message
        return
    assert Evaluation.decode(found.encode()).encode() == found.encode()
    json.dumps(found.describe(), allow_nan=False)
    for evaluation in FILLED:
        if evaluation.head == found.head:
            merged = merge_all([evaluation, found])
            assert merged.n_labels == evaluation.n_labels + found.n_labels
            json.dumps(merged.describe(), allow_nan=False)
    if found.head.task == "classification":
        found.add(np.array([500.0]), ["0"], ["1"], np.array([0.5]))
