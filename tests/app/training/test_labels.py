from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.training.labels import FirstLabels
from tests.agents.recording import NOW_MS, event, label, record

DELAY_MS = 60_000


def labels_of(*records: Any, n_most: int = 100) -> FirstLabels:
    found = FirstLabels("events", DELAY_MS / 1_000, n_most)
    found.add(records)
    return found


def asked(offset: int, key: bytes = b"a") -> Any:
    return record(offset, key, event(0))


def test_the_first_label_counts() -> None:
    found = labels_of(label(0, b"a", 7, "one"), label(1, b"a", 7, "two"), label(2, b"a", 8, 2.5))
    assert [found.find(asked(offset)) for offset in (7, 8, 9)] == ["one", 2.5, None]


@pytest.mark.parametrize(("late_ms", "is_found"), [(-5_000, True), (DELAY_MS, True), (DELAY_MS + 1, False)])
def test_a_label_counts_until_the_delay_is_over(late_ms: int, is_found: bool) -> None:
    found = labels_of(label(0, b"a", 7, "x", record_ms=NOW_MS + late_ms))
    assert (found.find(asked(7)) is not None) == is_found
    assert found.n_late == (not is_found)


def test_a_later_label_does_not_stand_in_for_a_late_one() -> None:
    found = labels_of(label(0, b"a", 7, "x", record_ms=NOW_MS + DELAY_MS + 1), label(1, b"a", 7, "y"))
    assert found.find(asked(7)) is None


def test_a_label_of_another_entity_is_none() -> None:
    assert labels_of(label(0, b"b", 7, "x")).find(asked(7)) is None


def test_a_label_with_another_key_does_not_stand_in_the_way_of_the_right_one() -> None:
    found = labels_of(label(0, b"b", 7, "x"), label(1, b"a", 7, "y"), label(2, b"a", 7, "z"))
    assert found.find(asked(7)) == "y"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"id": "events-0-7"}',
        b'{"id": 7, "label": 1}',
        b'{"id": "events-0-7", "label": null}',
        b'{"id": "events-0-7", "label": [1]}',
        b'{"id": "other-0-7", "label": 1}',
        b'{"id": "events-1-7", "label": 1}',
        b'{"id": "events-0-x", "label": 1}',
        b'{"id": "7", "label": 1}',
        b'{"id": "events-0-07", "label": 1}',
        b'{"id": "events-0-7", "label": ""}',
        b'{"id": "events-0-7", "label": "%s"}' % (b"x" * 201),
        None,
    ],
)
def test_what_is_no_label_of_these_events_is_counted(value: bytes | None) -> None:
    found = labels_of(SimpleNamespace(partition=0, key=b"a", value=value, timestamp=NOW_MS))
    assert (len(found), found.n_unreadable) == (0, 1)


def test_labels_of_the_newest_events_are_held_and_no_more() -> None:
    order = [*range(500), *range(250, 400)]
    found = FirstLabels("events", DELAY_MS / 1_000, n_most=50)
    for number, offset in enumerate(order):
        found.add([label(number, b"a", offset, number)])
        assert len(found) < 100
    held = {offset: found.find(asked(offset)) for offset in range(500)}
    assert [held[offset] for offset in range(450, 500)] == list(range(450, 500))
    assert found.n_forgotten == sum(told is None for told in held.values()) > 400
    # A second label of an event whose first one was let go is not taken for a first one.
    assert all(told in (None, offset) for offset, told in held.items())


def test_labels_of_events_that_are_not_read_are_not_held() -> None:
    found = FirstLabels("events", DELAY_MS / 1_000, n_most=50)
    found.begin_at(0, 100)
    found.add([label(offset, b"a", offset, 1) for offset in range(103)])
    assert len(found) == 3
