"""The online learner against River, on the streams that River ships.

Run with `python -m benchmarks.online`; it takes some minutes and writes `results/online.json`. Both sides see
the same events in the same order, predict each and learn its label after that. The learner gets what it gets
in a worker: batches of 4,000 events, normalised by the streaming statistics of one entity whose window holds
the whole stream; the time for that counts. It has no options, so none are chosen for a stream.

Metrics are those of one pass. Speed is told for that pass and for a long run, the stream again and again,
since the first thousand events say little about a worker that runs for months. River's models do the same,
until their time is over. Both have one thread, and seconds are those that a processor worked for them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from sklearn import metrics
from threadpoolctl import threadpool_limits

from benchmarks.online_streams import STREAMS, Stream, models_for, read_stream
from benchmarks.report import RESULTS, describe_machine
from compute.normalisation import normalise
from compute.online import OnlineLearner
from compute.statistics import EMPTY, EntityColumns, score_and_learn

BATCH = 4_000
LONG_EVENTS = 100_000
LONG_SECONDS = 10.0
"""Of a long run: so many events, or as many as River's model does in this time."""

N_TIMES = 5
"""Runs of the learner, of which the median speed is told: they are short."""

OURS = "Nowcast"


class Result(msgspec.Struct):
    """What one model did on one stream."""

    metrics: dict[str, float]
    first_pass_events_per_second: float
    events_per_second: float
    ratio: float = 1.0
    """The learner's events a second over this one's, in the long run."""


class Worker:
    """Statistics and learner, as a partition has them."""

    def __init__(self, stream: Stream) -> None:
        self.names = stream.names
        self.columns = EntityColumns(12, 1e9, stream.names, 1)
        self.learner = OnlineLearner(stream.task)
        self.watermark, self.offset = EMPTY, 0

    def see(self, matrix: np.ndarray, labels: list[Any]) -> Any:
        n = len(matrix)
        nothing = np.zeros(n, np.int64)
        offsets = np.arange(self.offset, self.offset + n)
        learnt, scored = score_and_learn(self.columns, nothing, offsets, nothing, matrix, self.watermark)
        self.columns.assign(learnt)
        self.watermark, self.offset = scored.watermark, self.offset + n
        return self.learner.score_and_learn(self.names, normalise(matrix, scored.mean, scored.stddev), labels)


