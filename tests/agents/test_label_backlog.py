"""Labels wait where their events do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from faust.types import TP

from agents import label_backlog
from agents.label_backlog import labels_to_leave
from app.settings import Settings
from tests.agents.recording import NOW_MS, Worker, batch, event, label, labels, record

LABELS = TP("labels", 0)
SETTINGS = Settings(partitions=1)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Return one that has three labels of events that it did not score yet."""
    monkeypatch.setattr(label_backlog, "MANY_EARLY", 3)
    worker = Worker(SETTINGS)
    asyncio.run(worker.labeller.label(labels([label(i, b"pump", i, 1) for i in range(3)])))
    return worker


def left(worker: Worker, events_end: int | None) -> set[TP]:
    table: Any = worker.table
    return labels_to_leave(SETTINGS, table, worker.scorer.next_offsets, lambda number: events_end)


def test_labels_are_left_while_their_events_wait_to_be_scored(worker: Worker) -> None:
    assert left(worker, 3) == {LABELS}
    records = [record(i, b"pump", event(NOW_MS / 1000, a=1.0)) for i in range(3)]
    asyncio.run(worker.scorer.score(batch(records)))
    assert left(worker, 3) == set()


@pytest.mark.parametrize("events_end", [0, None])
def test_labels_of_events_that_are_not_there_keep_no_others_waiting(
    worker: Worker, events_end: int | None
) -> None:
    assert left(worker, events_end) == set()


def test_some_labels_that_wait_are_no_backlog(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_backlog, "MANY_EARLY", 4)
    assert left(worker, 3) == set()
