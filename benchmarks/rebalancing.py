"""`python -m benchmarks.rebalancing`: how long partitions stand still when a worker joins, leaves or dies.

Events come to every partition at a steady rate while workers of one group come and go. What counts is when
the broker takes the predictions: the longest pause of a partition from the moment of the change on. It is
told for the partition that waited longest and for the median one, with dynamic and with static membership.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from numpy.typing import NDArray

from app.cluster import find_free_port
from benchmarks.contenders import Place, nowcast_environment
from benchmarks.kafka import broker, count_committed, create_predictions_topic, create_topics, watcher
from benchmarks.processes import Child
from benchmarks.report import RESULTS, describe_machine

N_PARTITIONS = 8
PER_SECOND = 800
READY_SECONDS = 90.0
CALM_SECONDS = 6.0
"""Between changes, so that the pauses of one are over before the next."""


class Pause(msgspec.Struct):
    """What one change cost, in seconds without predictions."""

    membership: str
    delivery: str
    change: str
    longest_seconds: float
    median_seconds: float
    n_partitions_paused: int


class Group:
    """Workers of one group, each with a name, a port and a directory of its own."""

    def __init__(self, place: Place, settings: Mapping[str, str], static: bool) -> None:
        self._place = place
        self._settings = settings
        self._static = static
        self.workers: dict[str, Child] = {}
        self._ports: dict[str, str] = {}

    def start(self, name: str) -> None:
        """Start a worker, or start it again."""
        environment = {
            **nowcast_environment(self._place),
            **self._settings,
            "NOWCAST_DATA_DIR": str(self._place.directory / f"data-{name}"),
            **({"NOWCAST_INSTANCE_ID": name} if self._static else {}),
        }
        port = self._ports.setdefault(name, str(find_free_port()))
        command = [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "info", "--web-port", port]
        log = self._place.directory / f"{name}-{time.monotonic_ns()}.log"
        self.workers[name] = Child(command, log, environment)

    def await_ready(self, name: str) -> None:
        """Wait until a worker's recovery is over."""
        self.await_lines(name, 1)

    def await_lines(self, name: str, n: int) -> None:
        """Wait until a worker has said so many times that it is ready."""
        deadline = time.monotonic() + READY_SECONDS
        child = self.workers[name]
        while child.log.read_text(errors="replace").count("Worker ready") < n:
            child.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is not ready:\n{child.read_log()}")
            time.sleep(0.05)

    def send_signal(self, name: str, number: signal.Signals) -> None:
        """Signal a worker and wait for its end."""
        child = self.workers.pop(name)
        if number != signal.SIGTERM:  # that one is how it is stopped anyhow
            child.send_signal(number)
        child.stop()

    def stop(self) -> None:
        """End all."""
        for child in self.workers.values():
            child.stop()


@contextmanager
def steady_events(place: Place) -> Iterator[None]:
    """Send events to all partitions in turn, all the while."""
    producer = Producer({"bootstrap.servers": place.bootstrap, "linger.ms": 2})
    over = threading.Event()

    def send() -> None:
        n, started = 0, time.monotonic()
        while not over.wait(0.01):
            for _ in range(int((time.monotonic() - started) * PER_SECOND) - n):
                value = b'{"timestamp":%.3f,"features":{"a":%d}}' % (time.time(), n % 7)
                producer.produce(place.events, value, b"key-%d" % (n % 400), partition=n % N_PARTITIONS)
                n += 1
            producer.poll(0)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        producer.flush()


