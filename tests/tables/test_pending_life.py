"""Events, labels, checkpoints and crashes in any order: what a slow, obvious version says."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from compute.label_marks import mark_of
from tables import pending, pending_blocks
from tables.early_labels import EARLY, EarlyLabel
from tables.pending_blocks import EVENTS, MARKS
from tables.stores import Item
from tests.fuzz.amount import amount
from tests.tables.waiting import DELAY, KEYS, DictStore, Worker, answered


@dataclass
class Naive:
    """Everything in dicts, one label at a time."""

    scores: dict[int, float] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)
    blocks: list[list[int]] = field(default_factory=list)
    early: dict[int, EarlyLabel] = field(default_factory=dict)
    below: int = 0
    floor: float = -math.inf
    next_offset: int = 0
    next_label: int = 0

    def label(self, offset: int, label: str, time: float, key: bytes) -> str:
        if offset not in self.scores:
            return "late" if offset < self.below else "unknown"
        if key != KEYS[offset % 2]:
            return "unknown"
        if time - self.times[offset] > DELAY:
            return "late"
        if offset not in self.labels:
            self.labels[offset] = label
            return "joined"
        return "repeated" if self.labels[offset] == label else "contradicting"

    def remove_older(self, time: float) -> None:
        for block in list(self.blocks):
            if max(self.times[offset] for offset in block) < time:
                self.blocks.remove(block)
                self.below, self.floor = max(self.below, block[-1] + 1), max(self.floor, time)
                for offset in block:
                    del self.scores[offset]
                    self.labels.pop(offset, None)

    def close(self) -> None:
        self.blocks += [self.open[i : i + 3] for i in range(0, len(self.open), 3)]
        self.open = []
        self.remove_older(self.floor)

    def take_early(self, next_offset: int) -> list[EarlyLabel]:
        taken = [label for label in self.early.values() if label.offset < next_offset]
        self.early = {source: label for source, label in self.early.items() if label not in taken}
        return taken

    def drop_early(self, time: float) -> list[EarlyLabel]:
        dropped = [label for label in self.early.values() if label.record_time < time - DELAY]
        self.early = {source: label for source, label in self.early.items() if label not in dropped}
        return dropped


OTHER_KEY = st.sampled_from([0, 0, 0, 1])


class Life(RuleBasedStateMachine):
    """A partition's life: events, labels, checkpoints under way, crashes at any point of them."""

    @initialize()
    def begin(self) -> None:
        self.worker = Worker()
        self.naive, self.durable = Naive(), Naive()
        self.taken: tuple[list[Item], Naive] | None = None
        self.n_scores = 0
        self.clock = 0.0

    def join(self, offsets: list[int], labels: list[str], times: list[float], keys: list[bytes]) -> None:
        expected = [self.naive.label(*record) for record in zip(offsets, labels, times, keys, strict=True)]
        assert self.worker.scores(offsets) == [self.naive.scores.get(offset) for offset in offsets]
        assert self.worker.label(offsets, labels, times, keys) == expected
        self.worker.next_label = self.naive.next_label  # counted where they are drawn

    @rule(
        gaps=st.lists(st.sampled_from([0, 0, 0, 1, 3]), min_size=1, max_size=7),
        delays=st.lists(st.sampled_from([0, 0, 10, -10, -150]), min_size=7, max_size=7),
        own=st.dictionaries(st.integers(0, 6), st.sampled_from("ab"), max_size=2),
    )
    def add(self, gaps: list[int], delays: list[int], own: dict[int, str]) -> None:
        offsets = [self.naive.next_offset + i + sum(gaps[: i + 1]) for i in range(len(gaps))]
        times = [self.clock + delay for delay in delays[: len(gaps)]]
        scores = [float(self.n_scores + i) for i in range(len(gaps))]
        self.n_scores += len(gaps)
        own = {row: label for row, label in own.items() if row < len(gaps)}
        self.worker.add(answered(offsets, times, scores), own)
        self.naive.open += offsets
        self.naive.scores.update(zip(offsets, scores, strict=True))
        self.naive.times.update(zip(offsets, times, strict=True))
        self.naive.labels.update({offsets[row]: label for row, label in own.items()})
        self.naive.next_offset = self.worker.next_offset
        early = self.naive.take_early(self.naive.next_offset)
        assert self.worker.pending.take_early(self.worker.next_offset) == early
        labels, keys = [label.value.decode() for label in early], [label.key for label in early]
        self.join([label.offset for label in early], labels, [label.record_time for label in early], keys)

    @rule(
        records=st.lists(
            st.tuples(
                st.integers(-3, 30), st.sampled_from("ab"), st.sampled_from([-5, 0, 0, 90, 101]), OTHER_KEY
            ),
            min_size=1,
            max_size=8,
        )
    )
    def label(self, records: list[tuple[int, str, int, int]]) -> None:
        now: list[tuple[int, str, float, bytes]] = []
        for back, label, delay, other in records:
            offset = max(self.naive.next_offset - 1 - back, 0)
            key, time = KEYS[(offset + other) % 2], self.naive.times.get(offset, self.clock) + delay
            if offset < self.naive.next_offset:
                now.append((offset, label, time, key))
            else:
                early = EarlyLabel(offset, self.naive.next_label, time, key, label.encode(), [])
                assert self.worker.pending.hold_early(early)
                self.naive.early[early.source_offset] = early
            self.naive.next_label += 1
        if now:
            offsets, labels, times, keys = (list(column) for column in zip(*now, strict=True))
            self.join(offsets, labels, times, keys)
        self.worker.next_label = self.naive.next_label

    @rule(seconds=st.sampled_from([1, 20, 90, 120]))
    def expire(self, seconds: int) -> None:
        self.clock += seconds
        self.worker.pending.expire(self.clock)
        self.naive.remove_older(self.clock - DELAY)
        assert self.worker.pending.drop_early(self.clock) == self.naive.drop_early(self.clock)
        self.naive.next_label += 1  # time moves on with a record only
        self.worker.next_label = self.naive.next_label

    @precondition(lambda self: self.taken is None)
    @rule()
    def take(self) -> None:
        self.naive.close()
        self.taken = self.worker.take(), copy.deepcopy(self.naive)

    @precondition(lambda self: self.taken is not None)
    @rule()
    def finish(self) -> None:
        assert self.taken is not None
        items, self.durable = self.taken
        self.worker.finish(items)
        self.taken = None

    @rule()
    def checkpoint(self) -> None:
        if self.taken is None:
            self.take()
        self.finish()

    @rule(part=st.floats(0, 1), keeps_store=st.booleans())
    def crash(self, part: float, keeps_store: bool) -> None:
        arrived: list[Item] = []
        if self.taken is not None:
            items, then = self.taken
            arrived = items[: round(part * len(items))]
            if len(arrived) == len(items):
                self.durable = then
        log = [*self.worker.log, *arrived]
        store = self.worker.store if keeps_store else DictStore()
        for key, value in arrived if keeps_store else log:
            store.write(0, [(key, value)], 0)
        self.worker = Worker(store)
        self.worker.log = log
        self.taken, self.naive = None, copy.deepcopy(self.durable)
        assert self.worker.next_offset == self.naive.next_offset
        assert self.worker.next_label == self.naive.next_label

    @invariant()
    def knows_what_the_naive_one_knows(self) -> None:
        naive, pending = self.naive, self.worker.pending
        offsets = list(range(naive.next_offset + 3))
        found = pending.find(np.array(offsets))
        assert self.worker.scores(offsets) == [naive.scores.get(offset) for offset in offsets]
        gone = [offset for offset in offsets if offset not in naive.scores and offset < naive.below]
        assert np.flatnonzero(found.expired).tolist() == gone
        marks = [mark_of(naive.labels[at]) if at in naive.labels else 0 for at in sorted(naive.scores)]
        assert pending._marks.known(found.answered.offsets).tolist() == marks
        assert list(pending._early._waiting.values()) == list(naive.early.values())
        assert pending.n_blocks == len(naive.blocks)

    def teardown(self) -> None:
        if self.taken is not None:
            self.finish()
        self.naive.close()
        for _ in range(3):
            self.worker.checkpoint()
        values = self.worker.store.values
        events, marks = (
            {key[len(prefix) :] for key in values if key.startswith(prefix)} for prefix in (EVENTS, MARKS)
        )
        assert events == marks
        assert len(marks) == len(self.naive.blocks)
        n_early = sum(key.startswith(EARLY) for key in values)
        assert n_early == len(self.naive.early)


class TestLife(Life.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(amount(150), stateful_step_count=40)

    @pytest.fixture(autouse=True)
    def _small_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pending_blocks, "MAX_BLOCK_ROWS", 3)


class TestLifeWithBlocksThatAreClosedEarly(Life.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(amount(75), stateful_step_count=40)

    @pytest.fixture(autouse=True)
    def _small_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pending_blocks, "MAX_BLOCK_ROWS", 3)
        monkeypatch.setattr(pending, "CLOSED_ROWS", 5)
