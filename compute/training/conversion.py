"""From a fitted estimator to ONNX bytes.

Owns what skl2onnx is told, and where it has to be helped. The same estimator gives the same bytes, in every
process. Whether they answer as the estimator does is checked in `compute/training/finalists.py`.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common._registration import get_converter
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

OPSETS = {"": 18, "ai.onnx.ml": 3}
"""Old enough for any ONNX Runtime that is allowed here."""

INPUT = "inputs"


def to_onnx(estimator: Any, n_features: int) -> bytes:
    """Return an estimator as ONNX with one input of float64.

    Parameters
    ----------
    estimator : object
        Fitted; of those in `compute/training/candidates.py`.
    n_features : int

    Raises
    ------
    Exception
        Whatever skl2onnx raises where it cannot convert.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> graph = onnx.load_from_string(to_onnx(Ridge().fit(np.eye(3), [1.0, 2.0, 3.0]), n_features=3))
    >>> [item.name for item in graph.graph.input]
    ['inputs']
    """
    inner = estimator.regressor_ if isinstance(estimator, TransformedTargetRegressor) else estimator
    model = convert_sklearn(
        inner,
        "trained",  # left out, it would be drawn at random
        [(INPUT, DoubleTensorType([None, n_features]))],
        options=_options(inner),
        target_opset=OPSETS,
        custom_conversion_functions=dict.fromkeys(
            (HistGradientBoostingClassifier, HistGradientBoostingRegressor), _convert_boosting
        ),
    )
    if inner is not estimator:
        _undo_scaling(model.graph, estimator.transformer_)
    versions = sorted((item.domain, item.version) for item in model.opset_import)
    del model.opset_import[:]  # in an order that is another one in each process
    model.opset_import.extend(helper.make_opsetid(*version) for version in versions)
    return bytes(model.SerializeToString(deterministic=True))


def _options(estimator: Any) -> dict[int, dict[str, Any]]:
    options: dict[int, dict[str, Any]] = {}
    if hasattr(estimator, "classes_"):
        options[id(estimator)] = {"zipmap": False}
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if isinstance(last, (KNeighborsClassifier, KNeighborsRegressor)):
        # One operator for all distances instead of a loop over rows: four times as fast.
        options.setdefault(id(last), {})["optim"] = "cdist"
    return options


def _undo_scaling(graph: onnx.GraphProto, scaler: Any) -> None:
    """Bring the output of a regression from standard deviations back to the target's unit, in float64."""
    (output,) = graph.output
    constants = {"target_scale": scaler.scale_, "target_mean": scaler.mean_}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float64), name) for name, value in constants.items()
    )
    graph.node.extend(
        [
            helper.make_node("Cast", [output.name], ["target_double"], "target_cast", to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["target_double", "target_scale"], ["target_scaled"], "target_mul"),
            helper.make_node("Add", ["target_scaled", "target_mean"], ["target"], "target_add"),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("target", TensorProto.DOUBLE, [None, 1]))


def _convert_boosting(scope: Any, operator: Any, container: Any) -> None:
    """Convert histogram gradient boosting by skl2onnx's own converter, with two faults mended.

    Its thresholds lie in the middle between two float32 values, and rounded to float32 may fall on the upper
    one, which then goes the other way: rounded down they never do. And it hands over flags as booleans where
    protobuf takes integers only.
    """
    booster = copy.deepcopy(operator.raw_operator)
    for iteration in booster._predictors:
        for tree in iteration:
            tree.nodes["num_threshold"] = round_down(tree.nodes["num_threshold"])
    operator.raw_operator = booster
    get_converter(operator.type)(scope, operator, _PlainAttributes(container))


def round_down(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each value the largest float32 that is not above it.

    Examples
    --------
    >>> round_down(np.array([0.1, 0.5, 16777217.0])).tolist()
    [0.0999999940395..., 0.5, 16777216.0]
    """
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest > values, below, nearest).astype(np.float64)


class _PlainAttributes:
    """A container of skl2onnx that turns what is boolean or numpy's integer in lists into integers."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *arguments: Any, **attributes: Any) -> Any:
        for name, value in attributes.items():
            if isinstance(value, list):
                attributes[name] = [
                    int(item) if isinstance(item, (bool, np.bool_, np.integer)) else item for item in value
                ]
        return self._container.add_node(*arguments, **attributes)
