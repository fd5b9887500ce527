"""What the table of entity states takes for the changelog offset of its store."""

from __future__ import annotations

from typing import Any

import pytest
from faust.types import TP

from app.factory import create_app
from app.settings import Settings
from tables.owner import Owner, read_owner
from tables.reserved import PARTITION_KEY, read_alerts_begin
from tables.statistics import StatisticsTable
from tables.stores import Item


def make_table(**settings: Any) -> StatisticsTable:
    return create_app(Settings(store="memory://", **settings)).statistics


def offset_of(table: StatisticsTable) -> int | None:
    return table.data.persisted_offset(TP(table.changelog_topic_name, 0))


def items(n: int) -> list[Item]:
    return [(b"e%d" % i, b"state") for i in range(n)]


def test_the_store_has_the_changelog_up_to_the_last_record_written() -> None:
    table = make_table()
    table.write(0, items(3), 2)
    assert offset_of(table) == 2
    table.write(0, items(2), 4)
    assert offset_of(table) == 4


@pytest.mark.parametrize("has_some", [True, False])
def test_where_another_worker_wrote_in_between_the_store_stays_behind_that_until_it_is_read(
    has_some: bool, caplog: pytest.LogCaptureFixture
) -> None:
    table = make_table()
    if has_some:
        table.write(0, items(3), 2)
    table.write(0, items(5), 9)  # the first of them is at 5
    table.write(0, items(2), 11)
    assert offset_of(table) == (2 if has_some else -1)
    assert table.data.get_many(0, [b"e4"]) == [b"state"]
    assert len([line for line in caplog.messages if "another worker wrote" in line]) == 1


def test_gaps_that_transactions_leave_are_nobody_s_records() -> None:
    table = make_table(delivery="exactly_once")
    table.write(0, items(3), 2)
    table.write(0, items(2), 5)
    assert offset_of(table) == 5


def test_each_owner_says_where_it_began_and_has_a_term_above_the_one_before() -> None:
    table = make_table()
    first = table.partition(0).owner
    assert first is not None
    assert first.begin == 0
    far = first.term + 10**9  # of a clock that is ahead
    table.write(0, [*items(3), (PARTITION_KEY, b"0 3 300.0 0 %d 0" % far)], 3)
    assert table.partition(0).owner == first
    table.forget()
    partition = table.partition(0)
    assert partition.owner == Owner(far + 1, 4)
    partition.next_label_offset += 1
    assert read_owner(dict(partition.take_changes())[PARTITION_KEY]) == partition.owner


def test_where_transactions_fence_off_no_record_says_who_wrote_it() -> None:
    partition = make_table(delivery="exactly_once").partition(0)
    partition.next_label_offset += 1
    assert read_owner(dict(partition.take_changes())[PARTITION_KEY]) is None


def test_a_term_and_the_begin_of_alerts_outlive_a_time_of_transactions() -> None:
    table = make_table(delivery="exactly_once")
    table.write(0, [(PARTITION_KEY, b"0 3 300.0 0 1700 2 11")], 3)
    partition = table.partition(0)
    partition.next_label_offset += 1
    about = dict(partition.take_changes())[PARTITION_KEY]
    assert read_owner(about) == Owner(1700, 2)
    assert read_alerts_begin(about) == 11


def test_where_alerts_begin_is_written_once_before_anything_else_is() -> None:
    table = make_table()
    partition = table.partition(0)
    assert partition.take_changes() == []
    partition.alerts_begin = 7
    ((key, about),) = partition.take_changes()
    assert (key, read_alerts_begin(about)) == (PARTITION_KEY, 7)
    assert partition.take_changes() == []
    table.write(0, [(key, about)], 0)
    table.forget()
    again = table.partition(0)
    assert (again.alerts_begin, again.next_offset, again.watermark) == (7, 0, partition.watermark)
    assert again.take_changes() == []
