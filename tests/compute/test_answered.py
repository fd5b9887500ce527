"""Answers as columns: joined, parted, stored and read back."""

from __future__ import annotations

import json
import math
import struct
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.answered import Answered, VersionAnswers, class_indices, concat
from compute.answered_format import StoredBlock, decode_answered, encode_answered, find_events
from tests.fuzz.mutations import mutated

NUMBERS = st.one_of(
    st.floats(width=32), st.floats(), st.sampled_from([math.nan, math.inf, -0.0, 1e300, 5e-324, 0.1])
)
IDENTITIES = [
    ("pump", "486b91a12a42c0af", "champion", "classification", ("calm", "odd"), 1, True),
    ("pump", "00000000000000ab", "challenger", "classification", ("a", "b", "c"), 2, True),
    ("pump", "00000000000000ab", "challenger", "classification", ("a", "b", "c"), None, True),
    ("detector", "builtin-1", "built-in", "classification", ("0", "1"), 1, False),
    ("pump", "11", "former", "regression", (), None, False),
    ("é", "online", "online", "classification", tuple(str(i) for i in range(200)), 0, False),
]


def columns(draw: Any, n: int, elements: Any) -> Any:
    return np.array(draw(st.lists(elements, min_size=n, max_size=n)), np.float64)


@st.composite
def versions(draw: Any, n: int) -> tuple[VersionAnswers, ...]:
    found = []
    for identity in draw(st.lists(st.sampled_from(IDENTITIES), unique=True, max_size=4)):
        *about, classes, positive, has_probabilities = identity
        scores, probabilities = columns(draw, n, NUMBERS), None
        if classes:
            index = st.integers(-1, len(classes) - 1)
            predictions = np.array(draw(st.lists(index, min_size=n, max_size=n)), np.int32)
        else:
            predictions = columns(draw, n, NUMBERS)
        if has_probabilities:
            n_numbers = n * len(classes)
            probabilities = columns(draw, n_numbers, NUMBERS).reshape(n, len(classes))
            if positive is not None and draw(st.booleans()):
                probabilities[:, positive] = scores
        found.append(VersionAnswers(*about, classes, positive, scores, predictions, probabilities))
    return tuple(found)


@st.composite
def runs(draw: Any, first: int | None = None, min_size: int = 1) -> Answered:
    n = draw(st.integers(min_size, 5))
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 900, 2**31]), min_size=n, max_size=n))
    start = draw(st.sampled_from([0, 7, 2**62 - 2**35])) if first is None else first
    names = draw(st.sampled_from([None, (), ("heat",), ("heat", "flow"), ("flow", "é")]))
    inputs = None
    if names is not None:
        small = st.one_of(st.floats(width=32), st.just(math.nan))
        inputs = columns(draw, n * len(names), small).astype(np.float32).reshape(n, len(names))
    return Answered(
        start + np.cumsum(gaps) - gaps[0] if n else np.zeros(0, np.int64),
        columns(draw, n, NUMBERS),
        columns(draw, n, st.floats(0, 2e9)),
        np.array(draw(st.lists(st.integers(0, 2**32 - 1), min_size=n, max_size=n)), np.uint32),
        draw(versions(n)),
        inputs,
        names or (),
    )


def assert_same(one: Answered, other: Answered) -> None:
    for name in ("offsets", "timestamps", "record_times", "key_crcs", "inputs"):
        left, right = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(left, right)
        assert (left is None) == (right is None)
        assert left is None or left.dtype == right.dtype
    assert one.feature_names == other.feature_names
    assert [version.identity for version in one.versions] == [version.identity for version in other.versions]
    for left, right in zip(one.versions, other.versions, strict=True):
        for name in ("scores", "predictions", "probabilities"):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
        assert left.predictions.dtype == right.predictions.dtype
        assert left.scores.dtype == right.scores.dtype == np.float64


