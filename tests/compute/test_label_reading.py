"""Labels of a record batch: accepted, or rejected with a code and one line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compute.label_reading import decode_labels
from tests.fuzz.mutations import mutated


def decode_one(value: bytes | None, key: bytes | None = b"pump-1", max_bytes: int = 10_000) -> Any:
    batch = decode_labels([key], [value], max_bytes=max_bytes)
    assert len(batch.labels) + len(batch.rejected) == 1
    if batch.rejected:
        return batch.rejected[0]
    return (batch.topics[0], int(batch.partitions[0]), int(batch.offsets[0])), batch.labels[0]


def record(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize("label", ["spam", "1", True, False, 1, 0, -7, 1.5, -0.0, 1e308, 10**199, "é" * 200])
def test_a_label_is_a_string_a_boolean_or_a_finite_number(label: Any) -> None:
    event, found = decode_one(record(id="events-2-1841", label=label))
    assert event == ("events", 2, 1841)
    assert (type(found), found) == (type(label), label)


@pytest.mark.parametrize(
    "text",
    [
        *("null", "[]", "[1]", "{}", '{"a": 1}', '""', "NaN", "Infinity", "-Infinity", "1e400", "-1e999"),
        *(f'"{"x" * 201}"', "1" + "0" * 200, "-1" + "0" * 200, "-1" + "0" * 5000, "1" * 9000),
    ],
    ids=lambda text: text[:10],
)
def test_anything_else_is_an_invalid_label(text: str) -> None:
    fault = decode_one(b'{"id": "events-2-1841", "label": ' + text.encode() + b"}")
    assert fault.code == "invalid-label"
    assert fault.message.startswith(
        "label: must be a finite number, boolean or string, of 1 to 200 characters"
    )
    assert len(fault.message) < 400


def test_a_missing_label_is_an_invalid_one() -> None:
    assert decode_one(b'{"id": "events-2-1841"}').code == "invalid-label"


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("events-2-1841", ("events", 2, 1841)),
        ("my-raw.events_1-0-0", ("my-raw.events_1", 0, 0)),
        ("a-1-2-3", ("a-1", 2, 3)),
        ("--0-0", ("-", 0, 0)),
        (f"{'t' * 249}-2147483647-{2**62 - 1}", ("t" * 249, 2**31 - 1, 2**62 - 1)),
    ],
)
def test_an_id_is_topic_partition_and_offset_and_topics_may_have_dashes_and_dots(
    text: str, event: Any
) -> None:
    assert decode_one(record(id=text, label=1)) == (event, 1)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "events",
            "events-2",
            "2-1841",
            "-2-1841",
            "events-2-",
            "events--1841",
            "events-x-1",
            "events-2-1.0",
        ),
        *(
            "events-02-1",
            "events-2-01",
            "events-2-+1",
            "events-2--",
            "événements-2-1",
            "a b-2-1",
            "events-2-1 ",
        ),
        *(
            f"events-2-{2**62}",
            f"events-{2**31}-1",
            f"events-2-{'9' * 400}",
            f"{'t' * 250}-2-1",
            "events-2-\u0661",
        ),
        *(None, 7, True, [], {}),
    ],
)
def test_what_is_no_id_is_an_unknown_label(text: Any) -> None:
    fault = decode_one(record(id=text, label=1))
    assert fault.code == "unknown-label"
    assert fault.message.startswith("id: must be a prediction's, <topic>-<partition>-<offset>, received ")
    assert len(fault.message) < 400


def test_a_missing_id_is_an_unknown_label() -> None:
    fault = decode_one(b'{"label": 1}')
    assert (fault.code, fault.message[-4:]) == ("unknown-label", "none")


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            b"",
            b"{",
            b"[]",
            b"1",
            b"null",
            b'"x"',
            b"\xff\xfe",
            b"NaN",
            b'{"id": "events-2-1", "label": 1',
        ),
        b'{"id": "events-2-1", "label": "\\ud800"}',
        b'{"id": "events-2-1", "label": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"id": "events-2-1", "label": 1, "weight": NaN}',
    ],
)
def test_what_is_no_json_object_is_invalid_json(value: bytes | None) -> None:
    fault = decode_one(value, max_bytes=100_000)
    assert fault.code == "invalid-json"
    assert len(fault.message) < 500


def test_unknown_fields_are_ignored_and_of_repeated_ones_the_last_counts() -> None:
    value = (
        b'{"note": {"a": [1]}, "label": 0, "id": "events-2-1", "at": "now", "label": "x", "id": "events-2-7"}'
    )
    assert decode_one(value) == (("events", 2, 7), "x")


def test_the_key_comes_first_then_the_size() -> None:
    good = record(id="events-2-1", label=1)
    assert decode_one(good, key=None).code == "missing-key"
    assert decode_one(b"{", key=b"").code == "missing-key"
    assert decode_one(good, key=b"k" * 16_385).code == "too-large"
    assert decode_one(good, key=b"k" * 16_384)[1] == 1
    assert decode_one(good, max_bytes=len(good))[1] == 1
    fault = decode_one(b"{" * 100, max_bytes=99)
    assert (fault.code, fault.message) == ("too-large", "value: must be at most 99 bytes, received 100")


def test_columns_and_rejected_ones_keep_their_positions() -> None:
    good = record(id="events-2-5", label=1)
    batch = decode_labels(
        [b"a", None, b"b", b"c"], [good, good, b"{", record(id="e-0-9", label="x")], max_bytes=99
    )
    assert batch.index.tolist() == [0, 3]
    assert (batch.topics, batch.partitions.tolist(), batch.offsets.tolist()) == (
        ["events", "e"],
        [2, 0],
        [5, 9],
    )
    assert batch.labels == [1, "x"]
    assert [(fault.position, fault.code) for fault in batch.rejected] == [
        (1, "missing-key"),
        (2, "invalid-json"),
    ]


def test_nothing_gives_nothing() -> None:
    batch = decode_labels([], [], max_bytes=99)
    assert (batch.index.dtype, batch.offsets.dtype, batch.labels) == (np.int64, np.int64, [])


def test_keys_and_values_must_be_equally_many() -> None:
    with pytest.raises(ValueError, match="must be equally many, received 1, 0"):
        decode_labels([b"a"], [], max_bytes=99)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.binary(max_size=4)),
            st.one_of(
                st.binary(max_size=30),
                mutated(b'{"id": "events-2-1841", "label": 1.5}'),
                st.fixed_dictionaries({"id": st.just("events-2-1841") | JSON, "label": JSON})
                .map(json.dumps)
                .map(str.encode),
            ),
        ),
        max_size=5,
    )
)
@example([(b"k", b'{"id": "events-2-1", "label": -1e400}')])
def test_whatever_comes_is_accepted_or_rejected_once(records: list[tuple[bytes | None, bytes]]) -> None:
    keys, values = [key for key, _ in records], [value for _, value in records]
    batch = decode_labels(keys, values, max_bytes=50)
    positions = sorted([*batch.index.tolist(), *(fault.position for fault in batch.rejected)])
    assert positions == list(range(len(records)))
    codes = {"missing-key", "too-large", "invalid-json", "invalid-label", "unknown-label"}
    assert {fault.code for fault in batch.rejected} <= codes
    assert all(fault.message.isprintable() for fault in batch.rejected)
    assert len(batch.topics) == len(batch.partitions) == len(batch.offsets) == len(batch.labels)
    for position, label in zip(batch.index.tolist(), batch.labels, strict=True):
        assert type(label) in (str, int, float, bool)
        assert json.loads(values[position])["label"] == label
