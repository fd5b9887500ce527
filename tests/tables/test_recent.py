"""The last predictions of an entity in memory."""

from __future__ import annotations

import numpy as np

from tables.recent import N_RECENT, RecentPredictions


def add(recent: RecentPredictions, slots: list[int], first_offset: int, version: str = "1") -> None:
    n = len(slots)
    recent.add(
        np.array(slots, np.int64),
        np.arange(first_offset, first_offset + n),
        np.arange(n) * 1.0,
        np.zeros(n),
        np.arange(first_offset, first_offset + n),
        np.zeros(n, np.bool_),
        ("model", version),
    )


def test_each_entity_keeps_its_newest_whatever_the_batches() -> None:
    rng = np.random.default_rng(1)
    slots = rng.integers(0, 3, 200).tolist()
    recent, offset = RecentPredictions(), 0
    recent.grow(3)
    for size in (1, 50, 3, 100, 46):
        add(recent, slots[offset : offset + size], offset)
        offset += size
    for slot in range(3):
        expected = [i for i in range(200) if slots[i] == slot][::-1][:N_RECENT]
        assert [item["offset"] for item in recent.newest_first(slot)] == expected
        assert [item["prediction"] for item in recent.newest_first(slot)] == expected


def test_a_prediction_keeps_the_version_that_made_it() -> None:
    recent = RecentPredictions()
    recent.grow(1)
    add(recent, [0], 0, "1")
    add(recent, [0], 1, "2")
    assert [item["version"] for item in recent.newest_first(0)] == ["2", "1"]


def test_a_slot_given_to_another_entity_shows_nothing_of_the_first() -> None:
    recent = RecentPredictions()
    recent.grow(1)
    add(recent, [0, 0], 0)
    recent.clear(np.array([0]))
    assert recent.newest_first(0) == []


def test_growing_keeps_what_is_there() -> None:
    recent = RecentPredictions()
    recent.grow(1)
    add(recent, [0], 5)
    recent.grow(100)
    add(recent, [99], 6)
    assert recent.newest_first(0)[0]["offset"] == 5
    assert recent.newest_first(99)[0]["offset"] == 6
