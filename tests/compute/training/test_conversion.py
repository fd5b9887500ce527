from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from compute.training.candidates import NAMES, choose_candidates
from compute.training.conversion import INPUT, round_down, to_onnx
from compute.training.plan import Plan, split_by_time
from compute.training.selection import fit
from tests.compute.training.samples import sample_of

ROOT = Path(__file__).parents[3]


def run(onnx_bytes: bytes, inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    return session.run(None, {INPUT: inputs})


def test_float32_below_is_the_largest_that_is_not_above() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=500) * 10.0 ** rng.integers(-30, 30, 500), [0.0, 1e39, -1e39]])
    rounded = round_down(values)
    assert (rounded <= values).all()
    assert (rounded == rounded.astype(np.float32)).all()
    finite = np.abs(values) < 1e38
    above = np.nextafter(rounded[finite].astype(np.float32), np.float32(np.inf)).astype(np.float64)
    assert (above > values[finite]).all()


def test_boosting_tells_neighbouring_float32_values_apart_as_the_original_does() -> None:
    # Between two neighbours the middle is a tie, which float32 rounds to the even one: every other time up.
    steps = np.float32(1e6) + np.arange(64, dtype=np.float32) * np.float32(0.0625)
    inputs = np.repeat(steps.astype(np.float64), 8)[:, None]
    targets = np.repeat(np.arange(64) * 37 % 64, 8).astype(float)
    model = HistGradientBoostingRegressor(max_leaf_nodes=64, min_samples_leaf=1, max_iter=20)
    model.fit(inputs, targets)
    (found,) = run(_float_input(to_onnx(model, 1)), inputs.astype(np.float32))
    np.testing.assert_allclose(found.ravel(), model.predict(inputs), atol=1e-3)


def _float_input(onnx_bytes: bytes) -> bytes:
    """Give a graph of trees alone the input of float32 that a cast before it gives it otherwise."""
    graph = onnx.load_from_string(onnx_bytes)
    graph.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    graph.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return graph.SerializeToString()


def test_a_number_comes_back_in_the_unit_of_the_target() -> None:
    sample = sample_of("regression", 300)
    far = sample.targets.astype(float) * 1e-3 + 1e9  # float32 knows steps of 64 there
    candidate = choose_candidates(["linear"], "regression", "none", seed=0)[1]
    model = candidate.estimator.fit(sample.inputs, far)
    (found,) = run(to_onnx(model, 4), sample.inputs)
    assert found.shape == (300, 1)
    np.testing.assert_allclose(found.ravel(), model.predict(sample.inputs), rtol=1e-12)
    assert np.abs(found.ravel() - far).mean() < 1e-3


def test_any_number_of_rows_is_taken() -> None:
    converted = to_onnx(Ridge().fit(np.eye(3), [1.0, 2.0, 3.0]), 3)
    assert run(converted, np.zeros((1, 3)))[0].shape == (1, 1)
    assert run(converted, np.zeros((7, 3)))[0].shape == (7, 1)


HASHES = """
import json, sys
from tests.compute.training.test_conversion import hashes
print(json.dumps(hashes()))
"""


def hashes() -> dict[str, str]:
    """Return by task and candidate a hash of the ONNX bytes."""
    found = {}
    for task in ("classification", "regression"):
        sample = sample_of(task, 200)
        rows = split_by_time(200, Plan(task)).train
        for candidate in choose_candidates([], task, "none", seed=5)[1:]:
            content = to_onnx(fit(candidate, {}, sample, rows), 4)
            found[f"{task} {candidate.name}"] = hashlib.sha256(content).hexdigest()
    return found


def test_the_same_data_and_seed_give_the_same_bytes_in_every_process() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", HASHES],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    one, other = (json.loads(process.communicate(timeout=60)[0]) for process in processes)
    assert len(one) == 2 * len(NAMES)
    assert one == other
    again = hashes()
    assert again == hashes()
