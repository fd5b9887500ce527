"""Events in blocks that are read before their labels are joined, whatever happens in between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tables import pending, pending_ahead, pending_blocks
from tables.pending import OUTCOMES, Found, Pending
from tests.tables.waiting import CRCS, DELAY, Worker, answered

BETWEEN = st.lists(st.sampled_from(["add", "checkpoint", "take", "expire", "label"]), max_size=6)


def read_ahead(pending: Pending, offsets: list[int]) -> pending_ahead.Ahead:
    ahead = pending.ahead(np.array(offsets, np.int64))
    while ahead.read():
        pass
    return ahead


def outcomes(worker: Worker, found: Found, offsets: list[int], labels: list[str]) -> list[str]:
    crcs = np.array([CRCS[offset % 2] for offset in offsets], np.uint32)
    codes = worker.pending.join(found, labels, np.array(offsets, float), crcs)
    return [OUTCOMES[code] for code in codes.tolist()]


def assert_same(one: Found, other: Found) -> None:
    for name in ("rows", "expired"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("offsets", "record_times", "key_crcs"):
        np.testing.assert_array_equal(getattr(one.answered, name), getattr(other.answered, name))
    assert len(one.answered.versions) == len(other.answered.versions)
    for mine, theirs in zip(one.answered.versions, other.answered.versions, strict=True):
        np.testing.assert_array_equal(mine.scores, theirs.scores)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 70), max_size=30),
    BETWEEN,
    st.lists(st.integers(0, 7), max_size=7),
    st.integers(1, 5),
)
def test_what_was_read_ahead_is_what_is_found_without_it(
    offsets: list[int], between: list[str], part_lengths: list[int], n_read: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pending_blocks, "MAX_BLOCK_ROWS", 3)
        patch.setattr(pending_blocks, "READ_AT_ONCE", 2)
        patch.setattr(pending_ahead, "READ_AHEAD", n_read)
        patch.setattr(pending, "CLOSED_ROWS", 7)
        worker, first, taken = Worker(), 0, None
        for n in (5, 8, 1):
            worker.add(answered([first + i for i in range(n) if i % 4 != 2]))
            first += n
            worker.checkpoint()
        worker.add(answered([first, first + 1]))
        ahead = worker.pending.ahead(np.array(offsets, np.int64))
        for step in [*between, "read", "read", "end"]:
            ahead.read()
            if step == "add":
                first += 5
                worker.add(answered([first, first + 2, first + 3]))
            elif step == "checkpoint" and taken is None:
                worker.checkpoint()
            elif step == "take" and taken is None:
                taken = worker.take()
            elif step == "expire":
                worker.pending.expire(4 + DELAY)
            elif step == "label":
                worker.label([1, first], ["a", "b"])
        while ahead.read():
            pass
        if taken is not None:
            worker.finish(taken)
        start = 0
        for n in [*part_lengths, len(offsets)]:
            part = np.array(offsets[start : start + n], np.int64)
            assert_same(worker.pending.find(part, ahead), worker.pending.find(part))
            start += n


def test_an_event_that_expires_after_it_was_read_is_late() -> None:
    worker = Worker()
    worker.add(answered([5, 6]))
    worker.checkpoint()
    ahead = read_ahead(worker.pending, [5])
    worker.pending.expire(7 + DELAY)
    found = worker.pending.find(np.array([5]), ahead)
    assert outcomes(worker, found, [5], ["a"]) == ["late"]


def test_events_that_came_into_blocks_after_the_reading_began_are_found() -> None:
    worker = Worker()
    worker.add(answered([5, 6]))
    worker.checkpoint()
    worker.add(answered([8, 9]))
    ahead = read_ahead(worker.pending, [5, 9, 11])
    worker.checkpoint()
    worker.add(answered([11]))
    found = worker.pending.find(np.array([11, 9, 5, 9]), ahead)
    assert outcomes(worker, found, [11, 9, 5, 9], ["a", "a", "a", "b"]) == ["joined"] * 3 + ["contradicting"]


def test_each_block_of_a_batch_is_read_once_whatever_the_order_of_labels() -> None:
    worker = Worker()
    for first in range(0, 1_000, 100):
        worker.add(answered(list(range(first, first + 100))))
        worker.checkpoint()
    worker = Worker(worker.store)
    asked: list[bytes] = []
    read = worker.store.get_many

    def get_many(partition: int, keys: list[bytes]) -> list[bytes | None]:
        asked.extend(key for key in keys if key.startswith(pending_blocks.EVENTS))
        return read(partition, keys)

    worker.store.get_many = get_many
    offsets = np.random.default_rng(1).permutation(1_000)
    ahead = read_ahead(worker.pending, offsets.tolist())
    for first in range(0, 1_000, 50):
        found = worker.pending.find(offsets[first : first + 50], ahead)
        assert found.answered.versions[0].scores.tolist() == sorted(offsets[first : first + 50])
    assert len(asked) == 10


def test_blocks_that_are_closed_before_their_checkpoint_are_the_ones_it_would_have_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pending_blocks, "MAX_BLOCK_ROWS", 10)
    written = []
    for n_open in (1_000, 25):
        monkeypatch.setattr(pending, "CLOSED_ROWS", n_open)
        worker = Worker()
        for first in range(0, 200, 8):
            worker.add(answered(list(range(first, first + 7))), own_labels={3: "a"})
            assert worker.label([first, first + 7, 0], ["a", "a", "b"])[1] == "unknown"
        everything = list(range(200))
        assert worker.scores(everything) == [None if i % 8 == 7 else float(i) for i in everything]
        written.append(worker.checkpoint())
        assert worker.scores(everything) == [None if i % 8 == 7 else float(i) for i in everything]
    assert written[0] == written[1]


def test_an_event_that_cannot_be_read_costs_its_block_alone(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    for first in (0, 10, 20):
        worker.add(answered([first, first + 1]))
        worker.checkpoint()
    key = sorted(key for key in worker.store.values if key.startswith(pending_blocks.EVENTS))[1]
    value = bytearray(worker.store.values[key])
    value[-32:-24] = np.float64(np.nan).tobytes()  # before key crcs and two numbers of two events
    worker.store.values[key] = bytes(value)
    worker = Worker(worker.store)
    for _ in range(2):
        assert worker.scores([0, 1, 10, 11, 20, 21]) == [0.0, 1.0, None, None, 20.0, 21.0]
    assert caplog.text.count("1 blocks of events cannot be read") == 1
    assert "record_times: must be finite" in caplog.text
