from __future__ import annotations

import bisect
import json
import math
import sys
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compute.events import MAX_NAME_LENGTH, DecodeLimits, EventBatch, decode_batch
from tables.partition import PARTITION_KEY
from tables.stores import RocksDBStore

NOW = 1_800_000_000.0
CODES = {
    "missing-key",
    "reserved-key",
    "invalid-json",
    "invalid-timestamp",
    "invalid-features",
    "not-finite",
    "too-many-features",
    "too-large",
    "future-event",
}


def decode(
    *values: bytes | None,
    keys: list[bytes | None] | None = None,
    record_times: list[float] | None = None,
    feature_names: tuple[str, ...] = (),
    **limits: float,
) -> EventBatch:
    return decode_batch(
        [b"entity"] * len(values) if keys is None else keys,
        list(values),
        np.array([NOW] * len(values) if record_times is None else record_times, np.float64),
        limits=DecodeLimits(**limits),  # type: ignore[arg-type]
        now=NOW,
        feature_names=feature_names,
    )


def event(features: object, timestamp: object = 1.0, **others: object) -> bytes:
    return json.dumps({"timestamp": timestamp, "features": features, **others}).encode()


def only_fault(batch: EventBatch) -> tuple[str, str]:
    assert len(batch.index) == 0
    (rejected,) = batch.rejected
    return rejected.code, rejected.message


def test_an_event_becomes_a_row() -> None:
    batch = decode(b'{"timestamp": 1700000000.25, "features": {"temperature": 21.5, "pressure": null}}')
    assert batch.index.tolist() == [0]
    assert batch.timestamps.tolist() == [1700000000.25]
    assert batch.feature_names == ("temperature", "pressure")
    np.testing.assert_array_equal(batch.matrix, [[21.5, np.nan]])
    assert (batch.rejected, batch.ids, batch.labels) == ([], {}, {})


def test_an_empty_batch_has_the_known_columns() -> None:
    batch = decode(feature_names=("a", "b"))
    assert batch.matrix.shape == (0, 2)
    assert batch.index.dtype == np.int64
    assert batch.timestamps.shape == (0,)


def test_columns_of_different_lengths_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="must be equally many, received 1, 0, 1"):
        decode(keys=[b"a"], record_times=[1.0])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T00:00:10", 10.0),  # without an offset it is UTC, wherever the worker runs
        ("1970-01-01 00:00:10.25", 10.25),
        ("1970-01-01T00:00:10,25Z", 10.25),
        ("1970-01-01T02:00:10+02:00", 10.0),
        ("1970-01-01T02:00:10+0200", 10.0),
        ("1970-01-01T02:00:10+02", 10.0),
        ("1969-12-31T23:59Z", -60.0),
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:00:10.123456789Z", 10.123457),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("2026-11-21T10:00:00Z", datetime(2026, 11, 21, 10, tzinfo=timezone.utc).timestamp()),
    ],
)
def test_times_are_iso_8601(text: str, seconds: float) -> None:
    batch = decode(event({"a": 1}, timestamp=text), event({"a": 1}, timestamp=5))
    assert batch.timestamps.tolist() == [seconds, 5.0]


