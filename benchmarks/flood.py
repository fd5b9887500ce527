"""Events without end for a worker: many, cheap to make, and never far ahead of what it has done.

`generate_events` of `benchmarks/job.py` costs more per event than Nowcast does; here the features come from
a stock that was encoded once. What the predictions are is of no interest here.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer

from benchmarks.contenders import Place
from benchmarks.job import FEATURES, entity_keys
from benchmarks.kafka import count_records, watcher
from benchmarks.processes import Child

STOCK = 50_000
CHUNK = 20_000
MAX_AHEAD = 300_000
"""Events sent and not yet predicted: enough to keep the worker busy, and little for the broker to keep."""


class Flood:
    """Sends events to a place, as fast as its worker answers.

    Attributes
    ----------
    n_sent, n_predicted : int
        Events sent, and predictions in their topic when last looked at.
    """

    def __init__(self, place: Place, n_entities: int, seconds_per_event: float, start_seconds: float) -> None:
        self._place = place
        self._seconds_per_event = seconds_per_event
        self._start_seconds = start_seconds
        self._keys = entity_keys(n_entities)
        random = np.random.default_rng(3)
        self._random = random
        self._features = [
            msgspec.json.encode(dict(zip(FEATURES, row, strict=True)))
            for row in random.normal(50.0, 2.0, (STOCK, len(FEATURES))).round(4).tolist()
        ]
        self._producer = Producer(
            {
                "bootstrap.servers": place.bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "queue.buffering.max.messages": 2 * CHUNK,
            }
        )
        self._consumer: Consumer = watcher(place.bootstrap)
        self.n_sent = self.n_predicted = 0

    def look(self) -> int:
        """Count the predictions."""
        self.n_predicted = count_records(self._consumer, self._place.predictions, self._place.n_partitions)
        return self.n_predicted

    def send(self, child: Child, stop: Callable[[Flood], bool], max_ahead: int = MAX_AHEAD) -> None:
        """Send until `stop` says so; it is asked once a chunk, and while waiting for the worker."""
        while not stop(self):
            child.check_alive()
            if self.n_sent - self.look() > max_ahead:
                time.sleep(0.2)
                continue
            self._send_chunk()

    def fill(self, n_events: int) -> None:
        """Send at least so many events, whether or not anybody reads them."""
        while self.n_sent < n_events:
            self._send_chunk()
        self._producer.flush()

    def drain(self, child: Child, patience_seconds: float = 120.0) -> None:
        """Wait for the predictions of all that was sent."""
        self._producer.flush()
        deadline = time.monotonic() + patience_seconds
        while self.look() < self.n_sent:
            child.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{self.n_predicted:,} of {self.n_sent:,} predictions:\n{child.read_log()}"
                )
            time.sleep(0.2)

    def close(self) -> None:
        """Let go of the consumer."""
        self._consumer.close()

    def _send_chunk(self) -> None:
        entities = self._random.integers(0, len(self._keys), CHUNK).tolist()
        stock = self._random.integers(0, STOCK, CHUNK).tolist()
        produce, topic = self._producer.produce, self._place.events
        seconds = self._start_seconds + self._seconds_per_event * self.n_sent
        for entity, choice in zip(entities, stock, strict=True):
            seconds += self._seconds_per_event
            value = b'{"timestamp":%.3f,"features":%s}' % (seconds, self._features[choice])
            while True:
                try:
                    produce(topic, value, self._keys[entity])
                    break
                except BufferError:
                    self._producer.poll(0.05)
        self._producer.poll(0)
        self.n_sent += CHUNK
