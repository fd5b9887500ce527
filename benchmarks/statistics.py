"""Cost of windowed statistics and of the stored form of entities.

Run with `python -m benchmarks.statistics`; the best of several repetitions is shown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from compute.state_codec import decode_many, encode_many
from compute.statistics import EMPTY, EntityColumns, normalise, score_and_learn

N_PANES, PANE_SECONDS = 12, 300.0


class Stream:
    """Batches of random events, each with an offset above the last."""

    def __init__(self, n_events: int, n_slots: int, n_features: int, panes_per_batch: float, missing: float):
        self.random = np.random.default_rng(1)
        self.n_events, self.n_slots, self.n_features = n_events, n_slots, n_features
        self.panes_per_batch, self.missing = panes_per_batch, missing
        self.once = n_slots == n_events
        self.time = 1000.0
        self.offset = 0

    def batch(self) -> tuple[np.ndarray, ...]:
        n = self.n_events
        slots = self.random.permutation(n) if self.once else self.random.integers(0, self.n_slots, n)
        panes = np.floor(self.time + np.arange(n) / n * self.panes_per_batch).astype(np.int64)
        matrix = self.random.normal(20.0, 3.0, (n, self.n_features))
        if self.missing:
            matrix[self.random.random(matrix.shape) < self.missing] = np.nan
        offsets = np.arange(self.offset, self.offset + n)
        self.time += self.panes_per_batch
        self.offset += n
        return slots, offsets, panes, matrix


def seconds_a_batch(stream: Stream, n_batches: int) -> float:
    """Return the time of the fastest batch, the ring being full."""
    names = [f"f{i}" for i in range(stream.n_features)]
    columns = EntityColumns(N_PANES, PANE_SECONDS, names, stream.n_slots)
    watermark, best = EMPTY, np.inf
    for i in range(n_batches):
        slots, offsets, panes, matrix = stream.batch()
        start = time.perf_counter()
        learnt, scored = score_and_learn(columns, slots, offsets, panes, matrix, watermark)
        columns.assign(learnt)
        normalise(matrix, scored.mean, scored.stddev)
        spent = time.perf_counter() - start
        watermark = scored.watermark
        if i >= n_batches // 4:
            best = min(best, spent)
    return float(best)


def seconds_of_codec(n_slots: int, n_times: int) -> dict[str, float]:
    """Return the best times to encode, decode and put back entities with full rings of 4 features."""
    stream = Stream(N_PANES * n_slots, n_slots, 4, 0.0, 0.0)
    columns = EntityColumns(N_PANES, PANE_SECONDS, [f"f{i}" for i in range(4)], n_slots)
    _, offsets, _, matrix = stream.batch()
    panes, slots = np.divmod(np.arange(len(matrix)), n_slots)
    columns.assign(score_and_learn(columns, slots, offsets, panes, matrix)[0])
    every = np.arange(n_slots)
    best = {"encode": np.inf, "decode": np.inf, "put": np.inf}
    for _ in range(n_times):
        times = [time.perf_counter()]
        stored = encode_many(columns, every)
        times.append(time.perf_counter())
        states = decode_many(stored)
        times.append(time.perf_counter())
        columns.put(every.tolist(), states)
        times.append(time.perf_counter())
        best = {name: min(old, new) for (name, old), new in zip(best.items(), np.diff(times), strict=True)}
    return {name: float(value) for name, value in best.items()} | {"bytes": float(len(stored[0]))}


CASES: dict[str, Callable[[int], Stream]] = {
    "1,000 entities, one pane": lambda n: Stream(n, 1000, 4, 0.0, 0.0),
    "1,000 entities, a new pane each batch": lambda n: Stream(n, 1000, 4, 1.0, 0.0),
    "1,000 entities, 5% missing": lambda n: Stream(n, 1000, 4, 0.0, 0.05),
    "1,000 entities, 3 panes a batch": lambda n: Stream(n, 1000, 4, 3.0, 0.0),
    "one hot entity, one pane": lambda n: Stream(n, 1, 4, 0.0, 0.0),
    "one hot entity, a pane each event": lambda n: Stream(n, 1, 4, float(n), 0.0),
    "one hot entity, silent each event": lambda n: Stream(n, 1, 4, 20.0 * n, 0.0),
    "every entity once, one pane": lambda n: Stream(n, n, 4, 0.0, 0.0),
    "every entity once, a new pane each batch": lambda n: Stream(n, n, 4, 1.0, 0.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=4000, help="events in a batch")
    parser.add_argument("--batches", type=int, default=60)
    arguments = parser.parse_args()
    for name, make in CASES.items():
        best = seconds_a_batch(make(arguments.events), arguments.batches)
        per_event = best / arguments.events
        print(f"{name:42s} {per_event * 1e6:7.3f} us/event {1 / per_event:12,.0f} events/s")
    codec = seconds_of_codec(n_slots=1000, n_times=10)
    size = codec.pop("bytes")
    for name, best in codec.items():
        print(
            f"{name + f', {N_PANES} panes of 4 features':42s} {best * 1e3:7.2f} us/entity {size:9,.0f} bytes"
        )


if __name__ == "__main__":
    main()
