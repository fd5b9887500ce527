"""The bound of a partition's memory: what leaves because of it comes back as it was."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.settings import Settings
from compute.state_codec import decode_entity
from compute.statistics import score_and_learn
from tables import partition as partition_module
from tables.partition import PARTITION_KEY, NoRoomError, Partition, memory_bytes
from tests.agents.recording import NOW_MS, DictStore, Worker, batch, event, record

N_PANES = 4
T0 = NOW_MS / 1000 - 10_000


def new_partition(store: DictStore, pane_seconds: float = 10.0) -> Partition:
    return Partition(0, store, N_PANES, pane_seconds, 1_000)


def learn(partition: Partition, keys: list[bytes], names: list[str], offset: int, pane: int) -> Any:
    slots = partition.slots_of(keys, names)
    columns = partition.columns
    matrix = np.full((len(keys), columns.n_features), np.nan)
    matrix[:, [columns.features.index(name) for name in names]] = np.arange(len(keys))[:, None] + offset
    panes, offsets = np.full(len(keys), pane), np.arange(offset, offset + len(keys))
    learnt, scored = score_and_learn(columns, slots, offsets, panes, matrix, partition.watermark)
    columns.assign(learnt)
    partition.alerts.last_fired[slots] = float(pane)
    partition.mark_changed(slots)
    partition.watermark = scored.watermark
    return scored.n_events.tolist(), np.nan_to_num(scored.mean[:, columns.features.index(names[0])]).tolist()


def bound(monkeypatch: pytest.MonkeyPatch, n_entities: int, n_features: int) -> None:
    n_bytes = n_entities * memory_bytes(N_PANES, n_features)
    monkeypatch.setattr(partition_module, "MAX_MEMORY_BYTES", n_bytes)


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
                st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True),
                st.integers(0, 3),
            ),
            st.sampled_from(["take", "write", "find"]),
        ),
        max_size=25,
    )
)
def test_entities_that_leave_memory_and_come_back_have_learnt_the_same(steps: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        runs = []
        for n_entities in (1_000, 5):
            bound(patch, n_entities, 3)
            store, taken, found, pane, offset = DictStore(), None, [], 5, 0
            partition = new_partition(store)
            for step in steps:
                if step == "take":
                    taken = partition.take_changes() if taken is None else taken
                elif step == "write":
                    if taken:
                        store.write(0, taken, 0)
                        partition.shrink()
                    taken = None
                elif step == "find":
                    found.append([partition.find(b"%d" % i) is not None for i in range(10)])
                else:
                    keys, names, moved = step
                    pane += moved
                    found.append(learn_in_parts(partition, [b"%d" % i for i in keys], names, offset, pane))
                    offset += len(keys)
            if taken:
                store.write(0, taken, 0)
                partition.shrink()
            store.write(0, partition.take_changes(), 0)
            runs.append((found, readable(store.values)))
    assert runs[0] == runs[1]


def readable(values: dict[bytes, bytes]) -> dict[bytes, Any]:
    """Return what is stored, features by name: their order is that in which they came."""
    found: dict[bytes, Any] = {PARTITION_KEY: values.get(PARTITION_KEY)}
    for key, value in values.items():
        if key != PARTITION_KEY:
            state = decode_entity(value)
            numbers = np.stack([*state.moments, state.minimum, state.maximum])
            by_name = {name: numbers[:, :, i].tolist() for i, name in enumerate(state.features)}
            panes = list(zip(state.panes.tolist(), state.n_events.tolist(), strict=True))
            found[key] = (state.newest, state.seen, state.last_offset, panes, by_name, state.extra)
    return found


def learn_in_parts(partition: Partition, keys: list[bytes], names: list[str], offset: int, pane: int) -> Any:
    try:
        return learn(partition, keys, names, offset, pane)
    except NoRoomError:
        assert len(keys) > 1
        half = len(keys) // 2
        one = learn_in_parts(partition, keys[:half], names, offset, pane)
        other = learn_in_parts(partition, keys[half:], names, offset + half, pane)
        return one[0] + other[0], one[1] + other[1]


def test_one_event_with_many_names_does_not_multiply_what_all_entities_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_module, "MAX_MEMORY_BYTES", 20_000_000)
    worker, defaults = Worker(Settings()), Settings()
    partition = worker.table.partition(0)
    few = [record(i, b"sensor-%d" % i, event(T0, heat=1.0, flow=2.0)) for i in range(2_000)]
    many = [record(2_000, b"sensor-7", event(T0 + 1, **{f"f{i}": 1.0 for i in range(250)}))]
    again = [record(2_001 + i, b"sensor-%d" % i, event(T0 + 2, heat=3.0, flow=2.0)) for i in range(2_000)]
    tracemalloc.start()
    try:
        score(worker, few)
        tracemalloc.reset_peak()
        score(worker, many, again)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 2_000 * memory_bytes(defaults.panes, 252) > 280_000_000
    assert peak < 120_000_000
    assert len(partition) * memory_bytes(defaults.panes, 252) <= 20_000_000
    predictions = worker.predictions()
    assert [p["id"] for p in predictions] == [f"events-0-{i}" for i in range(4_001)]
    slot = partition.slots_of([b"sensor-0"])[0]
    assert partition.columns.window_events[slot] == 2


def score(worker: Worker, *batches: list[Any]) -> None:
    async def run() -> None:
        for records in batches:
            await worker.scorer.score(batch(records))

    asyncio.run(run())


def test_entities_too_many_for_memory_together_are_refused_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound(monkeypatch, 3, 1)
    partition = new_partition(DictStore())
    learn(partition, [b"a", b"b"], ["x"], 0, 5)
    with pytest.raises(NoRoomError):
        partition.slots_of([b"a", b"b", b"c", b"d"], ["x"])
    slots = partition.slots_of([b"a", b"b"])
    assert partition.columns.window_events[slots].tolist() == [1, 1]


def test_one_entity_is_taken_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "MAX_MEMORY_BYTES", 1)
    partition = new_partition(DictStore())
    for offset in range(3):
        n_events, _ = learn(partition, [b"a"], ["x", "y"], offset, 5)
        assert n_events == [offset]


def test_what_a_view_asks_for_meets_the_same_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DictStore()
    first = new_partition(store)
    for i in range(20):
        learn(first, [b"%d" % i], [f"name-{i}"], i, 5)
    store.write(0, first.take_changes(), 0)
    bound(monkeypatch, 4, 4)
    second = new_partition(store)
    for i in range(20):
        assert second.find(b"%d" % i) is not None
        assert len(second) <= 4


def test_what_is_held_stays_where_it_is_while_a_view_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DictStore()
    first = new_partition(store)
    learn(first, [b"a", b"b", b"c"], ["x"], 0, 5)
    store.write(0, first.take_changes(), 0)
    bound(monkeypatch, 2, 1)
    second = new_partition(store)
    slots = second.slots_of([b"a", b"b"], ["x"])
    second.hold(slots)
    assert second.find(b"c") is None
    assert second.slots_of([b"a", b"b"]).tolist() == slots.tolist()
    second.let_go()
    assert second.find(b"c") is not None


def test_longer_panes_do_not_leave_the_watermark_in_the_future() -> None:
    store = DictStore()
    first = new_partition(store, pane_seconds=10.0)
    learn(first, [b"a"], ["x"], 0, 1_000)
    store.write(0, first.take_changes(), 0)
    second = new_partition(store, pane_seconds=100.0)
    assert second.watermark == 100
    learn(second, [b"b"], ["x"], 1, 101)
    assert second.find(b"a") is not None  # a view that asks does not make it silent
    store.write(0, second.take_changes(), 0)
    assert store.values.keys() > {b"a", b"b"}
    learn(second, [b"b"], ["x"], 2, 100 + N_PANES * 200)
    store.write(0, second.take_changes(), 0)
    assert b"a" not in store.values


@pytest.mark.parametrize("stored", [b"", b"rubbish", b"7", b"9" * 30 + b" 1", b"1 -5", b"\xff 1"])
def test_a_record_of_the_partition_that_cannot_be_read_starts_it_anew(stored: bytes) -> None:
    store = DictStore()
    store.values[partition_module.PARTITION_KEY] = stored
    partition = new_partition(store)
    learn(partition, [b"a"], ["x"], 0, 5)
    assert partition.watermark == 5
