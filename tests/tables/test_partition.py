"""Entities of a partition: in memory, in the store, back again, gone."""

from __future__ import annotations

import numpy as np
import pytest

from compute.panes import EMPTY
from compute.state_codec import decode_entity
from compute.statistics import score_and_learn
from tables import partition as partition_module
from tables.partition import PARTITION_KEY, Partition
from tests.agents.recording import DictStore


def new_partition(store: DictStore, max_entities: int = 1000, n_panes: int = 4, pane_seconds: float = 10.0):
    return Partition(0, store, n_panes, pane_seconds, max_entities)


def learn(partition: Partition, keys: list[bytes], first_offset: int, pane: int, value: float = 1.0) -> None:
    partition.columns.add_features(["x"])
    slots = partition.slots_of(keys)
    n = len(keys)
    learnt, scored = score_and_learn(
        partition.columns,
        slots,
        np.arange(first_offset, first_offset + n),
        np.full(n, pane),
        np.full((n, partition.columns.n_features), value),
        partition.watermark,
    )
    partition.columns.assign(learnt)
    partition.mark_changed(slots)
    partition.watermark = scored.watermark
    partition.next_offset = max(partition.next_offset, first_offset + n)


def checkpoint(partition: Partition, store: DictStore) -> dict[bytes, bytes | None]:
    items = partition.take_changes()
    store.write(0, items, 0)
    partition.shrink()
    return dict(items)


def test_a_checkpoint_holds_what_changed_since_the_last_and_no_more() -> None:
    store = DictStore()
    partition = new_partition(store)
    learn(partition, [b"a", b"b"], 0, pane=5)
    assert checkpoint(partition, store).keys() == {b"a", b"b", PARTITION_KEY}
    learn(partition, [b"b"], 2, pane=5)
    assert checkpoint(partition, store).keys() == {b"b", PARTITION_KEY}
    assert checkpoint(partition, store) == {}


def test_state_comes_back_from_the_store_after_a_restart() -> None:
    store = DictStore()
    before = new_partition(store)
    learn(before, [b"a", b"a", b"b"], 0, pane=5, value=3.0)
    before.alerts.firing[before.find(b"a")] = 2
    checkpoint(before, store)
    after = new_partition(store)
    assert after.watermark == 5
    slot = after.slots_of([b"a"])[0]
    assert after.columns.last_offset[slot] == 1
    assert after.columns.window.count[slot].tolist() == [2.0]
    assert after.columns.window.mean[slot].tolist() == [3.0]
    assert after.alerts.firing[slot] == 2


def test_an_entity_silent_for_the_window_is_removed_by_a_tombstone_in_memory_or_not() -> None:
    store = DictStore()
    partition = new_partition(store)
    learn(partition, [b"in-store"], 0, pane=5)
    checkpoint(partition, store)
    partition = new_partition(store)  # a restart: "in-store" is not in memory
    learn(partition, [b"in-memory"], 1, pane=5)
    checkpoint(partition, store)
    learn(partition, [b"alive"], 2, pane=8)
    assert checkpoint(partition, store).keys() == {b"alive", PARTITION_KEY}
    learn(partition, [b"alive"], 3, pane=9)
    assert {key for key, value in checkpoint(partition, store).items() if value is None} == {
        b"in-store",
        b"in-memory",
    }
    assert partition.find(b"in-store") is None
    assert partition.find(b"in-memory") is None
    assert len(partition) == 1


def test_an_entity_that_was_removed_is_not_brought_back_by_a_replay() -> None:
    store = DictStore()
    partition = new_partition(store)
    learn(partition, [b"gone", b"gone"], 0, pane=5)
    learn(partition, [b"alive"], 2, pane=9)
    checkpoint(partition, store)
    assert b"gone" not in store.values
    partition = new_partition(store)  # a crash before the offsets were committed: all is read again
    learn(partition, [b"gone", b"gone"], 0, pane=5)
    learn(partition, [b"alive"], 2, pane=9)
    learn(partition, [b"gone"], 3, pane=9)
    assert partition.columns.window_events[partition.slots_of([b"gone", b"alive"])].tolist() == [1, 1]


