"""`python -m benchmarks.training`: does scoring wait for a training? Latency with and without one going on.

By turns on the same broker and machine: a steady rate of events through a worker with a model, alone, then
beside trainings that follow one another without a pause (all candidates, on 20,000 real labelled events).
What a training takes from the machine it takes from everybody, the probe too, so its lateness is shown
beside.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from benchmarks import latency
from benchmarks.contenders import own_place, start_nowcast
from benchmarks.latency import Latency
from benchmarks.model import publish_model
from benchmarks.report import RESULTS, describe_machine

ROOT = Path(__file__).parent.parent
MODES = ("alone", "beside a training")

TRAIN = [
    *(sys.executable, "-m", "faust", "-A", "app", "train", "shuttle"),
    *("--task", "classification", "--no-publish", "--max-events", "20000"),
]


@contextmanager
def trainings() -> Iterator[list[int]]:
    """Train again and again until the context is left; the list gets the exit code of each."""
    codes: list[int] = []
    ending = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def train() -> None:
        while not ending.is_set():
            running[:] = [
                subprocess.Popen(
                    TRAIN,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            ]
            codes.append(running[0].wait())

    thread = threading.Thread(target=train)
    thread.start()
    try:
        yield codes
    finally:
        ending.set()
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        thread.join()


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
                if mode == MODES[0]:
                    figures = latency.run(start_nowcast, place, per_second=args.rate, seconds=args.seconds)
                else:
                    with trainings() as codes:
                        figures = latency.run(
                            start_nowcast, place, per_second=args.rate, seconds=args.seconds
                        )
                    faults += [f"a training ended with {code}" for code in codes[:-1] if code]
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
