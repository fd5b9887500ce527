"""Rows to train models of and to ask them about, and an artefact loaded in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from compute.artefact import load_artefact
from tests.artefacts import MAX_BYTES, as_json

N_FEATURES = 4
NODE = helper.make_node("ReduceSum", ["x", "axes"], ["score"], keepdims=1)
AXES = numpy_helper.from_array(np.array([1], np.int64), "axes")


def rows_of(seed: int = 0, n_rows: int = 400) -> np.ndarray:
    # Through float32, so that trees in float64 and in float32 see the same side of a threshold.
    rows = np.random.default_rng(seed).normal(size=(n_rows, N_FEATURES)).astype(np.float32)
    return rows.astype(np.float64)


X = rows_of()
TRUTH = (X[:, 0] + 0.5 * X[:, 1] ** 2 > 0.4).astype(int)
HELD = rows_of(seed=1)


def load(onnx_bytes: bytes, max_bytes: int = MAX_BYTES, **more: Any) -> Any:
    return load_artefact(onnx_bytes, as_json(**{"n_features": N_FEATURES, **more}), max_bytes=max_bytes)


def predict(model: Any, rows: np.ndarray) -> Any:
    scores, errors = model.predict(rows)
    assert errors == {}
    return scores
