"""Both stores keep the same promises."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP

from tables.stores import STORES


@pytest.fixture(params=["rocksdb", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    app = faust.App("test-stores", datadir=tmp_path, store="memory://")
    table = SimpleNamespace(
        name="statistics",
        changelog_topic=SimpleNamespace(topics=["changelog"]),
        is_global=False,
        use_partitioner=False,
    )
    made = STORES[request.param](f"{request.param}://", app, table, table_name="statistics")
    (tmp_path / "tables").mkdir(parents=True, exist_ok=True)
    return made


def record(partition: int, key: bytes, value: bytes | None, offset: int) -> Any:
    tp = TP("changelog", partition)
    return SimpleNamespace(
        message=SimpleNamespace(tp=tp, partition=partition, key=key, value=value, offset=offset)
    )


def test_what_is_written_is_read_by_partition(store: Any) -> None:
    store.write(0, [(b"a", b"1"), (b"b", b"2")], 7)
    store.write(1, [(b"a", b"3")], 9)
    assert store.get_many(0, [b"b", b"none", b"a"]) == [b"2", None, b"1"]
    assert store.get_many(1, [b"a", b"b"]) == [b"3", None]


def test_none_deletes(store: Any) -> None:
    store.write(0, [(b"a", b"1"), (b"b", b"2")], 1)
    store.write(0, [(b"a", None), (b"never", None)], 3)
    assert store.get_many(0, [b"a", b"b"]) == [None, b"2"]


def test_a_scan_goes_on_after_a_key_and_shows_entities_only(store: Any) -> None:
    store.write(0, [(b"%03d" % i, b"x") for i in range(10)], 9)
    first = store.scan(0, b"", 4)
    assert [key for key, _ in first] == [b"000", b"001", b"002", b"003"]
    rest = store.scan(0, first[-1][0], 100)
    assert [key for key, _ in rest] == [b"%03d" % i for i in range(4, 10)]


def test_recovery_applies_records_in_order_a_tombstone_and_a_value_after_it_too(store: Any) -> None:
    store.apply_changelog_batch(
        [
            record(0, b"a", b"1", 0),
            record(0, b"a", None, 1),
            record(0, b"a", b"2", 2),
            record(0, b"b", b"1", 3),
            record(0, b"b", None, 4),
            record(1, b"a", b"other", 0),
        ],
        to_key=None,
        to_value=None,
    )
    assert store.get_many(0, [b"a", b"b"]) == [b"2", None]
    assert store.get_many(1, [b"a"]) == [b"other"]


def test_the_changelog_offset_is_kept_with_the_items_and_goes_with_them(store: Any) -> None:
    assert store.persisted_offset(TP("changelog", 2)) is None
    store.write(2, [(b"a", b"1")], 41)
    assert store.persisted_offset(TP("changelog", 2)) == 41


def test_a_partition_that_left_memory_is_read_from_its_beginning_when_it_comes_back(tmp_path: Any) -> None:
    app = faust.App("test-memory", datadir=tmp_path, store="memory://")
    table = SimpleNamespace(name="statistics", changelog_topic=SimpleNamespace(topics=["changelog"]))
    store = STORES["memory"]("memory://", app, table, table_name="statistics")
    store.write(2, [(b"a", b"1")], 41)
    asyncio.run(store.on_rebalance(set(), {TP("changelog", 2)}, set()))
    assert store.persisted_offset(TP("changelog", 2)) is None
    assert store.get_many(2, [b"a"]) == [None]
