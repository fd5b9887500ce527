"""The panel: who answers a part of a batch, the champion for all to see and challengers in its shadow.

Owns who is asked and how each is called. A challenger is asked about the same rows at the same time, by a
thread and a timeout of its own; what goes wrong with it costs no event its answer. One whose calls expire
again and again is set aside until another version comes, since every part waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agents.decide import Decision, Rows, decide_by_detector, decide_by_model, decide_nothing
from agents.metrics import Metrics
from agents.model_calls import ModelCaller
from compute.alerts import AlertRule

log = logging.getLogger(__name__)

MAX_EXPIRED = 3
"""Calls in a row that a challenger may leave without an answer."""


@dataclass(frozen=True)
class Decided:
    """What the panel says about rows.

    Attributes
    ----------
    champion : Decision
    challengers : tuple of Decision
        Rows at fault have NaN for a score.
    """

    champion: Decision
    challengers: tuple[Decision, ...] = ()


class Panel:
    """Champion and challengers as they are held by the models table, with their callers.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: model_timeout_seconds, challenger_timeout_seconds.
    models : tables.models.ModelsTable
    metrics : Metrics
    """

    def __init__(self, settings: Any, models: Any, metrics: Metrics) -> None:
        self._settings = settings
        self._models = models
        self._metrics = metrics
        self._champion: ModelCaller | None = None
        self._challengers: tuple[ModelCaller, ...] = ()

    @property
    def is_synchronous(self) -> bool:
        """Whether nobody has to be waited for: the built-in detector answers, and has no challenger."""
        return self._champion is None and not self._challengers

    def refresh(self) -> None:
        """Take the models that hold now; asked for each part, so a new version answers from the next on."""
        model = self._models.serving
        if model is not (None if self._champion is None else self._champion.model):
            self._close(self._champion)
            timeout = self._settings.model_timeout_seconds
            self._champion = None if model is None else ModelCaller(model, timeout, self._metrics)
        models = self._models.challengers
        if list(models) != [caller.model for caller in self._challengers]:
            known = {id(caller.model): caller for caller in self._challengers}
            callers = [known.pop(id(m)) if id(m) in known else self._new_challenger(m) for m in models]
            for caller in known.values():
                self._close(caller)
            self._challengers = tuple(callers)

    def n_rows(self) -> int | None:
        """Most rows that the next part may have; None where nobody needs a bound."""
        paces = [caller.n_rows for caller in (self._champion, *self._asked()) if caller is not None]
        return min((n_rows for n_rows in paces if n_rows is not None), default=None)

    async def decide(self, rows: Rows, feature_names: tuple[str, ...], rule: AlertRule) -> Decided:
        """Ask everybody at once."""
        asked = self._asked()
        calls = [_decide_in_shadow(caller, rows, feature_names, rule) for caller in asked]
        if self._champion is not None:
            calls.insert(0, decide_by_model(self._champion, rows, feature_names, rule))
        decisions = await asyncio.gather(*calls)
        self._tell_of_expired(asked)
        if self._champion is None:
            decisions.insert(0, decide_by_detector(rows, rule))
        return Decided(decisions[0], tuple(decisions[1:]))

    def _asked(self) -> list[ModelCaller]:
        return [caller for caller in self._challengers if caller.n_expired < MAX_EXPIRED]

    def _tell_of_expired(self, asked: Sequence[ModelCaller]) -> None:
        for caller in asked:
            if caller.n_expired >= MAX_EXPIRED:
                log.warning(
                    "challenger %s version %s is set aside: %d calls in a row took longer than %g s",
                    *(caller.model.name, caller.model.version, caller.n_expired),
                    self._settings.challenger_timeout_seconds,
                )

    def _new_challenger(self, model: Any) -> ModelCaller:
        return ModelCaller(model, self._settings.challenger_timeout_seconds, None)

    @staticmethod
    def _close(caller: ModelCaller | None) -> None:
        if caller is not None:
            caller.close()


async def _decide_in_shadow(
    caller: ModelCaller, rows: Rows, feature_names: tuple[str, ...], rule: AlertRule
) -> Decision:
    """Ask a challenger; whatever it raises, no event is without its answer for that."""
    try:
        return await decide_by_model(caller, rows, feature_names, rule)
    except Exception as error:
        log.warning("challenger %s version %s: %r", caller.model.name, caller.model.version, error)
        return decide_nothing(caller.model, len(rows.keys), rule, repr(error))
