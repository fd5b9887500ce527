"""The job that every contender does: its events, its model, and the definition of a right score.

For each event: normalise the features by the statistics of the entity's earlier events (score first), apply
a linear model, publish the prediction, then add the event to the statistics (learn).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

FEATURES = ("temperature", "pressure", "vibration", "current")
WEIGHTS = (0.8, -1.1, 0.5, 1.7)
BIAS = 0.25
MODEL_NAME = "bench-linear"

Z_LIMIT = 100.0
NOISE = 4 * sys.float_info.epsilon
TINY = sys.float_info.min
"""What `compute/normalisation.py` says of z: its bound, and the least standard deviation for a mean."""

SPAN_SECONDS = 2_000.0
"""Event time of the whole job: below the default window of 3,600 s, so nothing expires within the run."""


@dataclass(frozen=True)
class Job:
    """Size of the job; the defaults are those of the published figures."""

    n_events: int = 200_000
    n_entities: int = 1_000
    n_partitions: int = 4
    seed: int = 20_261_121


def entity_keys(n_entities: int) -> list[bytes]:
    """Return the keys of the entities."""
    return [b"machine-%05d" % i for i in range(n_entities)]


def generate_events(job: Job, end_seconds: float) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and JSON of each event, in order of event time.

    Parameters
    ----------
    job : Job
        Size and seed.
    end_seconds : float
        Time of the last event, in epoch seconds; the first is `SPAN_SECONDS` earlier.
    """
    random = np.random.default_rng(job.seed)
    keys = entity_keys(job.n_entities)
    level = random.normal(50.0, 20.0, (job.n_entities, len(FEATURES)))
    spread = random.uniform(0.5, 3.0, (job.n_entities, len(FEATURES)))
    start_seconds = end_seconds - SPAN_SECONDS
    encode = msgspec.json.Encoder().encode
    for first in range(0, job.n_events, 10_000):
        n = min(10_000, job.n_events - first)
        entities = random.integers(0, job.n_entities, n)
        values = level[entities] + spread[entities] * random.normal(size=(n, len(FEATURES)))
        for i, (entity, row) in enumerate(
            zip(entities.tolist(), values.round(4).tolist(), strict=True), first
        ):
            seconds = start_seconds + SPAN_SECONDS * (i + 1) / job.n_events
            event = {"timestamp": round(seconds, 3), "features": dict(zip(FEATURES, row, strict=True))}
            yield keys[entity], encode(event)


class Running:
    """Statistics of one entity, one value at a time (Welford 1962), as one writes them by hand."""

    __slots__ = ("count", "m2", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = [0.0] * len(FEATURES)
        self.m2 = [0.0] * len(FEATURES)

    def score_and_learn(self, values: Sequence[float]) -> float:
        """Return the score of an event by what came before it, then add the event."""
        n, mean, m2 = self.count, self.mean, self.m2
        self.count = after = n + 1
        if not n:
            mean[:] = values
            return BIAS  # nothing to compare with: every z is 0
        score = BIAS
        for i, value in enumerate(values):
            before, squares = mean[i], m2[i]
            away = value - before
            stddev = math.sqrt(squares / n)
            floor = abs(before) * NOISE + TINY
            z = away / (stddev if stddev > floor else floor)
            score += WEIGHTS[i] * (Z_LIMIT if z > Z_LIMIT else -Z_LIMIT if z < -Z_LIMIT else z)
            mean[i] = before + away / after
            m2[i] = squares + away * (value - mean[i])
        return score


def linear_model() -> bytes:
    """Return the model as ONNX: z-scores of the features in, `w . z + b` out."""
    weights = np.array(WEIGHTS, np.float32).reshape(-1, 1)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["weighted"]),
            helper.make_node("Add", ["weighted", "bias"], ["score"]),
        ],
        MODEL_NAME,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(FEATURES)])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.array([BIAS], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    metadata = {"name": MODEL_NAME, "kind": "regression", "features": FEATURES, "normaliser": "window"}
    helper.set_model_props(model, {"nowcast": json.dumps(metadata)})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
