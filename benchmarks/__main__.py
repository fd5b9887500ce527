"""`python -m benchmarks`: Nowcast, plain Faust and a hand-written loop do the same job on one broker.

Fails when the answers are wrong; with --check also when Nowcast misses its goals.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import latency, report, throughput
from benchmarks.answers import find_faults
from benchmarks.contenders import CONTENDERS, Place
from benchmarks.job import Job, generate_events
from benchmarks.kafka import Answers, broker, create_topics, load_events
from benchmarks.latency import Latency
from benchmarks.model import publish_model
from benchmarks.throughput import Throughput

SLOWEST_PER_SECOND = 500
START_SECONDS = 120.0
LATENCY_TRIES = 3
LATE_MS = 5.0
"""A probe that sends its events later than this (p99) shares its processor with somebody else."""

SLOW = frozenset(["faust"])
"""Contenders that run once: their runs are long enough to be steady."""


class Bench:
    """The contenders' runs, one after the other, each in a place of its own."""

    def __init__(self, bootstrap: str, job: Job, directory: Path) -> None:
        self._bootstrap = bootstrap
        self._job = job
        self._directory = directory
        # A broker that is not ours may still have the topics of an earlier run.
        self._prefix = f"bench-{time.time_ns() // 1_000_000:x}"
        self._events = f"{self._prefix}-events"
        self._models = f"{self._prefix}-models"
        self._n_places = 0

    def prepare(self, names: list[str]) -> None:
        """Put the events and the model in place, and let the broker get warm."""
        create_topics(self._bootstrap, [self._events], self._job.n_partitions, {})
        load_events(self._bootstrap, self._events, generate_events(self._job, time.time()))
        if "nowcast" in names:
            publish_model(self._new_place("publish"))
        self.run("confluent")  # the first contender would meet a Java process that has compiled nothing yet

    def run(self, name: str) -> tuple[Throughput, Answers]:
        """Let one contender do the job once."""
        place = self._new_place(name)
        timeout_seconds = START_SECONDS + self._job.n_events / SLOWEST_PER_SECOND
        return throughput.run(CONTENDERS[name], place, self._job.n_events, timeout_seconds)

    def run_steadily(self, name: str, per_second: float, seconds: float) -> Latency:
        """Measure one contender's latency, on events of its own; again if the machine was busy meanwhile.

        What decides is how late the probe itself was, never what it measured.
        """
        tries: list[Latency] = []
        for _ in range(LATENCY_TRIES):
            place = self._new_place(name, own_events=True)
            tries.append(latency.run(CONTENDERS[name], place, per_second=per_second, seconds=seconds))
            _say(f"{name} at {per_second:g} events/s: {_describe(tries[-1])}")
            if tries[-1].lateness_p99_ms <= LATE_MS:
                break
        return min(tries, key=lambda figures: figures.lateness_p99_ms)

    def _new_place(self, name: str, own_events: bool = False) -> Place:
        self._n_places += 1
        group = f"{self._prefix}-{self._n_places}-{name}"
        return Place(
            bootstrap=self._bootstrap,
            events=f"{group}-events" if own_events else self._events,
            predictions=f"{group}-predictions",
            group=group,
            n_partitions=self._job.n_partitions,
            directory=self._directory / group,
            models=self._models,
        )


def main() -> int:
    """Run the benchmark and return the exit code."""
    args = _parse_arguments()
    job = Job(n_events=args.events, n_entities=args.entities)
    names = [name for name in CONTENDERS if name in args.only]
    runs: dict[str, list[Throughput]] = {name: [] for name in names}
    answers: dict[str, Answers] = {}
    latencies: dict[str, Latency] = {}
    faults: list[str] = []
    with broker(args.broker) as bootstrap, tempfile.TemporaryDirectory(prefix="nowcast-bench-") as directory:
        bench = Bench(bootstrap, job, Path(directory))
        _say(f"{job.n_events:,} events of {job.n_entities:,} entities to {bootstrap}")
        bench.prepare(names)
        for turn in range(args.rounds):
            for name in names:
                if turn and name in SLOW:
                    continue
                figures, answers[name] = bench.run(name)
                runs[name].append(figures)
                _say(
                    f"{name}, run {turn + 1}: {figures.events_per_second:,.0f} events/s, "
                    f"{figures.cpu_seconds_per_100k:.2f} CPU s/100k, {figures.seconds_total:.1f} s with start"
                )
            # Each round by itself: one that was wrong must not hide behind the next.
            faults += [f"round {turn + 1}: {fault}" for fault in find_faults(answers, job.n_events)]
        for name in names if args.seconds else ():
            latencies[name] = bench.run_steadily(name, args.rate, args.seconds)
            if n_missing := latencies[name].n_missing:
                faults.append(f"{name}: {n_missing} events sent at a steady rate had no prediction")
    return _finish(args, job, runs, latencies, faults)


def _finish(
    args: argparse.Namespace,
    job: Job,
    runs: Mapping[str, list[Throughput]],
    latencies: Mapping[str, Latency],
    faults: list[str],
) -> int:
    ratios = report.find_ratios(runs)
    print(f"\n{report.format_table(runs, latencies, ratios)}\n")
    path = report.write(job, runs, latencies, ratios, faults)
    if faults:
        print("WRONG ANSWERS\n" + "\n".join(faults))
    else:
        print("Same scores from all: " + ", ".join(runs))
    shortfalls = report.find_shortfalls(ratios, latencies)
    if shortfalls:
        print("GOALS MISSED\n" + "\n".join(shortfalls))
    print(f"All figures: {path}")
    return 1 if faults or (args.check and shortfalls) else 0


def _describe(figures: Latency) -> str:
    return (
        f"p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms, max {figures.max_ms:.1f} ms "
        f"with {figures.cpu_share:.0%} of a core "
        f"(the probe itself was {figures.lateness_p99_ms:.1f} ms late, p99)"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    job = Job()
    parser.add_argument(
        "--broker", help="kafka://host:port of a broker to use; else an Apache Kafka is started"
    )
    parser.add_argument("--events", type=int, default=job.n_events, help="(default: %(default)s)")
    parser.add_argument("--entities", type=int, default=job.n_entities, help="(default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="runs of each; plain Faust runs once (%(default)s)"
    )
    parser.add_argument("--rate", type=float, default=1_000.0, help="events/s for latency (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of latency, 0 for none (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), help="contenders to run"
    )
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
