"""A worker that trains without a pause: `faust -A benchmarks.training_worker worker`.

For `benchmarks/training.py`. The process of a training is started, told and ended as the supervisor does it;
what it learns from is a data set, and nothing is published.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from app.main import app
from app.supervision.training_run import TrainingRun

OUTCOMES = "BENCHMARK_TRAININGS"
"""Names the file that takes a line for each training; without it there is none."""


class _Run(TrainingRun):
    def arguments(self) -> list[str]:
        return [
            *(sys.executable, "-m", "faust", "-A", "app", "train", "shuttle"),
            *("--task", "classification", "--no-publish", "--max-events", "20000", "--supervised"),
        ]


async def _train() -> None:
    path = os.environ.get(OUTCOMES)
    while path:
        run = _Run(app.nowcast_settings, "benchmark")
        try:
            await run.run()
        finally:
            with Path(path).open("a") as file:
                file.write(f"{run.outcome}\n")


app.task(_train)