def run_learner(stream: Stream) -> Result:
    n, firsts, longs = len(stream.labels), [], []
    n_passes = -(-LONG_EVENTS // n)
    matrix, labels = np.tile(stream.matrix, (n_passes, 1)), stream.labels * n_passes
    for _ in range(N_TIMES):
        worker, start = Worker(stream), time.process_time()
        answers = [
            worker.see(stream.matrix[i : i + BATCH], stream.labels[i : i + BATCH]) for i in range(0, n, BATCH)
        ]
        firsts.append(n / (time.process_time() - start))
        worker, start = Worker(stream), time.process_time()
        for i in range(0, len(labels), BATCH):
            worker.see(matrix[i : i + BATCH], labels[i : i + BATCH])
        longs.append(len(labels) / (time.process_time() - start))
    predictions = [each for answer in answers for each in answer.predictions]
    scores = np.concatenate([answer.scores for answer in answers])
    return Result(judge(stream, predictions, scores), float(np.median(firsts)), float(np.median(longs)))


def run_river(stream: Stream, make: Callable[[], Any]) -> Result:
    model, predictions, scores = make(), [], []
    asks_probability = len(stream.classes) == 2
    start = time.process_time()
    for x, y in stream.rows:
        if asks_probability:  # of which its prediction follows; asking for both would cost time
            told = model.predict_proba_one(x)
            scores.append(told.get(True, 0.0) if told else 0.5)
        else:
            predictions.append(model.predict_one(x))
        model.learn_one(x, y)
    first = len(stream.rows) / (time.process_time() - start)
    if asks_probability:
        predictions = [stream.classes[int(score > 0.5)] for score in scores]
    elif stream.task == "regression":
        predictions = [0.0 if value is None else value for value in predictions]
    return Result(judge(stream, predictions, np.array(scores)), first, run_long(stream, make()))


def run_long(stream: Stream, model: Any) -> float:
    """Return the events a second of a model of River that goes through the stream again and again."""
    n, start = 0, time.process_time()
    ask = model.predict_proba_one if len(stream.classes) == 2 else model.predict_one
    while n < LONG_EVENTS:
        for x, y in stream.rows:
            ask(x)
            model.learn_one(x, y)
            n += 1
            if n % 100 == 0 and time.process_time() - start > LONG_SECONDS:
                return n / (time.process_time() - start)
    return n / (time.process_time() - start)


def judge(stream: Stream, predictions: list[Any], scores: np.ndarray) -> dict[str, float]:
    """Return the metrics by scikit-learn; a class that was not predicted at all is wrong."""
    if stream.task == "regression":
        return {"mae": metrics.mean_absolute_error(stream.labels, predictions)}
    told = ["" if each is None else each for each in predictions]
    found = {"accuracy": metrics.accuracy_score(stream.labels, told)}
    if len(stream.classes) == 2:
        positive = stream.classes[1]
        is_positive = np.array(stream.labels) == positive
        says_positive = np.array(told) == positive
        found["balanced_accuracy"] = metrics.balanced_accuracy_score(is_positive, says_positive)
        found["f1"] = metrics.f1_score(is_positive, says_positive)
        found["roc_auc"] = metrics.roc_auc_score(is_positive, scores)
    return {name: float(value) for name, value in found.items()}


def compare(name: str) -> dict[str, Result]:
    """Return what each model did on one stream, the learner first."""
    stream = read_stream(name)
    results = {OURS: run_learner(stream)}
    print(f"\n{name}: {len(stream.rows):,} events, {len(stream.names)} features", flush=True)
    print(describe(OURS, results[OURS]), flush=True)
    for model, make in models_for(stream).items():
        results[model] = run_river(stream, make)
        results[model].ratio = results[OURS].events_per_second / results[model].events_per_second
        print(describe(model, results[model]), flush=True)
    return results


def describe(model: str, result: Result) -> str:
    told = "  ".join(f"{name} {value:8.4f}" for name, value in result.metrics.items())
    speeds = f"{result.first_pass_events_per_second:9,.0f} {result.events_per_second:9,.0f} events/s"
    return f"  {model:26} {speeds} {result.ratio:8.1f}x  {told}"


def find_shortfalls(results: dict[str, dict[str, Result]]) -> list[str]:
    """Return where a model of River is ahead, in a metric or in speed."""
    found = []
    for stream, of_one in results.items():
        ours = of_one[OURS]
        for model, its in of_one.items():
            for name, value in its.metrics.items():
                ahead = value < ours.metrics[name] if name == "mae" else value > ours.metrics[name]
                if ahead:
                    found.append(f"{stream}: {name} of {model} is {value:.4f}, ours {ours.metrics[name]:.4f}")
            if its.events_per_second > ours.events_per_second:
                found.append(f"{stream}: {model} does {its.events_per_second:,.0f} events/s")
    return found


def main() -> int:
    """Measure, print, write `results/online.json`, and say by exit code whether River is ahead anywhere."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.online", description=__doc__)
    parser.add_argument("--streams", nargs="+", choices=list(STREAMS), default=list(STREAMS))
    args = parser.parse_args()
    with threadpool_limits(1):
        results = {name: compare(name) for name in args.streams}
    shortfalls = find_shortfalls(results)
    print("\n" + ("\n".join(shortfalls) or "River is ahead nowhere"))
    path = RESULTS.with_name("online.json")
    path.parent.mkdir(exist_ok=True)
    document = {
        **describe_machine(),
        "batch": BATCH,
        "learner_version": {task: OnlineLearner(task).version for task in ("classification", "regression")},
        "streams": results,
        "shortfalls": shortfalls,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    return 1 if shortfalls else 0


if __name__ == "__main__":
    sys.exit(main())
