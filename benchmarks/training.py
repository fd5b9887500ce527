"""`python -m benchmarks.training`: does scoring wait for a training? Latency with and without one going on.

By turns on the same broker and machine: a steady rate of events through a worker with a model, alone, then
beside trainings that follow one another without a pause (all candidates, on 20,000 real labelled events),
which the worker starts as its supervisor would. What a training takes from the machine it takes from
everybody, the probe too, so its lateness is shown beside.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from app.cluster import find_free_port
from benchmarks import latency
from benchmarks.contenders import Place, nowcast_environment, own_place
from benchmarks.latency import Latency
from benchmarks.model import publish_model
from benchmarks.processes import Child
from benchmarks.report import RESULTS, describe_machine
from benchmarks.training_worker import OUTCOMES

MODES = ("alone", "beside a training")


def start_worker(place: Place, *, is_training: bool) -> Child:
    """Start a worker that trains, or the same worker that does not."""
    environment = nowcast_environment(place)
    if is_training:
        environment[OUTCOMES] = str(outcomes_file(place))
    port = str(find_free_port())
    arguments = ["-A", "benchmarks.training_worker", "worker", "-l", "warn", "--web-port", port]
    return Child([sys.executable, "-m", "faust", *arguments], place.log, environment)


def outcomes_file(place: Place) -> Path:
    """Return the file that has a line for each training of a turn."""
    return place.directory / "trainings"


def main() -> int:
    """Measure and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--broker", help="kafka://host:port to use; else an Apache Kafka is started")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1_000.0, help="events/s (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each turn (default: %(default)s)")
    args = parser.parse_args()
    runs: dict[str, list[Latency]] = {mode: [] for mode in MODES}
    faults: list[str] = []
    with own_place("training", args.broker) as common:
        publish_model(common)
        for turn in range(args.rounds):
            for mode in MODES:
                name = f"{common.group}-{turn}-{MODES.index(mode)}"
                place = replace(
                    common,
                    group=name,
                    events=f"{name}-events",
                    predictions=f"{name}-predictions",
                    directory=common.directory / name,
                )
                start = partial(start_worker, is_training=mode == MODES[1])
                figures = latency.run(start, place, per_second=args.rate, seconds=args.seconds)
                if mode == MODES[1]:
                    *outcomes, last = outcomes_file(place).read_text().splitlines()
                    faults += [f"a training {outcome}" for outcome in outcomes if outcome != "succeeded"]
                    faults += [f"the last training {last}"] * (last not in ("succeeded", "was stopped"))
                runs[mode].append(figures)
                faults += [f"{mode}: {figures.n_missing} events without a prediction"] * bool(
                    figures.n_missing
                )
                print(f"{mode}, run {turn + 1}: {_told(figures)}", file=sys.stderr, flush=True)
    for mode, of_one in runs.items():
        print(f"{mode:20} {_told(sorted(of_one, key=lambda one: one.p99_ms)[len(of_one) // 2])}")
    for fault in faults:
        print(f"FAULT: {fault}")
    path = RESULTS.with_name("training.json")
    document = {**describe_machine(), "rate": args.rate, "runs": runs, "faults": faults}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    return 1 if faults else 0


def _told(figures: Latency) -> str:
    return (
        f"p50 {figures.p50_ms:6.1f} ms, p99 {figures.p99_ms:6.1f} ms, worst {figures.max_ms:6.1f} ms, "
        f"the probe itself late by {figures.lateness_p99_ms:5.1f} ms at p99"
    )


if __name__ == "__main__":
    sys.exit(main())
