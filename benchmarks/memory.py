"""`python -m benchmarks.memory`: whether a worker's memory stays flat over millions of events.

A real worker on Apache Kafka, whose topics keep little so that the disk does not fill. Event time runs
through several windows, so panes come, merge and go. Memory is resident memory; the table says what it was
at the start, at each quarter and at the end.
"""

from __future__ import annotations

import argparse
import sys
import time

import msgspec

from benchmarks.contenders import Place, own_place, start_nowcast
from benchmarks.flood import Flood
from benchmarks.kafka import create_topics
from benchmarks.model import publish_model
from benchmarks.processes import Child
from benchmarks.report import RESULTS, describe_machine

SAMPLE_SECONDS = 5.0
WINDOWS = 3.0
"""Windows of 3,600 s (the default) that event time runs through."""

SMALL_TOPIC = {"retention.bytes": "100000000", "segment.bytes": "20000000"}

GROWTH_LIMIT = 1.1
"""Memory at the end against memory at half time, above which it is not flat."""


class Sample(msgspec.Struct):
    """Memory at one moment."""

    seconds: float
    n_predicted: int
    rss_mb: float


def measure(place: Place, n_events: int, n_entities: int) -> list[Sample]:
    """Let a worker do so many events, and return a sample of its memory every 5 s."""
    place.directory.mkdir(parents=True, exist_ok=True)
    create_topics(place.bootstrap, [place.events, place.predictions], place.n_partitions, SMALL_TOPIC)
    publish_model(place)
    event_seconds = WINDOWS * 3_600.0
    flood = Flood(place, n_entities, event_seconds / n_events, time.time() - event_seconds)
    samples: list[Sample] = []
    child = start_nowcast(place)
    started = time.monotonic()
    due = started

    def sample(flood: Flood) -> bool:
        nonlocal due
        if flood.n_predicted and time.monotonic() >= due:
            due = time.monotonic() + SAMPLE_SECONDS
            samples.append(_sample(flood, child, started))
            print(_describe(samples[-1]), file=sys.stderr, flush=True)
        return flood.n_sent >= n_events

    try:
        flood.send(child, sample)
        flood.drain(child)
        samples.append(_sample(flood, child, started))
    finally:
        child.stop()
        flood.close()
    return samples


def pick_quarters(samples: list[Sample]) -> dict[str, Sample]:
    """Return the samples nearest to each quarter of the events."""
    total = samples[-1].n_predicted
    shares = {"start": 0.0, "10%": 0.1, "quarter": 0.25, "half": 0.5, "three quarters": 0.75, "end": 1.0}
    return {
        name: min(samples, key=lambda sample: abs(sample.n_predicted - share * total))
        for name, share in shares.items()
    }


def main() -> int:
    """Measure, print, write `results/memory.json`, and say by exit code whether memory is flat."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument(
        "--broker", help="kafka://host:port of a broker to use; else an Apache Kafka is started"
    )
    parser.add_argument("--events", type=int, default=10_000_000, help="(default: %(default)s)")
    parser.add_argument("--entities", type=int, default=10_000, help="(default: %(default)s)")
    args = parser.parse_args()
    # Segments are deleted some time after they are given up: look often, and delete at once.
    often = {"log.retention.check.interval.ms": "5000", "log.segment.delete.delay.ms": "1000"}
    with own_place("memory", args.broker, often) as place:
        samples = measure(place, args.events, args.entities)
    return _finish(args, samples)


def _finish(args: argparse.Namespace, samples: list[Sample]) -> int:
    quarters = pick_quarters(samples)
    for name, sample in quarters.items():
        print(f"{name:>15}: {_describe(sample)}")
    growth = quarters["end"].rss_mb / quarters["half"].rss_mb
    flat = growth <= GROWTH_LIMIT
    print(f"{'flat' if flat else 'NOT FLAT'}: the end is {growth:.2f} of half time, {GROWTH_LIMIT:g} allowed")
    path = RESULTS.with_name("memory.json")
    path.parent.mkdir(exist_ok=True)
    document = {
        **describe_machine(),
        "events": args.events,
        "entities": args.entities,
        "growth": growth,
        "quarters": quarters,
        "samples": samples,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    return 0 if flat else 1


def _sample(flood: Flood, child: Child, started: float) -> Sample:
    return Sample(time.monotonic() - started, flood.n_predicted, child.rss_mb)


def _describe(sample: Sample) -> str:
    return f"{sample.n_predicted:>11,} events, {sample.seconds:6.0f} s, {sample.rss_mb:7.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