def rows_of(run: Answered) -> list[dict[str, Any]]:
    """One dict an event, with what is there and nothing else."""
    rows = []
    for i, offset in enumerate(run.offsets.tolist()):
        row = {"offset": offset, "times": (run.timestamps[i], run.record_times[i]), "key": run.key_crcs[i]}
        if run.inputs is not None:
            row.update({name: run.inputs[i, j] for j, name in enumerate(run.feature_names)})
        for version in run.versions:
            if version.has_answer[i]:
                matrix = version.probabilities
                told = None if matrix is None else matrix[i].tolist()
                row[version.identity] = (version.scores[i], version.predictions[i], told)
        rows.append(row)
    return rows


def without_missing(rows: list[dict[str, Any]]) -> str:
    present = [
        {str(name): value for name, value in row.items() if not (np.isscalar(value) and value != value)}
        for row in rows
    ]
    return json.dumps(present, default=str, sort_keys=True)


@settings(max_examples=300, deadline=None)
@given(runs())
def test_what_is_stored_is_read_back_to_the_last_bit(run: Answered) -> None:
    if run.offsets[-1] - run.offsets[0] >= 2**32:
        with pytest.raises(ValueError, match="less than 2"):
            encode_answered(run)
        return
    stored = encode_answered(run)
    assert_same(decode_answered(stored), run)
    assert encode_answered(decode_answered(stored)) == stored


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_runs_that_are_joined_hold_what_each_held(data: st.DataObject) -> None:
    parts, first = [], 0
    for _ in range(data.draw(st.integers(0, 4))):
        parts.append(data.draw(runs(first, min_size=0)))
        first = int(parts[-1].offsets.max(initial=first)) + 1
    whole = concat(parts)
    whole.check()
    every = [row for part in parts for row in rows_of(part)]
    assert without_missing(rows_of(whole)) == without_missing(every)
    chosen = data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    rows = np.flatnonzero(np.array(chosen, np.bool_))
    some = whole.take(rows)
    some.check()
    assert without_missing(rows_of(some)) == without_missing([every[row] for row in rows.tolist()])


def test_one_run_is_joined_without_a_copy() -> None:
    run = binary(4)
    assert concat([run]) is run


def test_no_runs_are_no_events() -> None:
    assert (len(concat([])), concat([]).versions, concat([]).inputs) == (0, (), None)


def test_versions_that_change_their_role_are_two() -> None:
    before, after = binary(3), binary(3, first_offset=3)
    former = replace(after.versions[0], role="former")
    whole = concat([before, replace(after, versions=(former,))])
    assert [version.role for version in whole.versions] == ["champion", "former"]
    first, second = [True] * 3 + [False] * 3, [False] * 3 + [True] * 3
    assert [version.has_answer.tolist() for version in whole.versions] == [first, second]


def binary(n: int, n_versions: int = 1, n_features: int = 0, first_offset: int = 0) -> Answered:
    """Return what ONNX answers: float32, as float64."""
    rng = np.random.default_rng(first_offset + n)
    found = []
    for number in range(n_versions):
        odd = rng.random(n, np.float32)
        probabilities = np.stack([1 - odd, odd], axis=1).astype(np.float64)
        predictions = (odd > 0.5).astype(np.int32)
        role = "challenger" if number else "champion"
        found.append(
            VersionAnswers(
                *("fraud", f"486b91a12a42c0a{number}", role, "classification"),
                *(("0", "1"), 1, probabilities[:, 1].copy(), predictions, probabilities),
            )
        )
    times = 1.79e9 + np.arange(n) / 1000
    inputs = rng.normal(size=(n, n_features)).astype(np.float32) if n_features else None
    names = tuple(f"feature-{i}" for i in range(n_features))
    crcs = rng.integers(0, 2**32, n, np.uint32)
    return Answered(first_offset + np.arange(n), times - 0.5, times, crcs, tuple(found), inputs, names)


