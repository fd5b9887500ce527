"""Labels that events bring themselves, where they are none or cannot be judged by."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from app.settings import Settings
from compute.artefact import load_artefact
from tables.learning import Evaluated, Learning
from tests.agents.recording import NOW_MS, Worker, batch, label, labels, record
from tests.artefacts import MAX_BYTES, artefact, logistic

T0 = NOW_MS / 1000 - 10_000
MODEL = load_artefact(*logistic([1.0, 0.3], name="pump"), max_bytes=MAX_BYTES)
NUMBERS = load_artefact(
    *artefact([1.0, 0.3], name="cost", normaliser="none", features=["a", "b"]), max_bytes=MAX_BYTES
)

ROWS = np.random.default_rng(1).normal(size=(3, 2))
NOT_LABELS = ["", "x" * 5_000, 10**250, [1], {"y": 1}]


def events_with(told: list[Any]) -> Any:
    records = []
    for i, ((a, b), own) in enumerate(zip(ROWS.tolist(), told, strict=False)):
        value = {"timestamp": T0 + i, "features": {"a": a, "b": b}, "label": own}
        records.append(record(i, b"pump", json.dumps(value).encode()))
    return batch(records)


def learning(worker: Worker) -> Learning:
    found = worker.table.partition(0).learning
    assert found is not None
    return found


@pytest.mark.parametrize("own", NOT_LABELS, ids=lambda own: str(own)[:5])
def test_an_own_label_that_is_none_is_left_out_and_counted_and_a_later_one_joined(own: Any) -> None:
    worker = Worker(Settings(partitions=1, online_task="classification"), model=MODEL)

    async def go() -> None:
        await worker.scorer.score(events_with([own, 1, own]))
        assert learning(worker).counts == Counter(invalid=2, joined=1)
        await worker.labeller.label(labels([label(0, b"pump", 0, 1)]))

    asyncio.run(go())
    assert len(worker.predictions()) == 3
    assert not worker.dead_letters()
    assert learning(worker).counts == Counter(invalid=2, joined=2)
    (evaluation,) = [one for about, one in learning(worker).evaluations.items() if about.model == "pump"]
    assert evaluation.n_labels == 2


@pytest.mark.parametrize("told", [1e61, -1e300, True, "12"])
@pytest.mark.parametrize("is_own", [True, False])
def test_what_is_no_number_to_measure_in_is_joined_and_not_evaluated_for_a_regression(
    told: Any, is_own: bool
) -> None:
    worker = Worker(Settings(partitions=1), model=NUMBERS)

    async def go() -> None:
        await worker.scorer.score(events_with([told if is_own else None, 3.5]))
        if not is_own:
            await worker.labeller.label(labels([label(0, b"pump", 0, told)]))

    asyncio.run(go())
    assert learning(worker).counts["joined"] == 2
    assert learning(worker).evaluations[Evaluated("cost", NUMBERS.version)].n_labels == 1
