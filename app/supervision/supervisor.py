"""The supervisor: every few seconds one worker looks at what all have learnt, and does what follows.

It is the worker that holds partition 0 of the events, so there is one, or for the moments of a rebalance two;
what they do is the same done twice (a promotion to what serves already is none). It publishes evaluations,
promotes by rule, and starts trainings. Owns the order; who is asked is in `report.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

import msgspec

from app.supervision.report import BUILT_IN, Report, describe_evaluations, gather, verdict
from app.supervision.training_run import TrainingRun
from app.supervision.triggers import Triggers
from app.web.health import why_not_ready
from tables.learning import Compared, Evaluated
from tables.promotion import promote, retire

log = logging.getLogger(__name__)

BY = "supervisor"

N_HISTORY = 600
"""Looks whose metrics are remembered for views."""


class Supervisor:
    """Looks after models on behalf of all workers.

    Parameters
    ----------
    app : App
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._settings = app.nowcast_settings
        self._triggers = Triggers(self._settings)
        self._history: deque[dict[str, Any]] = deque(maxlen=N_HISTORY)
        self._run: TrainingRun | None = None
        self._looking: asyncio.Task[None] | None = None
        self._training: asyncio.Task[None] | None = None
        self._looked_at: float | None = None
        self._is_ending = False
        self._published: dict[Evaluated, int] = {}

    async def start(self) -> None:
        """Begin to look."""
        self._looking = asyncio.create_task(self._look_on(), name="supervisor")

    async def stop(self) -> None:
        """Stop looking; a training that is under way ends."""
        if self._looking is not None:
            self._looking.cancel()
        self._end_training()
        tasks = [task for task in (self._looking, self._training) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._looking = self._training = None

    @property
    def is_in_charge(self) -> bool:
        """Whether this worker is the one that supervises."""
        return not why_not_ready(self._app) and 0 in self._app.statistics.held()

    def describe(self) -> dict[str, Any]:
        """Return what this worker did as supervisor, for views."""
        running = self._run is not None and self._run.is_running
        return {
            "looked_at": self._looked_at,
            "history": list(self._history),
            "training": {
                "task": self._settings.train_task,
                "state": "running" if running else "idle",
                "last": None if self._run is None else self._run.describe(),
            },
        }

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(self._settings.evaluation_seconds)
            try:
                if self.is_in_charge:
                    await self.look()
                elif self._looked_at is not None:
                    self._hand_over()
            except Exception:  # whatever it is, models serve on, and the next look may go well
                log.exception("the supervisor's look failed, it will look again")

    def _hand_over(self) -> None:
        """Forget what only who is in charge may act on: another one is."""
        self._looked_at = None
        self._triggers = Triggers(self._settings)
        self._end_training()

    def _end_training(self) -> None:
        if self._training is not None and not self._is_ending:
            self._is_ending = True  # once: a second time would interrupt the waiting for its end
            self._training.cancel()

    async def look(self) -> None:
        """Look once."""
        report = await gather(self._app)
        self._looked_at = time.time()
        await self._publish(report)
        if report.unanswered or report.numbers != list(range(self._settings.partitions)):
            return  # a worker recovers: what it has learnt must not be missing where we decide
        if self._settings.promotion == "by_rule":
            await self._promote(report)
        await self._retire_outdated()
        self._consider_training(report)

    async def _publish(self, report: Report) -> None:
        now = time.time()
        for row in describe_evaluations(self._app.models, report):
            about = Evaluated(row["model"], row["version"], row["group"])
            n_labels = report.evaluations[about].n_labels
            if self._published.get(about) == n_labels:
                continue
            value = msgspec.json.encode({**row, "timestamp": now})
            await self._app.producer.send(
                self._settings.topic_evaluations, row["model"].encode(), value, None, None, []
            )
            self._published[about] = n_labels
            if not row["group"]:
                self._remember(now, row)

    def _remember(self, now: float, row: dict[str, Any]) -> None:
        kept = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "rmse", "mae", "n_labels")
        window = {name: row["window"].get(name) for name in kept if name in row["window"]}
        self._history.append(
            {"time": now, "model": row["model"], "version": row["version"], "role": row["role"], **window}
        )

    async def _promote(self, report: Report) -> None:
        champion = self._app.models.serving
        for challenger in self._app.models.challengers:
            for about, comparison in report.comparisons.items():
                number = self._app.models.number_challengers(about.champion).get(challenger.version)
                if number is None or not _is_of(about, champion, challenger):
                    continue
                better, evidence = verdict(comparison, self._settings, number)
                if better and not self._was_champion(challenger.version):
                    outcome = await promote(
                        self._settings,
                        challenger.name,
                        challenger.version,
                        by=BY,
                        reason=f"better than {about.model} {about.champion} on the same labelled events",
                        evidence=evidence,
                        over="" if champion is None else champion.version,
                    )
                    log.info("promotion by rule: %s", outcome.message)
                    return

    async def _retire_outdated(self) -> None:
        """Let go of what was trained here, never served, and has no place among the challengers any more."""
        models, name = self._app.models, self._settings.train_name
        for decision in models.describe_decisions(name) if self._settings.train_task else ():
            version = decision["version"]
            if decision["action"] == "challenge" and models.role_of(version) == "waiting":
                await retire(self._settings, name, version, by=BY, reason="newer ones challenge")
                return

    def _was_champion(self, version: str) -> bool:
        """Tell whether a version served once: whoever took it back knew more than the rule does."""
        return any(
            decision["version"] == version and decision["action"] in ("promote", "rollback")
            for decision in self._app.models.describe_decisions()
        )

    def _consider_training(self, report: Report) -> None:
        since_training, last = report.n_labels, None
        newest = self._newest_trained()
        if newest is not None:
            evaluation = report.evaluations.get(Evaluated(self._settings.train_name, newest["version"]))
            since_training = 0 if evaluation is None else evaluation.n_labels
            last = newest["at"]
        if self._run is not None and not self._run.is_running:
            self._triggers.ended(self._run.outcome == "succeeded", time.time())
        due = self._triggers.look(time.time(), report.n_labels, since_training, last, report.drift)
        if self._run is not None and self._run.is_running:
            if self._triggers.has_drifted and self._run.since is None:
                self._end_training()  # what it learns is the world before
        elif due is not None:
            self._triggers.begun(report.n_labels, time.time())
            self._run = TrainingRun(self._settings, due.reason, due.since)
            self._is_ending = False
            self._training = asyncio.create_task(self._run.run(), name="training")

    def _newest_trained(self) -> Any:
        """Return the decision that brought the last version that was trained, None before the first."""
        decisions = self._app.models.describe_decisions(self._settings.train_name)
        return next((d for d in decisions if d["action"] in ("challenge", "promote")), None)


def _is_of(about: Compared, champion: Any, challenger: Any) -> bool:
    """Tell whether a comparison is about these two; without a champion the built-in detector is it."""
    if (about.challenger_model, about.challenger) != (challenger.name, challenger.version):
        return False
    if champion is None:
        return about.model == BUILT_IN
    return (about.model, about.champion) == (champion.name, champion.version)