def test_a_sweep_is_carried_on_by_the_next_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "SWEEP_ITEMS", 10)
    store = DictStore()
    partition = new_partition(store)
    learn(partition, [b"%03d" % i for i in range(35)], 0, pane=5)
    checkpoint(partition, store)
    partition = new_partition(store)
    learn(partition, [b"alive"], 35, pane=9)
    n_removed = [sum(value is None for value in checkpoint(partition, store).values()) for _ in range(8)]
    assert sum(n_removed) == 35
    assert max(n_removed) <= 10
    assert store.values.keys() == {b"alive", PARTITION_KEY}


def test_an_entity_that_lags_behind_the_others_is_not_silent() -> None:
    store = DictStore()
    partition = new_partition(store)
    for i in range(20):
        learn(partition, [b"ahead"], 2 * i, pane=100 + i)
        learn(partition, [b"lagging"], 2 * i + 1, pane=10)
        assert checkpoint(partition, store).get(b"lagging", b"kept") is not None
    slot = partition.find(b"lagging")
    assert partition.columns.window_events[slot] == 20


def test_entities_unused_for_longest_leave_memory_and_come_back_unchanged() -> None:
    store = DictStore()
    partition = new_partition(store, max_entities=100)
    for i in range(300):
        learn(partition, [b"%03d" % i], i, pane=5, value=float(i))
        if i % 10 == 9:
            checkpoint(partition, store)
    assert len(partition) <= 110
    slots = partition.slots_of([b"%03d" % i for i in range(300)])
    assert partition.columns.last_offset[slots].tolist() == list(range(300))
    assert partition.columns.window.mean[slots, 0].tolist() == [float(i) for i in range(300)]


def test_changed_entities_never_leave_memory_before_a_checkpoint_took_them() -> None:
    partition = new_partition(DictStore(), max_entities=10)
    learn(partition, [b"%03d" % i for i in range(100)], 0, pane=5)
    partition.shrink()
    assert len(partition) == 100


def test_another_window_setting_empties_the_window_and_keeps_the_offset() -> None:
    store = DictStore()
    partition = new_partition(store)
    learn(partition, [b"a"], 7, pane=5)
    checkpoint(partition, store)
    other = new_partition(store, n_panes=6)
    slot = other.slots_of([b"a"])[0]
    assert other.columns.last_offset[slot] == 7
    assert other.columns.window_events[slot] == 0
    assert other.columns.newest[slot] == EMPTY


def test_unreadable_stored_state_costs_that_entity_alone(caplog: pytest.LogCaptureFixture) -> None:
    store = DictStore()
    partition = new_partition(store)
    learn(partition, [b"good", b"bad"], 0, pane=5)
    checkpoint(partition, store)
    store.values[b"bad"] = b"garbage"
    partition = new_partition(store)
    slots = partition.slots_of([b"good", b"bad"])
    assert partition.columns.last_offset[slots].tolist() == [0, 1]
    assert partition.columns.window_events[slots].tolist() == [1, 0]
    assert "bad" in caplog.text


def test_finding_makes_no_entity() -> None:
    partition = new_partition(DictStore())
    assert partition.find(b"nobody") is None
    assert len(partition) == 0
    assert partition.find(PARTITION_KEY) is None


def test_stored_values_are_readable_alone() -> None:
    store = DictStore()
    partition = new_partition(store)
    learn(partition, [b"a"], 0, pane=5)
    checkpoint(partition, store)
    assert decode_entity(store.values[b"a"]).features == ("x",)


def test_what_is_held_is_removed_neither_for_silence_nor_for_room() -> None:
    store = DictStore()
    partition = new_partition(store, max_entities=100)
    learn(partition, [b"%03d" % i for i in range(200)], 0, pane=5)
    checkpoint(partition, store)
    learn(partition, [b"ahead"], 200, pane=50)
    slots = partition.slots_of([b"000", b"new"])
    partition.hold(slots)
    assert checkpoint(partition, store).keys() >= {b"%03d" % i for i in range(1, 200)} | {b"ahead"}
    assert b"new" not in store.values
    assert partition.find(b"000") == slots[0]
    assert partition.find(b"new") is None  # it has learnt nothing yet
    assert len(partition) == 3
    partition.let_go()
    partition.watermark += 1
    assert checkpoint(partition, store)[b"000"] is None


def test_only_what_is_marked_is_written() -> None:
    store = DictStore()
    partition = new_partition(store)
    slots = partition.slots_of([b"a", b"b"])
    assert checkpoint(partition, store) == {}
    partition.mark_changed(slots[:1])
    assert checkpoint(partition, store).keys() == {b"a", PARTITION_KEY}
