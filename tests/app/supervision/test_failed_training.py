"""What the supervisor does after a training that failed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from app.settings import Settings
from app.supervision import supervisor as supervision
from app.supervision.report import Report
from app.supervision.supervisor import Supervisor
from app.supervision.triggers import DRIFT_LABELS, FIRST_PAUSE_SECONDS

FIRING = {"partition": 0, "rule": "error-drift", "state": "firing", "since": 1_700_000_000.0}


class Run:
    """Stands in for a training; it ends as told."""

    all: ClassVar[list[Run]] = []
    outcomes: ClassVar[list[str]] = []

    def __init__(self, settings: Any, reason: str, since: float | None) -> None:
        self.since, self.is_running, self.outcome = since, True, ""
        self.all.append(self)

    async def run(self) -> None:
        await asyncio.sleep(0)
        self.is_running, self.outcome = False, self.outcomes.pop(0)


@pytest.mark.parametrize("outcome", ["ended with code -9", "was given up after 60 s", "was lost: OSError()"])
def test_a_drift_is_learnt_from_by_the_next_training_that_succeeds(
    monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    monkeypatch.setattr(supervision, "TrainingRun", Run)
    monkeypatch.setattr(Run, "all", [])
    monkeypatch.setattr(Run, "outcomes", [outcome, "succeeded"])
    clock = [1_700_000_100.0]
    monkeypatch.setattr(supervision, "time", SimpleNamespace(time=lambda: clock[0]))
    settings = Settings(train_task="classification", train_on_drift=True)
    models = SimpleNamespace(describe_decisions=lambda name: [])
    supervisor = Supervisor(SimpleNamespace(nowcast_settings=settings, models=models))

    async def look(n_labels: int) -> int:
        report = Report(drift=[FIRING])
        report.labels["joined"] = n_labels
        supervisor._consider_training(report)
        if supervisor._training is not None:
            await supervisor._training
        return len(Run.all)

    async def test() -> list[int]:
        found = [await look(0), await look(DRIFT_LABELS), await look(DRIFT_LABELS)]
        for seconds in (FIRST_PAUSE_SECONDS, 10_000.0, 10_000.0):
            clock[0] += seconds
            found.append(await look(10 * DRIFT_LABELS))
        return found

    assert asyncio.run(test()) == [0, 1, 1, 2, 2, 2]
    assert [run.since for run in Run.all] == [FIRING["since"]] * 2