def measure(place: Place, delivery: str, static: bool) -> list[Pause]:
    """Let workers join, leave, die and come back amid a stream; return what each change cost."""
    place.directory.mkdir(parents=True, exist_ok=True)
    create_topics(place.bootstrap, [place.events], N_PARTITIONS, {})
    create_predictions_topic(place.bootstrap, place.predictions, N_PARTITIONS)
    settings = {"NOWCAST_DELIVERY": delivery, "NOWCAST_SESSION_TIMEOUT_SECONDS": "10"}
    group = Group(place, settings, static)
    changes: list[tuple[str, float]] = []

    def change(name: str) -> None:
        changes.append((name, time.time()))

    def calm(seconds: float = CALM_SECONDS) -> None:
        time.sleep(seconds)

    try:
        group.start("one")
        group.await_ready("one")
        with steady_events(place):
            calm()
            change("a second worker joins")
            group.start("two")
            group.await_ready("two")
            calm()
            change("it is stopped and started again (TERM)")
            group.send_signal("two", signal.SIGTERM)
            group.start("two")
            group.await_ready("two")
            calm()
            change("it dies and is started again (-9)")
            group.send_signal("two", signal.SIGKILL)
            group.start("two")
            group.await_ready("two")
            calm()
            change("it leaves for good (TERM)")
            group.send_signal("two", signal.SIGTERM)
            calm(20)
            group.start("three")
            group.await_ready("three")
            calm()
            change("it dies for good (-9)")
            group.send_signal("three", signal.SIGKILL)
            calm(25)
        _await_all(place)
    finally:
        group.stop()
    appended = _appended(place)
    ends = [moment for _, moment in changes[1:]] + [time.time()]
    membership = "static" if static else "dynamic"
    return [
        _pause(membership, delivery, name, moment, end, appended)
        for (name, moment), end in zip(changes, ends, strict=True)
    ]


def _await_all(place: Place) -> None:
    consumer = watcher(place.bootstrap, **{"group.id": place.group})
    partitions = [TopicPartition(place.events, i) for i in range(N_PARTITIONS)]
    n_events = sum(consumer.get_watermark_offsets(partition)[1] for partition in partitions)
    deadline = time.monotonic() + READY_SECONDS
    while count_committed(consumer, place.events, N_PARTITIONS) < n_events:
        if time.monotonic() > deadline:
            raise TimeoutError("not all events were committed")
        time.sleep(0.1)
    consumer.close()


def _appended(place: Place) -> list[NDArray[np.float64]]:
    """Return when the broker took each prediction, by partition."""
    consumer: Consumer = watcher(place.bootstrap, **{"enable.partition.eof": True})
    times: list[list[float]] = [[] for _ in range(N_PARTITIONS)]
    unfinished = set(range(N_PARTITIONS))
    consumer.assign([TopicPartition(place.predictions, i, 0) for i in unfinished])
    while unfinished:
        for message in consumer.consume(10_000, timeout=0.5):
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF
                unfinished.discard(message.partition())
            else:
                times[message.partition()].append(message.timestamp()[1] / 1e3)
    consumer.close()
    return [np.array(of_one) for of_one in times]


def _pause(
    membership: str, delivery: str, name: str, start: float, end: float, appended: list[NDArray[np.float64]]
) -> Pause:
    gaps = []
    for times in appended:
        within = times[(times >= start) & (times < end)]
        gaps.append(float(np.diff(np.concatenate([[start], within])).max()))
    return Pause(
        membership, delivery, name, max(gaps), float(np.median(gaps)), sum(gap > 0.5 for gap in gaps)
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rebalancing", description=__doc__)
    parser.add_argument("--broker", help="kafka://host:port to use; else an Apache Kafka is started")
    parser.add_argument("--delivery", nargs="+", default=["at_least_once", "exactly_once"])
    args = parser.parse_args()
    pauses: list[Pause] = []
    # Kafka waits 3 s for more members when a group is new; that is not what is measured here.
    settings = {"group.initial.rebalance.delay.ms": "0"}
    with broker(args.broker, settings) as bootstrap, tempfile.TemporaryDirectory() as directory:
        for delivery in args.delivery:
            for static in (False, True):
                name = f"rebalancing-{delivery}-{static}-{time.time_ns() // 1_000_000:x}".lower()
                place = Place(
                    bootstrap=bootstrap,
                    events=f"{name}-events",
                    predictions=f"{name}-predictions",
                    group=name,
                    n_partitions=N_PARTITIONS,
                    directory=Path(directory) / name,
                    models=f"{name}-models",
                )
                pauses += measure(place, delivery, static)
    print(f"{'membership':10} {'delivery':14} {'change':40} {'longest s':>9} {'median s':>9} {'paused':>7}")
    for pause in pauses:
        print(
            f"{pause.membership:10} {pause.delivery:14} {pause.change:40} {pause.longest_seconds:9.2f} "
            f"{pause.median_seconds:9.2f} {pause.n_partitions_paused:>5}/{N_PARTITIONS}"
        )
    path = RESULTS.with_name("rebalancing.json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(
        msgspec.json.format(msgspec.json.encode({**describe_machine(), "pauses": pauses})) + b"\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