def test_a_binary_answer_takes_nine_bytes_and_its_event_24() -> None:
    one, two = len(encode_answered(binary(4000))), len(encode_answered(binary(4000, n_versions=2)))
    assert one / 4000 < 24 + 9 + 0.1
    assert (two - one) / 4000 < 9 + 0.1
    with_inputs = len(encode_answered(binary(4000, n_features=6)))
    assert (with_inputs - one) / 4000 < 6 * 4 + 0.1


def test_numbers_beyond_float32_are_kept_in_full() -> None:
    run = binary(3)
    exact = replace(run.versions[0], scores=np.array([0.1, 1e300, math.nan]))
    run = replace(run, versions=(exact,))
    assert_same(decode_answered(encode_answered(run)), run)


def test_classes_of_predictions_are_found_whatever_their_type() -> None:
    assert class_indices([1, 0, None, 7], (0, 1)).tolist() == [1, 0, -1, -1]
    assert class_indices(np.array([0, 1, 1]), (0, 1)).tolist() == [0, 1, 1]
    assert class_indices(["odd", "calm", None], ("calm", "odd")).tolist() == [1, 0, -1]
    assert class_indices([], ("calm",)).dtype == np.int32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([2, 2, 3])}, "offsets: must ascend"),
        ({"offsets": np.array([-1, 2, 3])}, "offsets: must ascend"),
        ({"record_times": np.array([1.0, math.nan, 2.0])}, "record_times: must be finite"),
        ({"timestamps": np.zeros(2)}, r"timestamps: must have the shape \(3,\), received \(2,\)"),
        ({"inputs": np.zeros((3, 2), np.float32)}, r"inputs: must have the shape \(3, 0\)"),
    ],
)
def test_columns_must_fit_each_other(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_answered(replace(binary(3), **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros(2)}, "scores of 486b91a12a42c0a0: must have the shape"),
        ({"probabilities": np.zeros((3, 3))}, "probabilities of .* must have the shape"),
        ({"predictions": np.zeros(3)}, "predictions of .* must be indices"),
        ({"predictions": np.array([0, 1, 2], np.int32)}, "predictions of .* below 2"),
        ({"predictions": np.array([0, 1, -2], np.int32)}, "predictions of .* at least -1"),
        ({"positive": 2}, "positive of .* must be one of 2 classes, received 2"),
        ({"classes": (), "probabilities": None, "positive": None}, "predictions of .* must be indices"),
    ],
)
def test_columns_of_a_version_must_fit_it(change: dict[str, Any], message: str) -> None:
    run = binary(3)
    with pytest.raises(ValueError, match=message):
        encode_answered(replace(run, versions=(replace(run.versions[0], **change),)))


def test_no_events_are_not_stored() -> None:
    with pytest.raises(ValueError, match="offsets: must be one or more"):
        encode_answered(binary(3).take(slice(0, 0)))


STORED = [
    encode_answered(run)
    for run in (binary(3, 2, 2), binary(1), concat([binary(2), binary(2, 2, 1, first_offset=5)]))
]
ABOUTS = st.one_of(
    st.binary(max_size=40),
    st.recursive(
        st.none() | st.booleans() | st.integers(-2, 300) | st.sampled_from(["i1", "i4", "f4", "f8", "", "x"]),
        lambda inner: st.lists(inner, max_size=10),
        max_leaves=25,
    ).map(lambda found: json.dumps(found).encode()),
)


