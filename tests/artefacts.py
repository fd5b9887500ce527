"""Small ONNX models for tests, made by hand or converted from scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx

from tables.artefact_records import pack_metadata

MAX_BYTES = 64_000_000
OPSETS = {"": 18, "ai.onnx.ml": 3}


def graph(
    nodes: Sequence[onnx.NodeProto],
    *,
    n_features: int = 2,
    shape: Sequence[Any] | None = None,
    kind: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("score",),
    constants: Sequence[onnx.TensorProto] = (),
    opset: int = 18,
) -> onnx.ModelProto:
    """Return a model with the input `x` and outputs of float, unless `nodes` say otherwise."""
    return helper.make_model(
        helper.make_graph(
            list(nodes),
            "test",
            [helper.make_tensor_value_info("x", kind, shape or ["n", n_features])],
            [helper.make_tensor_value_info(name, kind, None) for name in outputs],
            list(constants),
        ),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=8,
    )


def linear(weights: Sequence[float], padding_bytes: int = 0) -> onnx.ModelProto:
    """Return a model that answers with the weighted sum; `padding_bytes` of it are ballast."""
    constants = [numpy_helper.from_array(np.array(weights, np.float32).reshape(-1, 1), "w")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["score"])]
    if padding_bytes:
        # Added as the sum of zeros, lest an optimiser drops it; random, lest it is compressed.
        noise = np.random.default_rng(7).integers(0, 255, padding_bytes, np.uint8)
        constants += [
            numpy_helper.from_array(noise, "ballast"),
            numpy_helper.from_array(np.array([0], np.int64), "nowhere"),
        ]
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["weighted"]),
            helper.make_node("Gather", ["ballast", "nowhere"], ["picked"]),
            helper.make_node("Cast", ["picked"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["cast", "cast"], ["nothing"]),
            helper.make_node("Add", ["weighted", "nothing"], ["score"]),
        ]
    return graph(nodes, n_features=len(weights), constants=constants)


def looping() -> onnx.ModelProto:
    """Return a model of two features that turns as many rounds as the first says, and answers with their sum.

    The rounds are those of the row that asks for most. Each is a node of ONNX Runtime, some microseconds.
    """
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["held"], ["kept"])],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["asked"], axis=1),
        helper.make_node("ReduceMax", ["asked"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["n_rounds"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["x", "features"], ["sum"], keepdims=1),
        helper.make_node("Loop", ["n_rounds", "", "sum"], ["score"], body=body),
    ]
    constants = [
        numpy_helper.from_array(np.array([0], np.int64), "first"),
        numpy_helper.from_array(np.array([1], np.int64), "features"),
    ]
    return graph(nodes, constants=constants)


def converted(estimator: Any, rows: np.ndarray, *, zipmap: bool = False, **options: Any) -> bytes:
    """Return a fitted scikit-learn estimator as ONNX bytes."""
    if hasattr(estimator, "predict_proba") or hasattr(estimator, "classes_"):
        options["zipmap"] = zipmap
    model = to_onnx(estimator, rows[:1].astype(np.float32), options=options or None, target_opset=OPSETS)
    return bytes(model.SerializeToString())


def fields(name: str = "pump", kind: str = "regression", n_features: int = 2, **more: Any) -> dict[str, Any]:
    """Return metadata for a model with features f0, f1, ..."""
    return {"name": name, "kind": kind, "features": [f"f{i}" for i in range(n_features)], **more}


def as_json(**more: Any) -> bytes:
    """Return `fields` as JSON, without a version."""
    return json.dumps(fields(**more)).encode()


def artefact(weights: Sequence[float], padding_bytes: int = 0, **more: Any) -> tuple[bytes, bytes]:
    """Return the two parts of a linear artefact, with the version it has."""
    onnx_bytes = linear(weights, padding_bytes).SerializeToString()
    return onnx_bytes, pack_metadata(onnx_bytes, fields(n_features=len(weights), **more))


def logistic(weights: Sequence[float], name: str = "model", intercept: float = 0.0) -> tuple[bytes, bytes]:
    """Return a model of two classes whose raw features a, b, ... are weighted, and its metadata."""
    constants = [
        numpy_helper.from_array(np.array(weights, np.float32).reshape(-1, 1), "w"),
        numpy_helper.from_array(np.array([intercept], np.float32), "b"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["sum"]),
        helper.make_node("Add", ["sum", "b"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    onnx_bytes = graph(nodes, n_features=len(weights), constants=constants).SerializeToString()
    fields = {
        "name": name,
        "kind": "classification",
        "features": list("abcdefgh"[: len(weights)]),
        "normaliser": "none",
        "classes": [0, 1],
    }
    return onnx_bytes, pack_metadata(onnx_bytes, fields)