def test_times_are_epoch_seconds_as_integer_or_float() -> None:
    batch = decode(event({"a": 1}, 7), event({"a": 1}, 7.5), event({"a": 1}, -1), event({"a": 1}, 1e9))
    assert batch.timestamps.tolist() == [7.0, 7.5, -1.0, 1e9]


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (None, "invalid-json", "empty value"),
        (b"", "invalid-json", "empty value"),
        (b"{", "invalid-json", "{"),
        (b"\xff\xfe", "invalid-json", "\\xff"),
        (b"[1, 2]", "invalid-json", "object, received an array: [1.0, 2.0]"),
        (b"null", "invalid-json", "object, received null"),
        (b"\xef\xbb\xbf" + event({"a": 1}), "invalid-json", "must be JSON"),
        (event({"a": 1}) + b"{}", "invalid-json", "trailing"),
        (event({"\ud800": 1}), "invalid-json", "Unicode"),
        (b'{"timestamp": 1, "features": {"\xff": 1}}', "invalid-json", "utf-8"),
        (b'{"timestamp": 1, "features": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid-json", "deep"),
        (b'{"timestamp": 1, "x": ' + b'{"x":' * 100_000, "invalid-json", "deep"),
        (b'{"features": {"a": 1}}', "invalid-timestamp", "timestamp: must be present"),
        (event({"a": 1}, None), "invalid-timestamp", "received null"),
        (event({"a": 1}, True), "invalid-timestamp", "received a boolean: true"),
        (event({"a": 1}, []), "invalid-timestamp", "received an array"),
        (event({"a": 1}, "yesterday"), "invalid-timestamp", 'received "yesterday"'),
        (event({"a": 1}, "2026-02-30T00:00:00Z"), "invalid-timestamp", "2026-02-30"),
        (event({"a": 1}, "1700000000"), "invalid-timestamp", "must not stand in quotes"),
        (event({"a": 1}, math.nan), "invalid-timestamp", "received nan"),
        (event({"a": 1}, math.inf), "invalid-timestamp", "received inf"),
        (b'{"timestamp": 1e999, "features": {"a": 1}}', "invalid-timestamp", "finite, received 1e999"),
        (b'{"timestamp": 1' + b"0" * 5000 + b', "features": {"a": 1}}', "invalid-timestamp", "finite"),
        (event({"a": 1}, -62135596801), "invalid-timestamp", "at least -62135596800"),
        (event({"a": 1}, -1e300), "invalid-timestamp", "at least"),
        (b'{"timestamp": 1}', "invalid-features", "features: must be present"),
        (event(None), "invalid-features", "object of numbers, received null"),
        (event([1, 2]), "invalid-features", "received an array"),
        (event("a"), "invalid-features", 'received a string: "a"'),
        (event({}), "invalid-features", "at least one"),
        (event({"a": True}), "invalid-features", "features.a: must be a number or null, received a boolean"),
        (event({"a": "21.5"}), "invalid-features", 'received a string: "21.5"'),
        (event({"a": "NaN"}), "invalid-features", 'received a string: "NaN"'),
        (event({"a": 1, "b": {"c": 1}}), "invalid-features", "features.b"),
        (event({"": 1}), "invalid-features", "1 to 256 characters, received 0"),
        (event({"a" * (MAX_NAME_LENGTH + 1): 1}), "invalid-features", "received 257"),
        (event({"a": 1, "b": math.nan}), "not-finite", "features.b: must be finite, received nan"),
        (event({"a": -math.inf}), "not-finite", "features.a: must be finite, received -inf"),
        (b'{"timestamp": 1, "features": {"a": 1e999}}', "not-finite", "features.a"),
        (b'{"timestamp": 1, "features": {"a": 1' + b"0" * 5000 + b"}}", "not-finite", "features.a"),
        (event({"a": 1}, label=math.nan), "not-finite", "received NaN"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_bad_event_is_rejected_with_its_code_and_what_was_received(
    value: bytes | None, code: str, words: str
) -> None:
    received_code, message = only_fault(decode(value))
    assert received_code == code
    assert words in message
    assert len(message) < 450


@pytest.mark.parametrize("key", [None, b""])
def test_an_event_without_a_key_is_rejected(key: bytes | None) -> None:
    assert only_fault(decode(event({"a": 1}), keys=[key]))[0] == "missing-key"


def test_a_value_may_be_as_large_as_the_limit() -> None:
    value = event({"a": 1})
    assert len(decode(value, max_event_bytes=len(value)).index) == 1
    code, message = only_fault(decode(value, max_event_bytes=len(value) - 1))
    assert (code, message) == (
        "too-large",
        f"value: must be at most {len(value) - 1} bytes, received {len(value)}",
    )


def test_an_event_may_have_as_many_features_as_the_limit() -> None:
    assert len(decode(event({"a": 1, "b": 2}), max_features=2).index) == 1
    assert only_fault(decode(event({"a": 1, "b": 2, "c": 3}), max_features=2))[0] == "too-many-features"


def test_a_partition_may_have_as_many_feature_names_as_the_limit() -> None:
    batch = decode(
        event({"b": 1}),
        event({"c": 1, "d": 1}),
        event({"c": 1}),
        event({"d": 1, "c": 1}),
        event({"a": 1, "c": 2}),
        feature_names=("a",),
        max_feature_names=3,
    )
    assert batch.feature_names == ("a", "b", "c")
    assert batch.index.tolist() == [0, 2, 4]
    assert [rejected[:2] for rejected in batch.rejected] == [
        (1, "too-many-features"),
        (3, "too-many-features"),
    ]


def test_known_names_are_served_when_the_limit_was_lowered_below_them() -> None:
    batch = decode(event({"b": 1}), event({"c": 1}), feature_names=("a", "b"), max_feature_names=1)
    assert batch.index.tolist() == [0]


@pytest.mark.parametrize(
    ("record_time", "bound"),
    [(1000.0, 1000.0), (NOW + 5000, NOW), (math.nan, NOW), (0.0, NOW), (-1.0, NOW), (math.inf, NOW)],
)
def test_an_event_may_lie_ahead_of_its_record_or_of_now_by_the_limit(
    record_time: float, bound: float
) -> None:
    batch = decode(
        event({"a": 1}, bound + 60),
        event({"a": 1}, bound + 60.5),
        record_times=[record_time] * 2,
        future_seconds=60,
    )
    assert batch.index.tolist() == [0]
    assert [rejected[:2] for rejected in batch.rejected] == [(1, "future-event")]


@pytest.mark.parametrize(
    ("factor", "unit"), [(1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")]
)
def test_another_unit_than_seconds_is_a_future_event_and_named(factor: float, unit: str) -> None:
    code, message = only_fault(decode(event({"a": 1}, 1.7e9 * factor)))
    assert code == "future-event"
    assert message.endswith(f"which looks like {unit}; send seconds")


def test_a_rejected_event_leaves_no_trace() -> None:
    batch = decode(
        event({"early": 1}, 1e12, id="x", label=1),
        event({"a": 1}, id="y", label=2),
        event({"a": 1, "": 2}, id="z", label=3),
    )
    assert batch.feature_names == ("a",)
    assert batch.matrix.tolist() == [[1.0]]
    assert (batch.ids, batch.labels) == ({1: "y"}, {1: 2})


def test_schemas_may_differ_from_event_to_event() -> None:
    batch = decode(
        event({"a": 1, "b": 2}),
        event({"b": 3, "a": 4}),
        event({"c": 5}),
        event({"a": 6, "b": None}),
        feature_names=("z",),
    )
    assert batch.feature_names == ("z", "a", "b", "c")
    nan = np.nan
    np.testing.assert_array_equal(
        batch.matrix, [[nan, 1, 2, nan], [nan, 4, 3, nan], [nan, nan, nan, 5], [nan, 6, nan, nan]]
    )


def test_of_a_repeated_field_the_last_counts() -> None:
    batch = decode(b'{"timestamp": [], "timestamp": 3, "features": 1, "features": {"a": 1, "b": 2, "a": 4}}')
    assert batch.timestamps.tolist() == [3.0]
    assert batch.matrix.tolist() == [[4.0, 2.0]]


def test_unknown_fields_are_ignored() -> None:
    value = b'{"x": {"y": [1e999, "\xff"]}, "timestamp": 1, "features": {"a": 1}}'
    assert len(decode(value).index) == 1


def test_an_id_that_is_no_scalar_is_left_out_and_the_event_scored() -> None:
    batch = decode(event({"a": 1}, id=["x"]), event({"a": 1}, id=7))
    assert batch.index.tolist() == [0, 1]
    assert batch.ids == {1: 7}


@pytest.mark.parametrize("label", [{"y": 1}, [1], "", "x" * 201, 10**200], ids=lambda label: str(label)[:5])
def test_a_label_that_is_none_is_left_out_and_told_and_the_event_scored(label: object) -> None:
    batch = decode(event({"a": 1}, label=label), event({"a": 1}, label=False), event({"a": 1}, label=None))
    assert batch.index.tolist() == [0, 1, 2]
    assert (batch.labels, batch.not_labels) == ({1: False}, [0])


def test_a_label_that_is_none_of_a_rejected_event_is_not_told() -> None:
    assert decode(event({}, label="")).not_labels == []


def test_a_large_integer_is_a_number() -> None:
    assert decode(event({"a": 10**30})).matrix.tolist() == [[1e30]]


def test_a_message_is_one_printable_line() -> None:
    _, message = only_fault(decode(b'{"timestamp": 1, "features": {"a\\nb\\u0007": "x"}}'))
    assert message.isprintable()


@pytest.mark.parametrize("field", [b"timestamp", b"features"])
def test_no_depth_of_nesting_raises(field: bytes) -> None:
    def nested(depth: int) -> bytes:
        return b'{"timestamp": 1, "%b": %b}' % (field, b"[" * depth + b"]" * depth)

    def is_too_deep(depth: int) -> bool:
        return "deep" in only_fault(decode(nested(depth)))[1]

    # The parsers differ by a few levels in what they can read; the depths between their limits are the trap.
    limit = bisect.bisect_left(range(100_000), True, key=is_too_deep)
    depths = range(limit - 40, limit + 40)
    rejected = decode(*map(nested, depths)).rejected
    assert len(rejected) == len(depths)
    assert {event.code for event in rejected} == {"invalid-" + field.decode(), "invalid-json"}


def test_a_caller_deep_in_its_stack_still_gets_an_answer() -> None:
    def descend(depth: int) -> EventBatch:
        return descend(depth - 1) if depth else decode(b'{"timestamp": 1, "features": ' + b"[" * 5000, b"{}")

    assert len(descend(sys.getrecursionlimit() // 2).rejected) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["a", "b", "c", "", "d" * 300])
TIMES = st.floats() | st.integers(0, 2_000_000_000) | st.datetimes().map(lambda time: time.isoformat()) | JSON
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "timestamp": TIMES,
        "features": st.dictionaries(NAMES, st.none() | st.floats() | JSON, max_size=4) | JSON,
        "id": JSON,
        "label": JSON,
        "other": JSON,
    },
)
VALUES = st.none() | st.binary(max_size=30) | (EVENTS | JSON).map(lambda value: json.dumps(value).encode())
GOOD = st.builds(
    event,
    st.dictionaries(st.sampled_from("abcdef"), st.none() | st.integers(-9, 9), min_size=1),
    st.integers(0, 99),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.none() | st.binary(max_size=2), VALUES), max_size=12))
@example([(b"k", b'{"timestamp":1,"features":{"a":1}')])
def test_events_in_equal_events_accepted_and_rejected(
    records: list[tuple[bytes | None, bytes | None]],
) -> None:
    batch = decode(*[value for _, value in records], keys=[key for key, _ in records], max_feature_names=3)
    positions = [rejected.position for rejected in batch.rejected]
    assert positions == sorted(positions)
    assert sorted(positions + batch.index.tolist()) == list(range(len(records)))
    assert {rejected.code for rejected in batch.rejected} <= CODES
    assert all(rejected.message.isprintable() for rejected in batch.rejected)
    assert np.isfinite(batch.timestamps).all()
    assert not np.isinf(batch.matrix).any()
    assert batch.matrix.shape == (len(batch.index), len(batch.feature_names))
    assert len(batch.feature_names) <= 3
    assert set(batch.ids) | set(batch.labels) <= set(batch.index.tolist())


@settings(max_examples=200, deadline=None)
@given(st.lists(GOOD | VALUES, max_size=12), st.data())
def test_any_split_into_batches_decodes_the_same(values: list[bytes | None], data: st.DataObject) -> None:
    whole = decode(*values, max_feature_names=4)
    names: tuple[str, ...] = ()
    rows: list[dict[str, float]] = []
    accepted: list[int] = []
    start = 0
    while start < len(values):
        end = data.draw(st.integers(start + 1, len(values)))
        part = decode(*values[start:end], feature_names=names, max_feature_names=4)
        names = part.feature_names
        accepted += (part.index + start).tolist()
        rows += [dict(zip(names, row, strict=True)) for row in part.matrix.tolist()]
        start = end
    assert accepted == whole.index.tolist()
    assert names == whole.feature_names
    expected = [dict(zip(names, row, strict=True)) for row in whole.matrix.tolist()]
    for row, wanted in zip(rows, expected, strict=True):
        np.testing.assert_array_equal([row.get(name, np.nan) for name in names], list(wanted.values()))


@settings(max_examples=100, deadline=None)
@given(st.lists(GOOD, min_size=1, max_size=12))
def test_the_matrix_holds_what_a_plain_json_parser_reads(values: list[bytes]) -> None:
    batch = decode(*values)
    for row, value in zip(batch.matrix, values, strict=True):
        features = json.loads(value)["features"]
        expected = [features.get(name) for name in batch.feature_names]
        np.testing.assert_array_equal(row, np.array(expected, np.float64))


@pytest.mark.parametrize("key", [PARTITION_KEY, RocksDBStore.offset_key, b"\x00nowcast-anything"])
def test_a_key_under_which_a_partition_keeps_something_of_its_own_is_rejected(key: bytes) -> None:
    batch = decode_batch(
        [key, b"\x00now"],
        [b'{"timestamp": 10, "features": {"a": 1}}'] * 2,
        np.full(2, 10.0),
        limits=DecodeLimits(),
        now=10.0,
    )
    assert [(event.position, event.code) for event in batch.rejected] == [(0, "reserved-key")]
    assert batch.index.tolist() == [1]
