"""`python -m benchmarks.profile`: where an event's time goes in a Nowcast worker, stage by stage.

A real worker is kept busy; py-spy looks at it from outside, so that nothing in it is slowed or changed. Its
samples divide the CPU time that the process took among the stages.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.contenders import Place, own_place, start_nowcast
from benchmarks.flood import Flood
from benchmarks.kafka import create_predictions_topic, create_topics
from benchmarks.model import publish_model
from benchmarks.stages import count_stages

AHEAD_PER_SECOND = 170_000
"""Events put in place before the profile, so that their producer does not take the worker's processor."""

RATE = 250
"""Samples per second."""


def main() -> int:
    """Profile and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument(
        "--broker", help="kafka://host:port of a broker to use; else an Apache Kafka is started"
    )
    parser.add_argument("--seconds", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--entities", type=int, default=1_000, help="(default: %(default)s)")
    parser.add_argument("--stacks", type=Path, help="file for the collapsed stacks (for a flame graph)")
    parser.add_argument(
        "--gil", action="store_true", help="count only what holds Python's lock, not what waits for it"
    )
    args = parser.parse_args()
    if shutil.which("py-spy") is None:
        print("py-spy is needed: pip install py-spy", file=sys.stderr)
        return 2
    with own_place("profile", args.broker) as place:
        stacks = args.stacks or place.directory / "stacks.txt"
        _profile(place, args.seconds, args.entities, stacks, ["--gil"] if args.gil else [])
    return 0


def _profile(place: Place, seconds: int, n_entities: int, stacks: Path, options: list[str]) -> None:
    create_topics(place.bootstrap, [place.events], place.n_partitions, {})
    create_predictions_topic(place.bootstrap, place.predictions, place.n_partitions)
    publish_model(place)
    n_events = (seconds + 3) * AHEAD_PER_SECOND
    span_seconds = 2_000.0
    flood = Flood(place, n_entities, span_seconds / n_events, time.time() - span_seconds)
    flood.fill(n_events)
    child = start_nowcast(place)
    try:
        while not flood.look():
            child.check_alive()
            time.sleep(0.05)
        time.sleep(1.0)  # the first batches meet entities that are new
        started, n_before = time.time(), flood.look()
        subprocess.run(
            [
                *("py-spy", "record", "--pid", str(child.pid), "--duration", str(seconds)),
                *("--rate", str(RATE), "--format", "raw", "--nonblocking", "--output", str(stacks)),
                *options,
            ],
            check=True,
            capture_output=True,
        )
        ended, n_after = time.time(), flood.look()
        if n_after >= n_events:
            print("the events ran out before the profile ended: its figures hold idle time", file=sys.stderr)
    finally:
        child.stop()
        flood.close()
    _print(stacks, n_after - n_before, ended - started, child.cpu_between(started, ended))


def _print(stacks: Path, n_events: int, seconds: float, cpu_seconds: float) -> None:
    samples = count_stages(stacks.read_text())
    samples.pop("idle", None)
    total = sum(samples.values())
    cpu_us = cpu_seconds / n_events * 1e6
    print(f"{n_events / seconds:,.0f} events/s, {cpu_us:.2f} us of CPU an event, {total} samples\n")
    print(f"{'stage':20} {'us/event':>9} {'share':>7}")
    for stage, n in samples.most_common():
        print(f"{stage:20} {cpu_us * n / total:9.2f} {n / total:7.1%}")


if __name__ == "__main__":
    sys.exit(main())
