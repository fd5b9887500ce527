"""`python -m benchmarks.delivery`: what `exactly_once` costs, against `at_least_once` on the same broker.

The same job as `python -m benchmarks`, by turns: throughput as a flood, then latency at a steady rate as a
reader of committed predictions sees it. In `exactly_once` that is once the checkpoint is committed, so
latency hangs on NOWCAST_CHECKPOINT_SECONDS.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from benchmarks import latency, throughput
from benchmarks.answers import find_faults
from benchmarks.contenders import Place, start_nowcast
from benchmarks.job import Job, generate_events
from benchmarks.kafka import (
    Answers,
    broker,
    count_committed,
    create_predictions_topic,
    create_topics,
    load_events,
    read_predictions,
    watcher,
)
from benchmarks.latency import Latency
from benchmarks.model import publish_model
from benchmarks.processes import Child
from benchmarks.report import RESULTS, describe_machine, middle
from benchmarks.throughput import Throughput

MODES = {
    "at_least_once, 1 s": ("at_least_once", 1.0),
    "exactly_once, 1 s": ("exactly_once", 1.0),
    "exactly_once, 0.2 s": ("exactly_once", 0.2),
    "exactly_once, 0.1 s": ("exactly_once", 0.1),
}
"""Name, and NOWCAST_DELIVERY with NOWCAST_CHECKPOINT_SECONDS."""

TIMEOUT_SECONDS = 300.0


def start(mode: str, place: Place) -> Child:
    """Start a worker in one of the modes."""
    delivery, seconds = MODES[mode]
    settings = {"NOWCAST_DELIVERY": delivery, "NOWCAST_CHECKPOINT_SECONDS": str(seconds)}
    return start_nowcast(place, settings)


def run_flood(mode: str, place: Place, n_events: int) -> tuple[Throughput, Answers]:
    """Let a worker do all events, until its group has committed them."""
    place.directory.mkdir(parents=True, exist_ok=True)
    create_predictions_topic(place.bootstrap, place.predictions, place.n_partitions)
    child = start(mode, place)
    try:
        with _committed(place) as n_committed:
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while n_committed() < n_events:
                child.check_alive()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{mode}: {n_committed()} of {n_events} events:\n{child.read_log()}")
                time.sleep(throughput.POLL_SECONDS)
    finally:
        child.stop()
    answers = read_predictions(place.bootstrap, place.predictions, place.n_partitions)
    return throughput.measure(child, answers), answers


@contextmanager
def _committed(place: Place) -> Iterator[Callable[[], int]]:
    consumer = watcher(place.bootstrap, **{"group.id": place.group})
    yield partial(count_committed, consumer, place.events, place.n_partitions)
    consumer.close()


def main() -> int:
    """Run all modes and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument("--broker", help="kafka://host:port to use; else an Apache Kafka is started")
    parser.add_argument("--events", type=int, default=400_000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1_000.0, help="events/s for latency (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of latency, 0 for none (%(default)s)")
    args = parser.parse_args()
    job = Job(n_events=args.events)
    prefix = f"delivery-{time.time_ns() // 1_000_000:x}"
    runs: dict[str, list[Throughput]] = {mode: [] for mode in MODES}
    latencies: dict[str, Latency] = {}
    faults: list[str] = []
    with (
        broker(args.broker) as bootstrap,
        tempfile.TemporaryDirectory(prefix="nowcast-delivery-") as directory,
    ):
        common = Place(
            bootstrap=bootstrap,
            events=f"{prefix}-events",
            predictions="",
            group=prefix,
            n_partitions=job.n_partitions,
            directory=Path(directory),
            models=f"{prefix}-models",
        )
        n_places = 0

        def new_place(own_events: bool = False) -> Place:
            nonlocal n_places
            n_places += 1
            group = f"{prefix}-{n_places}"
            return replace(
                common,
                group=group,
                predictions=f"{group}-predictions",
                directory=Path(directory) / group,
                events=f"{group}-events" if own_events else common.events,
            )

        create_topics(bootstrap, [common.events], job.n_partitions, {})
        load_events(bootstrap, common.events, generate_events(job, time.time()))
        publish_model(new_place())
        run_flood(next(iter(MODES)), new_place(), job.n_events)  # the broker gets warm
        for turn in range(args.rounds):
            answers = {}
            for mode in MODES:
                figures, answers[mode] = run_flood(mode, new_place(), job.n_events)
                runs[mode].append(figures)
                _say(f"{mode}, run {turn + 1}: {figures.events_per_second:,.0f} events/s")
            faults += find_faults(answers, job.n_events)
        for mode in MODES if args.seconds else ():
            latencies[mode] = latency.run(
                partial(start, mode), new_place(True), per_second=args.rate, seconds=args.seconds
            )
            if latencies[mode].n_missing:
                faults.append(f"{mode}: {latencies[mode].n_missing} events had no prediction")
    return _finish(job, runs, latencies, faults)


def _finish(
    job: Job, runs: dict[str, list[Throughput]], latencies: dict[str, Latency], faults: list[str]
) -> int:
    base = middle(next(iter(runs.values())))
    print(f"{'':22} {'events/s':>9} {'ratio':>6} {'CPU s/100k':>10} {'p50 ms':>8} {'p99 ms':>8}")
    for mode, of_one in runs.items():
        figures, times = middle(of_one), latencies.get(mode)
        p50, p99 = (f"{times.p50_ms:8.1f}", f"{times.p99_ms:8.1f}") if times else (f"{'-':>8}", f"{'-':>8}")
        ratio = figures.events_per_second / base.events_per_second
        cpu = figures.cpu_seconds_per_100k
        print(f"{mode:22} {figures.events_per_second:9,.0f} {ratio:6.2f} {cpu:10.2f} {p50} {p99}")
    print("\n".join(["WRONG ANSWERS", *faults]) if faults else "Same scores from all, each once")
    path = RESULTS.with_name("delivery.json")
    path.parent.mkdir(exist_ok=True)
    document = {**describe_machine(), "job": vars(job), "runs": runs, "latency": latencies, "faults": faults}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    return 1 if faults else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
