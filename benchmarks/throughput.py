"""How fast a contender does the whole job, and what it takes.

The events are in their topic before the contender starts. The clock is the broker's: it starts when the
first predictions are appended and ends when the last are. What was appended at the first moment is not
counted, since the work for it was done before; so no contender gains by a large first batch. The start of
the process is told apart (`seconds_total` has it).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np

from benchmarks.contenders import Place
from benchmarks.kafka import Answers, count_records, create_predictions_topic, read_predictions, watcher
from benchmarks.processes import Child

POLL_SECONDS = 0.1


class Throughput(msgspec.Struct):
    """One run of one contender."""

    events_per_second: float
    cpu_seconds_per_100k: float
    peak_rss_mb: float
    seconds: float
    seconds_total: float
    cpu_seconds_total: float


def run(
    start: Callable[[Place], Child], place: Place, n_events: int, timeout_seconds: float
) -> tuple[Throughput, Answers]:
    """Let a contender do the job once.

    Raises
    ------
    RuntimeError
        If its process ends by itself.
    TimeoutError
        If the predictions are not there in time.
    """
    place.directory.mkdir(parents=True, exist_ok=True)
    create_predictions_topic(place.bootstrap, place.predictions, place.n_partitions)
    child = start(place)
    try:
        await_predictions(child, place, n_events, timeout_seconds)
    finally:
        child.stop()
    answers = read_predictions(place.bootstrap, place.predictions, place.n_partitions)
    return measure(child, answers), answers


def measure(child: Child, answers: Answers) -> Throughput:
    """Return the figures of a run from the times of its predictions."""
    first, last = int(answers.appended_ms.min()), int(answers.appended_ms.max())
    seconds = (last - first) / 1e3
    n_counted = int(np.count_nonzero(answers.appended_ms > first))
    if not n_counted:
        raise RuntimeError(
            "all predictions were appended within a millisecond: the job is too small to measure"
        )
    cpu_seconds = child.cpu_between(first / 1e3, last / 1e3)
    return Throughput(
        events_per_second=n_counted / seconds,
        cpu_seconds_per_100k=cpu_seconds / n_counted * 1e5,
        peak_rss_mb=child.peak_rss_mb,
        seconds=seconds,
        seconds_total=last / 1e3 - child.started,
        cpu_seconds_total=child.cpu_seconds,
    )


def await_predictions(child: Child, place: Place, n_events: int, timeout_seconds: float) -> None:
    """Wait until a contender has published as many predictions as there are events."""
    consumer = watcher(place.bootstrap)
    deadline = time.monotonic() + timeout_seconds
    try:
        while (n := count_records(consumer, place.predictions, place.n_partitions)) < n_events:
            child.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{n} of {n_events} predictions after {timeout_seconds:g} s:\n{child.read_log()}"
                )
            time.sleep(POLL_SECONDS)
    finally:
        consumer.close()
