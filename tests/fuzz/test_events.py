"""Whatever arrives on `events`: events in = predictions + dead letters, each offset once, always."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings
from tests.agents.recording import NOW_MS, DictStore, Worker, batch
from tests.fuzz.amount import amount
from tests.fuzz.mutations import mutated

NOW = NOW_MS / 1000
SETTINGS = [
    Settings(window_seconds=60, panes=3, warmup_events=1, alert_min_support=1, include_normalised=True),
    Settings(
        window_seconds=1, panes=1, max_features=3, max_event_bytes=100, warmup_events=0, future_seconds=0
    ),
    Settings(max_features=40, alert_threshold=0, alert_resolve=0, alert_critical=0, alert_cooldown_seconds=0),
]
CODES = set(re.findall(r"^\| `([a-z-]+)` \|", Path("docs/dead-letters.md").read_text(), re.MULTILINE))


def mostly(usual: Any, *odd: Any) -> Any:
    return st.integers(0, 9).flatmap(lambda i: st.one_of(*odd) if i in (3, 6) else usual)


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers().map(str),
    st.sampled_from(
        [
            "0",
            "-0",
            "1e308",
            "-1e308",
            "1e309",
            "5e-324",
            "NaN",
            "Infinity",
            "-Infinity",
            "1" * 400,
            "01",
            "1.",
            "+1",
        ]
    ),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
).map(json.dumps)
TIMES = mostly(
    st.integers(-150, 0).map(lambda seconds: repr(NOW + seconds)),
    st.integers(-200, 400).map(lambda seconds: repr(NOW + seconds)),
    st.sampled_from(
        ['"2026-09-21T10:00:00Z"', '"2026-09-21 10:00"', '"0001-01-01T00:00:00"', '"9999-12-31T23:59:59Z"']
    ),
    st.sampled_from(
        ['"-2026-01-01"', '"yesterday"', '""', '"2026-02-30T00:00:00Z"', '"2026-09-21T10:00:00+99:99"']
    ),
    NUMBERS,
    JSON,
)
NAMES = mostly(
    st.sampled_from(["a", "b", "c"]),
    st.text(max_size=6),
    st.sampled_from(["", "x" * 256, "x" * 257, "\x00", "é" * 200, "\ud800", "\U0001f600"]),
).map(json.dumps)
FEATURES = mostly(
    st.lists(st.tuples(NAMES, mostly(st.integers(-9, 9).map(str), NUMBERS)), min_size=1, max_size=4),
    st.lists(st.tuples(NAMES, st.one_of(st.integers(-9, 9).map(str), NUMBERS, st.just("null"))), max_size=6),
    st.lists(st.tuples(NAMES, st.one_of(NUMBERS, JSON)), max_size=45),
).map(lambda items: "{" + ", ".join(f"{name}: {number}" for name, number in items) + "}")
FIELDS = st.tuples(st.sampled_from(['"id"', '"label"', '"extra"', '"timestamp"', '"features"']), JSON)


@st.composite
def events(draw: Any) -> bytes:
    """Return something between an event as it should be and bytes that have nothing to do with one."""
    fields = [('"timestamp"', draw(TIMES)), ('"features"', draw(mostly(FEATURES, JSON)))]
    fields += draw(st.lists(FIELDS, max_size=2))
    if draw(st.integers(0, 5)) == 0:
        del fields[draw(st.integers(0, 1))]
    text = "{" + ", ".join(f"{name}: {value}" for name, value in draw(st.permutations(fields))) + "}"
    return text.encode("utf-8", "surrogatepass")


GOOD = st.builds(
    lambda seconds, a, b: json.dumps(
        {"timestamp": NOW - 60 + seconds, "features": {"a": a, "b": b}}
    ).encode(),
    *(st.integers(0, 60), st.integers(-5, 5), st.floats(-1e6, 1e6)),
)
VALUES = mostly(
    mostly(GOOD, events()),
    events().flatmap(mutated),
    GOOD.flatmap(mutated),
    st.none(),
    st.binary(max_size=40),
    JSON.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"", b"[" * 5_000, b'{"features":' * 2_000, b" " * 3_000_000, b"\xef\xbb\xbf{}"]),
)
KEYS = mostly(
    st.sampled_from([b"a", b"b", b"c"]),
    st.none(),
    st.binary(max_size=12),
    st.sampled_from(
        [b"", b"\xff\xfe", b"k" * 16_384, b"k" * 16_385, b"\x00nowcast-partition", b"__faust\x00offset__"]
    ),
)
HEADERS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(["error", "trace", "source-offset", "", "truncated"]),
            st.text("aé\\x00", max_size=4),
        ),
        st.one_of(st.none(), st.binary(max_size=20), st.just(b"h" * 3_000_000)),
    ),
    max_size=2,
).map(tuple)
RECORD_TIMES = mostly(
    st.just(NOW_MS),
    st.sampled_from([-1, 0, 1, 2**63 - 1, -(2**63)]),
    st.integers(0, 2 * NOW_MS),
)
RECORDS = st.lists(
    st.tuples(KEYS, VALUES, HEADERS, RECORD_TIMES, st.sampled_from([1, 1, 1, 2, 50])), max_size=25
)
STEPS = st.dictionaries(st.integers(0, 25), st.sampled_from(["batch", "checkpoint", "restart"]), max_size=8)


def to_records(drawn: list[Any], first_offset: int = 0) -> list[ConsumerRecord]:
    offsets = np.cumsum([first_offset, *(gap for *_, gap in drawn)]).tolist()
    return [
        ConsumerRecord(
            "events", 0, offset, time, 0, key, value, None, len(key or b""), len(value or b""), headers
        )
        for (key, value, headers, time, _), offset in zip(drawn, offsets, strict=False)
    ]


def run(
    settings: Settings, records: list[ConsumerRecord], steps: dict[int, str], store: DictStore
) -> list[Worker]:
    """Score records; before the one at a position end the batch, take a checkpoint, or start again."""

    async def whole() -> list[Worker]:
        workers, start = [Worker(settings, store)], 0
        for i in [*sorted(i for i in steps if i <= len(records)), len(records)]:
            worker = workers[-1]
            if start < i:
                await worker.scorer.score(batch(records[start:i]))
            start, step = i, steps.get(i, "batch")
            if step != "batch" and (changes := worker.table.take_changes()):
                worker.table.write(0, changes[0], 0)
            if step == "restart":
                workers.append(Worker(settings, store))
        return workers

    return asyncio.run(whole())


def answered(workers: list[Worker]) -> list[int]:
    """Return the offsets that were answered, after a look at every answer."""
    offsets = []
    for worker in workers:
        assert not worker.failures
        for prediction in worker.predictions():
            assert np.isfinite(prediction["score"])
            offsets.append(int(prediction["id"].rpartition("-")[2]))
        for letter in worker.dead_letters():
            headers = dict(letter.headers)  # the last of a name counts, and ours are last
            assert headers["error"].decode() in CODES
            assert headers["error-message"]
            offsets.append(int(headers["source-offset"]))
        for sent in worker.producer.of("alerts"):
            assert sent.json["state"] in ("firing", "resolved")
    return sorted(offsets)


@amount(150)
@given(st.sampled_from(SETTINGS), RECORDS, STEPS)
def test_every_event_has_one_prediction_or_one_dead_letter(
    settings: Settings, drawn: list[Any], steps: dict[int, str]
) -> None:
    records = to_records(drawn)
    workers = run(settings, records, steps, DictStore())
    assert answered(workers) == [record.offset for record in records]
    originals = {record.offset: record for record in records}
    for worker in workers:
        for letter in worker.dead_letters():
            original, headers = originals[int(dict(letter.headers)["source-offset"])], dict(letter.headers)
            if "truncated" not in headers:
                assert (letter.key, letter.value) == (original.key, original.value)
                assert tuple(letter.headers[: len(original.headers)]) == original.headers


@amount(30)
@given(st.sampled_from(SETTINGS), RECORDS, STEPS)
def test_no_split_into_batches_changes_who_is_refused_and_why(
    settings: Settings, drawn: list[Any], steps: dict[int, str]
) -> None:
    records = to_records(drawn)
    refused = []
    for splits in ({}, dict.fromkeys(range(len(records)), "batch"), dict.fromkeys(steps, "batch")):
        letters = [
            letter
            for worker in run(settings, records, splits, DictStore())
            for letter in worker.dead_letters()
        ]
        refused.append(
            [(dict(letter.headers)["source-offset"], dict(letter.headers)["error"]) for letter in letters]
        )
    assert refused[0] == refused[1] == refused[2]


@amount(60)
@given(st.data(), RECORDS)
def test_a_store_with_wrong_values_stops_nothing(data: st.DataObject, drawn: list[Any]) -> None:
    settings, store = SETTINGS[0], DictStore()
    good = [
        (b"abc"[i % 3 : i % 3 + 1], value, (), NOW_MS, 1)
        for i, value in enumerate(data.draw(st.lists(GOOD, max_size=9)))
    ]
    before = to_records(good)
    run(settings, before, {len(before): "checkpoint"}, store)
    for key in sorted(store.values):
        wrong = st.one_of(
            mutated(store.values[key]), st.binary(max_size=100), st.sampled_from(list(store.values.values()))
        )
        if data.draw(st.booleans()):
            store.values[key] = data.draw(wrong)
    after = to_records(drawn, first_offset=1_000)
    workers = run(settings, after, {len(after): "checkpoint"}, store)
    found = answered(workers)
    assert len(found) == len(set(found))
    # A wrong value may be a right one of another entity, or say that events were answered that never came.
    known = {record.offset for record in after}
    assert set(found) <= known
    partition = Worker(settings, store).table.partition(0)
    assert partition.next_offset >= 0
