"""What a label costs from its record to the metrics, without a broker: `python -m benchmarks.labels`.

One partition in RocksDB with the predictions of a classifier, and record batches of 4,000 labels for them,
each the first of its event. In memory: the predictions came since the last checkpoint. All others are read
after a restart, with nothing in memory: labels in the order of their events, labels that come minutes apart
(a fifth of the events of some time have theirs in the batch), and labels of hours in no order. Rows by how
many events there are between two checkpoints, as many as a block in the store has.

Microseconds of CPU a label, of the best of some batches: to find predictions and to see what becomes of each
label (`join`), from the record to the metrics (`whole`), and what the next checkpoint takes for it (`taken`).
Then for how many milliseconds of CPU at most the event loop was held meanwhile, and by the checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from app.factory import App, create_app
from app.record_batch import RecordBatch
from app.settings import Settings
from compute.answered import Answered, VersionAnswers
from tables.partition import Partition
from tables.pending import JOINED

N_LABELS, N_BATCHES = 4_000, 6
N_ENTITIES = 250
KEYS = [b"machine-%05d" % i for i in range(N_ENTITIES)]
START_SECONDS = 1_700_000_000.0
DELAY_SECONDS = 7 * 86_400.0

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """Labels of a partition: how many events it has, how many of them came between two checkpoints."""

    n_events: int
    n_per_checkpoint: int
    order: str
    pick: Callable[[np.random.Generator, int], Integers]


def in_order(random: np.random.Generator, n_events: int) -> Integers:
    """Return the events of consecutive labels."""
    return int(random.integers(n_events - N_LABELS)) + np.arange(N_LABELS)


def minutes_apart(random: np.random.Generator, n_events: int) -> Integers:
    """Return events of which every fifth has its label in the batch, in no order."""
    near = int(random.integers(n_events - 5 * N_LABELS)) + np.arange(5 * N_LABELS)
    return random.choice(near, N_LABELS, replace=False)


def hours_apart(random: np.random.Generator, n_events: int) -> Integers:
    """Return events of all the time there is, in no order."""
    return random.choice(n_events, N_LABELS, replace=False)


def in_memory(random: np.random.Generator, n_events: int) -> Integers:
    """Return the events since the last checkpoint, in order."""
    return n_events - N_LABELS + np.arange(N_LABELS)


CASES = [
    Case(100_000, 100_000, "in memory", in_memory),
    *(
        Case(n_events, n_per_checkpoint, pick.__name__.replace("_", " "), pick)
        for n_events, n_per_checkpoint in ((2_000_000, 1_000), (200_000, 20))
        for pick in (in_order, minutes_apart, hours_apart)
    ),
]


def answered(first: int, n: int, random: np.random.Generator) -> Answered:
    """Return predictions of a classifier for so many events."""
    offsets = first + np.arange(n)
    times = START_SECONDS + offsets * 0.01
    score = random.random(n).astype(np.float32).astype(np.float64)
    version = VersionAnswers(
        *("quality", "c0ffee", "champion", "classification", ("0", "1"), 1),
        score,
        (score > 0.5).astype(np.int32),
        np.column_stack([1.0 - score, score]),
    )
    crcs = np.array([crc32(key) for key in KEYS], np.uint32)[offsets % N_ENTITIES]
    return Answered(offsets, times, times, crcs, (version,))


def write_changes(app: App) -> None:
    """Do what a checkpoint does once the broker has everything."""
    for number, items in app.statistics.take_changes().items():
        app.statistics.write(number, items, 2**40)


def fill(app: App, case: Case) -> None:
    """Let the partition have its events; all but those of the last case are in the store."""
    random = np.random.default_rng(1)
    for first in range(0, case.n_events, case.n_per_checkpoint):
        partition = app.statistics.partition(0)
        pending_of(partition).add(answered(first, case.n_per_checkpoint, random))
        partition.next_offset = first + case.n_per_checkpoint
        if case.pick is not in_memory:
            write_changes(app)


def pending_of(partition: Partition) -> Any:
    assert partition.learning is not None
    return partition.learning.pending


def label_batch(events: Integers, first_offset: int) -> RecordBatch:
    """Return the records of labels for events."""
    records = [
        ConsumerRecord(
            *("labels", 0, first_offset + i, int((START_SECONDS + event * 0.01) * 1000) + 60_000, 0),
            *(KEYS[event % N_ENTITIES], b'{"id": "events-0-%d", "label": %d}' % (event, event % 2)),
            *(None, 0, 0, ()),
        )
        for i, event in enumerate(events.tolist())
    ]
    return RecordBatch("labels", 0, records)


async def longest_hold(work: Any) -> float:
    """Return for how many seconds of CPU at most nothing else had a turn while something was awaited."""
    longest, last = 0.0, time.thread_time()

    async def watch() -> None:
        nonlocal longest, last
        while True:
            now = time.thread_time()
            longest, last = max(longest, now - last), now
            await asyncio.sleep(0)

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    await work
    longest = max(longest, time.thread_time() - last)
    watching.cancel()
    return longest


def seconds_to_join(partition: Partition, events: Integers) -> float:
    """Return what finding and joining labels takes, with nothing learnt."""
    pending = pending_of(partition)
    labels = [str(event % 2) for event in events.tolist()]
    crcs = np.array([crc32(KEYS[event % N_ENTITIES]) for event in events.tolist()], np.uint32)
    times = START_SECONDS + events * 0.01 + 60.0
    start = time.thread_time()
    outcomes = pending.join(pending.find(events), labels, times, crcs)
    spent = time.thread_time() - start
    assert (outcomes == JOINED).all()
    return spent


async def measure(case: Case) -> dict[str, float]:
    """Return the least of each figure over some batches."""
    told: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        app = new_app(folder)
        fill(app, case)
        for events in picked(case):
            partition = forgotten(app, case)
            seconds = {"join": seconds_to_join(partition, events)}
            partition = forgotten(app, case)
            start = time.thread_time()
            seconds["held"] = await longest_hold(app.labeller.label(label_batch(events, 0)))
            seconds["whole"] = time.thread_time() - start
            assert partition.learning is not None
            assert partition.learning.counts["joined"] == N_LABELS
            start = time.thread_time()
            app.statistics.take_changes()
            seconds["taken"] = time.thread_time() - start
            told.append(seconds)
    return {name: min(seconds[name] for seconds in told) for name in told[0]}


def new_app(folder: str) -> App:
    app = create_app(Settings(partitions=1, data_dir=folder, label_delay_seconds=DELAY_SECONDS))
    app.conf.tabledir.mkdir(parents=True)
    app.assignor = SimpleNamespace(assigned_standbys=set)  # type: ignore[assignment]
    return app


def picked(case: Case) -> Iterator[Integers]:
    random = np.random.default_rng(2)
    for _ in range(N_BATCHES):
        yield case.pick(random, case.n_events)


def forgotten(app: App, case: Case) -> Partition:
    """Return the partition as after a restart; nothing that was joined before was written."""
    app.statistics.forget()
    app.scorer.next_offsets.clear()
    if case.pick is in_memory:
        fill(app, case)
    return app.statistics.partition(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description=__doc__)
    parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"{'us a label':44}   join  whole  taken   held and by the checkpoint, ms")
    for case in CASES:
        found = asyncio.run(measure(case))
        join, whole, taken = (found[name] / N_LABELS * 1e6 for name in ("join", "whole", "taken"))
        name = f"{case.order}, {case.n_per_checkpoint:,} events a checkpoint"
        held, by_checkpoint = found["held"] * 1e3, found["taken"] * 1e3
        print(f"{name:44} {join:6.1f} {whole:6.1f} {taken:6.1f} {held:6.1f} {by_checkpoint:6.1f}")


if __name__ == "__main__":
    main()