@st.composite
def wrong(draw: Any) -> bytes:
    stored = bytearray(draw(st.sampled_from(STORED)))
    kind = draw(st.integers(0, 3))
    if kind == 0:  # numbers in front
        at, form = draw(st.sampled_from([(4, "<I"), (8, "<I"), (12, "<q")]))
        struct.pack_into(form, stored, at, draw(st.sampled_from([0, 1, 2, 3, 100, 2**31 - 1, 2**31])))
    elif kind == 1:  # another description of what follows
        n_bytes = struct.unpack_from("<I", stored, 8)[0]
        about = draw(ABOUTS)
        stored[20 : 20 + n_bytes] = about
        struct.pack_into("<I", stored, 8, len(about))
    elif kind == 2:  # types and names within the description
        n_bytes = struct.unpack_from("<I", stored, 8)[0]
        about = bytes(stored[20 : 20 + n_bytes])
        swaps = [(b"f4", b"f8"), (b"i1", b"i4"), (b"true", b"null"), (b'"0"', b'"1"')]
        old, new = draw(st.sampled_from(swaps))
        stored[20 : 20 + n_bytes] = about.replace(old, new, draw(st.integers(1, 3)))
    else:
        return draw(mutated(bytes(stored)))
    return bytes(stored)


@settings(max_examples=500, deadline=None)
@given(st.one_of(wrong(), st.binary(max_size=100)))
def test_any_bytes_are_read_or_refused_and_ask_for_no_more_than_there_is(stored: bytes) -> None:
    said = ""
    tracemalloc.start()
    try:
        decode_answered(stored).check()
    except ValueError as error:
        said = str(error)
    n_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in said
    assert n_bytes < 500_000


def test_the_first_bytes_say_what_it_is_and_of_which_version() -> None:
    stored = STORED[0]
    assert stored[:4] == b"NA\x01\x00"
    with pytest.raises(ValueError, match=r"must begin with b'NA\\x01\\x00', received b'NA\\x02\\x00'"):
        decode_answered(b"NA\x02" + stored[3:])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_events_out_of_stored_blocks_are_those_of_the_blocks_decoded(data: st.DataObject) -> None:
    first, start = 0, 0
    blocks: list[tuple[StoredBlock, int, int]] = []
    wanted: list[int] = []
    likeness = data.draw(runs(0))
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):  # one that is laid out as others are
            part = replace(likeness, offsets=first + likeness.offsets)
        else:
            part = data.draw(runs(first))
        first = int(part.offsets[-1]) + 1
        if part.offsets[-1] - part.offsets[0] >= 2**32 or first >= 2**62:
            continue
        within = st.integers(int(part.offsets[0]), int(part.offsets[-1]))
        asked = data.draw(st.sets(st.one_of(within, st.sampled_from(part.offsets.tolist())), max_size=6))
        if asked:
            blocks.append((StoredBlock(encode_answered(part)), start, start + len(asked)))
            start += len(asked)
            wanted += sorted(asked)
    found = find_events(blocks, np.array(wanted, np.int64))
    places = [place for _, some in found for place in some.tolist()]
    every = {row["offset"]: row for block, _, _ in blocks for row in rows_of(decode_answered(block.stored))}
    assert [wanted[place] for place in places] == [offset for offset in wanted if offset in every]
    told = [row for events, _ in found for row in rows_of(events)]
    assert without_missing(told) == without_missing([every[wanted[place]] for place in places])


def test_blocks_next_to_each_other_that_are_laid_out_alike_are_read_as_one() -> None:
    blocks = [StoredBlock(encode_answered(binary(4, first_offset=first))) for first in (0, 4, 8)]
    wanted = np.array([1, 3, 6, 8, 11])
    ((events, places),) = find_events([(blocks[0], 0, 2), (blocks[1], 2, 3), (blocks[2], 3, 5)], wanted)
    assert events.offsets.tolist() == wanted.tolist()
    assert places.tolist() == [0, 1, 2, 3, 4]


def test_an_event_that_holds_what_it_may_not_is_refused_and_no_other_one() -> None:
    stored = bytearray(encode_answered(binary(3)))
    stored[-3 * 9] = 7  # the first prediction: a byte each, before 8 bytes of scores and probabilities
    block = StoredBlock(bytes(stored))
    with pytest.raises(ValueError, match="must be at least -1 and below 2"):
        find_events([(block, 0, 2)], np.array([0, 1]))
    ((events, _),) = find_events([(block, 0, 2)], np.array([1, 2]))
    assert events.offsets.tolist() == [1, 2]
