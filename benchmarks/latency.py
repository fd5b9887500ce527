"""How long a prediction takes at a steady rate: from sending an event to holding its prediction.

One event is sent each millisecond, whether or not answers come (a slow contender is not given time to catch
up). The event's time is the moment it was handed to the producer, the prediction carries it back, and a
consumer notes the moment it has the prediction: one clock, and the whole way counts, both clients included.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.contenders import Place
from benchmarks.job import FEATURES, entity_keys
from benchmarks.kafka import create_predictions_topic, create_topics, watcher
from benchmarks.processes import Child

N_ENTITIES = 1_000
WARMUP_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""How long after the last event predictions may arrive, and how long a contender may take to start."""


class Latency(msgspec.Struct):
    """Latency of the predictions of one contender at a steady rate, in milliseconds.

    `lateness_p99_ms` is how late the probe itself was to send: what the machine's other work costs anybody.
    """

    p50_ms: float
    p99_ms: float
    max_ms: float
    n_events: int
    n_missing: int
    sent_per_second: float
    lateness_p99_ms: float
    cpu_share: float


class _Timed(msgspec.Struct):
    timestamp: float


class Probe:
    """Sends events and receives predictions, and remembers when."""

    def __init__(self, place: Place) -> None:
        self._events = place.events
        self._consumer: Consumer = watcher(place.bootstrap)
        self._consumer.assign([TopicPartition(place.predictions, i, 0) for i in range(place.n_partitions)])
        self._producer = Producer(
            {"bootstrap.servers": place.bootstrap, "linger.ms": 0, "partitioner": "murmur2_random"}
        )
        self._random = np.random.default_rng(1)
        self._keys = entity_keys(N_ENTITIES)
        self._encode = msgspec.json.Encoder().encode
        self.n_sent = 0
        self.lateness: list[float] = []
        self.received: list[tuple[float, bytes]] = []

    def send(self) -> None:
        """Send one event that carries the time of now."""
        values = self._random.normal(50.0, 2.0, len(FEATURES)).round(4).tolist()
        features = dict(zip(FEATURES, values, strict=True))
        key = self._keys[self.n_sent % N_ENTITIES]
        self._producer.produce(
            self._events, self._encode({"timestamp": time.time(), "features": features}), key
        )
        self._producer.poll(0)
        self.n_sent += 1

    def receive(self, timeout_seconds: float) -> None:
        """Wait for one prediction, at most so long."""
        message = self._consumer.poll(timeout_seconds)
        if message is not None:
            now = time.time()
            if message.error():
                raise RuntimeError(str(message.error()))
            self.received.append((now, message.value()))

    def close(self) -> None:
        """Let go of the clients."""
        self._producer.flush()
        self._consumer.close()


def run(
    start: Callable[[Place], Child], place: Place, *, per_second: float = 1_000.0, seconds: float = 20.0
) -> Latency:
    """Measure a contender's latency at a steady rate.

    Raises
    ------
    RuntimeError
        If its process ends by itself.
    TimeoutError
        If it does not answer the first event.
    """
    place.directory.mkdir(parents=True, exist_ok=True)
    create_topics(place.bootstrap, [place.events], place.n_partitions, {})
    create_predictions_topic(place.bootstrap, place.predictions, place.n_partitions)
    child = start(place)
    try:
        probe = Probe(place)
        _await_first(probe, child)
        n_before = probe.n_sent
        started = _send_steadily(probe, child, per_second, WARMUP_SECONDS + seconds)
        _await_rest(probe)
    finally:
        child.stop()
    probe.close()
    cpu_seconds = child.cpu_between(started + WARMUP_SECONDS, started + WARMUP_SECONDS + seconds)
    return _measure(probe, started, n_before, cpu_seconds / seconds)


def _await_first(probe: Probe, child: Child) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    probe.send()
    while not probe.received:
        child.check_alive()
        if time.monotonic() > deadline:
            raise TimeoutError(f"no prediction after {PATIENCE_SECONDS:g} s:\n{child.read_log()}")
        probe.receive(0.1)


def _send_steadily(probe: Probe, child: Child, per_second: float, seconds: float) -> float:
    """Send for so long and return when the first was due; predictions are received in between."""
    started = time.time()
    n_events = int(per_second * seconds)
    for i in range(n_events):
        due = started + i / per_second
        while (wait := due - time.time()) > 0:
            probe.receive(wait)
        probe.lateness.append(-wait)
        probe.send()
        if i % 1_000 == 0:
            child.check_alive()
    return started


def _await_rest(probe: Probe) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(probe.received) < probe.n_sent and time.monotonic() < deadline:
        probe.receive(0.1)


def _measure(probe: Probe, started: float, n_before: int, cpu_share: float) -> Latency:
    decode = msgspec.json.Decoder(_Timed).decode
    received = np.array([moment for moment, _ in probe.received])
    sent = np.array([decode(value).timestamp for _, value in probe.received])
    latency_ms = (received - sent)[sent >= started + WARMUP_SECONDS] * 1e3
    if not len(latency_ms):
        raise RuntimeError("no prediction for an event sent after the warm-up")
    return Latency(
        p50_ms=float(np.percentile(latency_ms, 50)),
        p99_ms=float(np.percentile(latency_ms, 99)),
        max_ms=float(latency_ms.max()),
        n_events=len(latency_ms),
        n_missing=probe.n_sent - len(probe.received),
        sent_per_second=(probe.n_sent - n_before) / float(sent.max() - started),
        lateness_p99_ms=float(np.percentile(probe.lateness, 99)) * 1e3,
        cpu_share=cpu_share,
    )
