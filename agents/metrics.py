"""What a worker counts, for Prometheus and for the page.

Owns the names of the metrics and how they are kept. They are written once a record batch or checkpoint:
per event a counter would cost more than decoding it. A worker has a registry of its own, so that two
applications in one process, as in tests, do not add up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.samples import Sample

RATE_SECONDS = 10
"""Length of the time that `events_per_second` looks back on."""

BATCH_EVENTS = (1, 10, 50, 100, 250, 500, 1_000, 2_000, 4_000, 10_000, 100_000)
BATCH_SECONDS = (0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
MODEL_SECONDS = (0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CHECKPOINT_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)


class Totals(TypedDict):
    """Counts since the worker started."""

    n_events: int
    n_predictions: int
    n_alerts: int  # that fired; one that is resolved is the same alert
    n_dead_letters: dict[str, int]
    events_per_second: float


class Metrics:
    """The metrics of one worker.

    Parameters
    ----------
    clock : callable
        Gives monotonic seconds; only the rate of events depends on it.

    Attributes
    ----------
    registry : prometheus_client.CollectorRegistry
        What `/metrics` shows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._recent: deque[tuple[int, int]] = deque()  # (second, events in it), one entry a second
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._events = Counter("nowcast_events", "Events read", registry=registry)
        self._predictions = Counter("nowcast_predictions", "Predictions published", registry=registry)
        self._alerts = Counter("nowcast_alerts", "Alerts published", ["state", "severity"], registry=registry)
        self._dead_letters = Counter(
            "nowcast_dead_letters", "Events that could not be processed", ["code"], registry=registry
        )
        self._labels = Counter(
            "nowcast_labels", "Labels by what became of them", ["outcome"], registry=registry
        )
        self._batch_events = Histogram(
            "nowcast_batch_events",
            "Events scored in one go: a record batch, or a part",
            buckets=BATCH_EVENTS,
            registry=registry,
        )
        self._batch_seconds = Histogram(
            "nowcast_batch_seconds",
            "Seconds to score them, the wait for the model included",
            buckets=BATCH_SECONDS,
            registry=registry,
        )
        self._model_seconds = Histogram(
            "nowcast_model_seconds",
            "Seconds of a call of the model that serves, those that answered",
            buckets=MODEL_SECONDS,
            registry=registry,
        )
        self._model_timeouts = Counter(
            "nowcast_model_timeouts", "Calls of the model that were given up", registry=registry
        )
        self._checkpoint_seconds = Histogram(
            "nowcast_checkpoint_seconds",
            "Seconds to take a checkpoint",
            buckets=CHECKPOINT_SECONDS,
            registry=registry,
        )
        self._checkpoint_entities = Counter(
            "nowcast_checkpoint_entities", "Changed entities written by checkpoints", registry=registry
        )
        self._entities = Gauge("nowcast_entities", "Entities in this worker's memory", registry=registry)
        self._partitions = Gauge("nowcast_partitions", "Partitions of events assigned", registry=registry)
        self._model = Gauge(
            "nowcast_model_info", "1 for the model that serves", ["model", "version"], registry=registry
        )
        self._serving: tuple[str, str] | None = None

    def batch_scored(
        self,
        n_events: int,
        n_predictions: int,
        seconds: float,
        dead_letter_codes: Mapping[str, int] | None = None,
        alerts: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Count one record batch.

        Parameters
        ----------
        n_events, n_predictions : int
            Events in the batch, dead letters among them, and predictions made of them.
        seconds : float
            Time from its decoding to its sending.
        dead_letter_codes : mapping of str to int
            Dead letters by error code.
        alerts : iterable of (str, str)
            State and severity of each alert.
        """
        self._events.inc(n_events)
        self._predictions.inc(n_predictions)
        self._batch_events.observe(n_events)
        self._batch_seconds.observe(seconds)
        for code, n in (dead_letter_codes or {}).items():
            self._dead_letters.labels(code).inc(n)
        for state, severity in alerts:
            self._alerts.labels(state, severity).inc()
        self._remember(n_events)

    def labels_joined(self, outcomes: Mapping[str, int]) -> None:
        """Count labels by outcome."""
        for outcome, n in outcomes.items():
            self._labels.labels(outcome).inc(n)

    def model_called(self, seconds: float) -> None:
        """Count one call of a model that answered."""
        self._model_seconds.observe(seconds)

    def model_timed_out(self) -> None:
        """Count one call of a model that was given up."""
        self._model_timeouts.inc()

    def checkpoint_taken(self, n_entities: int, seconds: float) -> None:
        """Count one checkpoint that wrote `n_entities` changed entities."""
        self._checkpoint_entities.inc(n_entities)
        self._checkpoint_seconds.observe(seconds)

    def state_held(self, n_entities: int, n_partitions: int) -> None:
        """Set what the worker holds; called when somebody looks, since nobody else needs it."""
        self._entities.set(n_entities)
        self._partitions.set(n_partitions)

    def model_serving(self, name: str, version: str) -> None:
        """Say which model serves; cheap to repeat."""
        if self._serving != (name, version):
            self._serving = (name, version)
            self._model.clear()  # the one before no longer serves
            self._model.labels(name, version).set(1)

    def events_per_second(self) -> float:
        """Return the mean rate of events over the last `RATE_SECONDS` full seconds."""
        now = int(self._clock())
        n_events = sum(n for second, n in self._recent if now - RATE_SECONDS <= second < now)
        return n_events / max(1.0, min(RATE_SECONDS, now - int(self._started)))

    def totals(self) -> Totals:
        """Return what the page shows of this worker."""
        return Totals(
            n_events=_sum(self._events),
            n_predictions=_sum(self._predictions),
            n_alerts=int(
                sum(each.value for each in _samples(self._alerts) if each.labels["state"] == "firing")
            ),
            n_dead_letters={
                sample.labels["code"]: int(sample.value) for sample in _samples(self._dead_letters)
            },
            events_per_second=round(self.events_per_second(), 1),
        )

    def _remember(self, n_events: int) -> None:
        second = int(self._clock())
        if self._recent and self._recent[-1][0] == second:
            n_events += self._recent.pop()[1]
        self._recent.append((second, n_events))
        while self._recent[0][0] < second - RATE_SECONDS:
            self._recent.popleft()


def _samples(counter: Counter) -> list[Sample]:
    """Return a counter's values by label, without the times at which each began."""
    return [s for metric in counter.collect() for s in metric.samples if s.name.endswith("_total")]


def _sum(counter: Counter) -> int:
    return int(sum(sample.value for sample in _samples(counter)))
