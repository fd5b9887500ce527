"""A stream in which everything occurs, made from a seed, and the feed that sends it while faults happen.

Owns events, their places and their pace; labels are made in `seeded_labels.py`. The same seed gives the same
events at the same partitions and offsets, so what is made of one sending can be compared with what is made
of another.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from tests.live.streams import START, EventProducer

N_PARTITIONS = 8
N_EVENTS = 50_000
N_ENTITIES = 160
N_SILENT = 8
STEP_SECONDS = 0.02
TICK_SECONDS = 0.02

# Shares of the events.
ANOMALOUS = 1 / 300
MISSING = 1 / 50
OLD = 1 / 2_000
BROKEN = 1 / 1_000

DRIFT = 40.0
"""By how much a feature of which 25 is a standard deviation drifts."""

BROKEN_VALUES = (
    b"not JSON",
    b"",
    b'{"timestamp": 1700000000, "features": {}}',
    b'{"timestamp": "soon", "features": {"temperature": 1}}',
    b'{"timestamp": 1700000000, "features": {"temperature": "warm"}}',
)

Pace = Callable[[float], float]
"""By the seconds since the start, the share of the events that must have been sent."""


class Record(NamedTuple):
    """An event as it is sent."""

    partition: int
    key: bytes | None
    value: bytes


class DueLabel(NamedTuple):
    """A label, and how many events are sent before it."""

    n_before: int
    record: Record


@dataclass(frozen=True)
class Stream:
    """Events in the order in which they are sent, and the settings that fit them."""

    name: str
    seed: int
    records: list[Record]
    settings: dict[str, object]

    @property
    def keys(self) -> list[str]:
        """Keys of all entities."""
        return sorted({record.key.decode() for record in self.records if record.key})


def choose_seed() -> int:
    """Return `FAULT_SEED`, or one that nobody chose; in CI always the same."""
    given = os.environ.get("FAULT_SEED")
    fixed = os.environ.get("CI") == "true"
    return int(given) if given else 1 if fixed else random.SystemRandom().randrange(10_000)


def make_stream(name: str, seed: int, n_events: int = N_EVENTS, drifts: bool = False) -> Stream:
    """Make a stream: `holding` fits into one window, in `sliding` a window is an eighth of the stream.

    It has anomalies, so that alerts fire, worsen and resolve; missing values; events out of order; late and
    broken ones; and entities that are silent for longer than a window. One that drifts has a feature that is
    another one in its middle third.
    """
    window_seconds = {"holding": 7_200.0, "sliding": 120.0}[name]
    rng = np.random.default_rng(seed)
    weights = 1.0 / (20 + np.arange(N_ENTITIES))
    entities = rng.choice(N_ENTITIES, n_events, p=weights / weights.sum())
    # In the middle third the last ones say nothing; others speak in their place.
    middle = slice(n_events // 3, 2 * n_events // 3)
    entities[middle] %= N_ENTITIES - N_SILENT
    timestamps = START + np.arange(n_events) * STEP_SECONDS + rng.normal(0, 2.0, n_events)
    timestamps[rng.random(n_events) < OLD] -= 2 * window_seconds
    features = rng.normal(size=(n_events, 2)) * (1.0, 25.0) + (20.0, 1e6) + entities[:, None]
    anomalous = rng.random(n_events) < ANOMALOUS
    # Those that fall silent do so with their alert firing: it is forgotten with them.
    for entity in range(N_ENTITIES - N_SILENT, N_ENTITIES):
        before = np.flatnonzero(entities[: middle.start] == entity)
        anomalous[before[-1:]] = True
    features[anomalous, 0] += rng.uniform(10, 60, n_events)[anomalous]
    if drifts:
        features[middle, 1] += DRIFT
    missing = rng.random(n_events) < MISSING
    broken = rng.random(n_events) < BROKEN
    records = []
    for i, (entity, timestamp, (temperature, pressure)) in enumerate(
        zip(entities.tolist(), timestamps.round(3).tolist(), features.tolist(), strict=True)
    ):
        key = b"sensor-%d" % entity
        values = {"temperature": temperature, "pressure": None if missing[i] else pressure}
        value = json.dumps({"id": f"{seed}-{i}", "timestamp": timestamp, "features": values}).encode()
        place = crc32(key) % N_PARTITIONS
        if broken[i]:
            n = int(rng.integers(len(BROKEN_VALUES) + 1))
            key, value = (None, value) if n == len(BROKEN_VALUES) else (key, BROKEN_VALUES[n])  # type: ignore[assignment]
        records.append(Record(place, key, value))
    settings: dict[str, object] = {
        "partitions": N_PARTITIONS,
        "window_seconds": window_seconds,
        "warmup_events": 10,
        "alert_min_support": 10,
        "alert_cooldown_seconds": 5,
    }
    return Stream(name, seed, records, settings)


def ever_slower(seconds: float) -> Pace:
    """Send half in so many seconds, then ever slower: however long the faults take, there are events left."""
    return lambda elapsed: elapsed / (elapsed + seconds)


def steady(seconds: float) -> Pace:
    """Send all in so many seconds."""
    return lambda elapsed: min(elapsed / seconds, 1.0)


class Feed:
    """Sends a stream in a thread of its own, at a pace, to a topic that exists; labels between its events.

    Attributes
    ----------
    n_sent, n_labels_sent : int
        Events and labels handed to the client so far.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        stream: Stream,
        pace: Pace,
        labels: Sequence[DueLabel] = (),
        labels_topic: str = "",
    ) -> None:
        # Else they would tell of each broker that is away.
        self._producer = EventProducer(bootstrap, topic, log_level=0)
        self._label_producer = EventProducer(bootstrap, labels_topic, log_level=0)
        self._records = stream.records
        self._labels = labels
        self._pace = pace
        self._rushing = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.n_sent = self.n_labels_sent = 0

    @property
    def is_over(self) -> bool:
        """Whether all was sent."""
        return self.n_sent == len(self._records)

    def start(self) -> Feed:
        """Begin."""
        self._thread.start()
        return self

    def finish(self) -> None:
        """Send what is left as fast as it goes, and wait until the broker has all."""
        self._rushing.set()
        self._thread.join()
        self._producer.flush()
        self._label_producer.flush()

    def __enter__(self) -> Feed:
        return self.start()

    def __exit__(self, *args: Any) -> None:
        if any(args):  # nothing more is sent once the test has failed
            self._records = self._records[: self.n_sent]
            self._labels = self._labels[: self.n_labels_sent]
        self._rushing.set()
        self._thread.join()

    def _send(self) -> None:
        started = time.monotonic()
        while not self.is_over and not self._rushing.wait(TICK_SECONDS):
            self._send_to(int(self._pace(time.monotonic() - started) * len(self._records)))
        self._send_to(len(self._records))
        self._send_labels(len(self._labels))

    def _send_to(self, due: int) -> None:
        for partition, key, value in self._records[self.n_sent : due]:
            self._producer.send([(key, value)], partition)  # type: ignore[list-item]  # also without a key
            self.n_sent += 1
            n_due = self.n_labels_sent
            while n_due < len(self._labels) and self._labels[n_due].n_before <= self.n_sent:
                n_due += 1
            self._send_labels(n_due)

    def _send_labels(self, due: int) -> None:
        for _, (partition, key, value) in self._labels[self.n_labels_sent : due]:
            self._label_producer.send([(key, value)], partition)  # type: ignore[list-item]
            self.n_labels_sent += 1


def send_all(bootstrap: str, topic: str, stream: Stream) -> None:
    """Send a stream as fast as it goes."""
    Feed(bootstrap, topic, stream, steady(0.001)).start().finish()
