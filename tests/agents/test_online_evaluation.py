"""That what is told of the online learner depends on events and labels, and not on where batches end."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.settings import Settings
from tables.learning import ONLINE, Evaluated, Learning
from tests.agents.recording import NOW_MS, Worker, batch, label, labels, record

N_EVENTS = 90
T0 = NOW_MS / 1000 - 10_000
ROWS = np.random.default_rng(1).normal(size=(N_EVENTS, 2))
TRUTH = {
    "classification": [int(value > 0) for value in ROWS[:, 0]],
    "regression": [round(float(value), 3) for value in ROWS @ [3.0, -1.0]],
}


def stream(task: str, told: list[bool]) -> list[Any]:
    records = []
    for i, (is_told, (a, b)) in enumerate(zip(told, ROWS.tolist(), strict=False)):
        own = {"label": TRUTH[task][i]} if is_told else {}
        value = {"timestamp": T0 + i, "features": {"a": a, "b": b}, **own}
        records.append(record(i, b"pump-%d" % (i % 3), json.dumps(value).encode()))
    return records


def learn(task: str, told: list[bool], ends: set[int], **changed: Any) -> tuple[Worker, Learning]:
    """Score events of which some have a label, in batches that end at these places; tell the others later."""
    worker = Worker(Settings(partitions=1, online_task=task, **changed))
    records, edges = stream(task, told), sorted({0, len(told), *ends})

    async def go() -> None:
        for start, end in pairwise(edges):
            await worker.scorer.score(batch(records[start:end]))
        later = [i for i, is_told in enumerate(told) if not is_told]
        answers = [label(n, b"pump-%d" % (i % 3), i, TRUTH[task][i]) for n, i in enumerate(later)]
        if answers:
            await worker.labeller.label(labels(answers))

    asyncio.run(go())
    found = worker.table.partition(0).learning
    assert found is not None
    return worker, found


def described(found: Learning) -> dict[str, Any]:
    assert found.online is not None
    evaluation = found.evaluations.get(Evaluated(ONLINE, found.online.version))
    pairs = [item.describe() for pair, item in found.comparisons.items() if pair.challenger_model == ONLINE]
    return {"evaluation": evaluation and evaluation.describe()["since_start"], "compared": pairs}


@pytest.mark.parametrize("task", ["classification", "regression"])
@given(
    st.lists(st.booleans(), min_size=1, max_size=N_EVENTS),
    st.sets(st.integers(1, N_EVENTS - 1), max_size=12),
)
@hypothesis_settings(deadline=None, max_examples=40)
def test_batches_of_any_size_give_the_same_evaluation(task: str, told: list[bool], ends: set[int]) -> None:
    n = len(told)
    _, one_by_one = learn(task, told, set(range(n)))
    _, in_batches = learn(task, told, {end for end in ends if end < n})
    assert close(described(in_batches), described(one_by_one))


def close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return all(close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        return bool(one == pytest.approx(other, rel=1e-4, abs=1e-6))
    return bool(one == other)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_in_a_first_batch_all_events_behind_the_first_label_are_evaluated(task: str) -> None:
    told = [i >= 10 for i in range(N_EVENTS)]
    _, found = learn(task, told, set())
    n_labels = described(found)["evaluation"]["n_labels"]
    assert n_labels == N_EVENTS - 11  # those before it, and its own event, met a learner that knew nothing


def test_a_learner_that_is_to_serve_serves_from_the_batch_behind_its_first_label_on() -> None:
    told = [i >= 10 for i in range(N_EVENTS)]
    worker, found = learn("classification", told, {40}, model=ONLINE)
    models = [prediction["model"] for prediction in worker.predictions()]
    assert models == [*["detector"] * 40, *[ONLINE] * (N_EVENTS - 40)]
    assert described(found)["evaluation"]["n_labels"] == N_EVENTS - 11
