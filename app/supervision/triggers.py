"""When a training is due: on a schedule, after enough new labels, or when a drift has brought new ones.

Owns that decision and what it has to remember. It is asked with what all workers have learnt; time is an
argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DRIFT_LABELS = 500
"""Labels that have to come after a drift before it is learnt from, where no number is set."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 60.0, 3_600.0
"""After a training that should have learnt from a drift and failed; it doubles from failure to failure."""


@dataclass(frozen=True)
class Due:
    """A training that is due: why, and from which event time on there is something to learn from."""

    reason: str
    since: float | None = None


@dataclass(frozen=True)
class _Drift:
    """A drift that is to be learnt from: its event time, and the labels that were joined when it was seen."""

    since: float
    n_labels: int


class Triggers:
    """Knows when the next training is due.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: train_task, train_every_seconds, train_after_labels, train_on_drift.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._n_labels: int | None = None
        self._begun_at = 0.0
        self._drift: _Drift | None = None
        self._learnt_now: _Drift | None = None
        self._pause_seconds, self._not_before = FIRST_PAUSE_SECONDS, 0.0
        self._known_drifts: set[tuple[int, str, float]] = set()

    def look(
        self, now: float, n_labels: int, n_labels_since_training: int, last_training: float | None, drift: Any
    ) -> Due | None:
        """Tell whether a training is due.

        Parameters
        ----------
        now : float
            Epoch seconds.
        n_labels : int
            Labels joined so far.
        n_labels_since_training : int
            Of these, those that came after the model that was trained last; all of them before the first.
        last_training : float or None
            When the last one began.
        drift : list of dict
            By partition and rule: partition, rule, state, since.
        """
        settings = self._settings
        if not settings.train_task:
            return None
        if self._n_labels is None:  # this worker supervises only now: what came before is told by the models
            self._n_labels = n_labels - n_labels_since_training
        self._note_drift(n_labels, drift)
        needed = settings.train_after_labels or DRIFT_LABELS
        if self._drift is not None:
            behind = n_labels - self._drift.n_labels
            if behind >= needed and now >= self._not_before:
                return Due(f"drift, and {behind} labels since", self._drift.since)
            return None  # what would be learnt now is the world before it
        new = n_labels - self._n_labels
        if settings.train_after_labels and new >= settings.train_after_labels:
            return Due(f"{new} new labels")
        every = settings.train_every_seconds
        if every and new > 0 and now - max(last_training or 0.0, self._begun_at) >= every:
            return Due(f"every {every:g} s")
        return None

    @property
    def has_drifted(self) -> bool:
        """Whether there is a drift that was not learnt from yet."""
        return self._drift is not None

    def begun(self, n_labels: int, now: float) -> None:
        """Take note that a training has begun."""
        self._n_labels = n_labels
        self._begun_at = now
        self._learnt_now, self._drift = self._drift, None

    def ended(self, succeeded: bool, now: float) -> None:
        """Take note that the training has ended; told again it changes nothing.

        The drift that it should have learnt from is learnt from later if it failed, unless there was another
        one meanwhile. Labels and schedule go on from when it began.
        """
        if succeeded:
            self._pause_seconds = FIRST_PAUSE_SECONDS
        elif self._learnt_now is not None:
            self._not_before = now + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
            self._drift = self._drift or self._learnt_now
        self._learnt_now = None

    def _note_drift(self, n_labels: int, drift: Any) -> None:
        if not self._settings.train_on_drift:
            return
        for item in drift:
            if item["state"] != "firing":
                continue
            known = (item["partition"], item["rule"], item["since"])
            if known not in self._known_drifts:
                self._known_drifts.add(known)
                if self._drift is None:
                    self._drift = _Drift(item["since"], n_labels)
