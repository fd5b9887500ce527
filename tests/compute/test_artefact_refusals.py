"""Artefacts that are refused, and why."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from compute.artefact import ArtefactError, load_artefact, version_of
from tests.artefacts import MAX_BYTES, artefact, converted, graph, linear
from tests.compute.artefact_samples import AXES, HELD, NODE, TRUTH, X, load, predict


def test_empty_is_refused() -> None:
    with pytest.raises(ArtefactError, match="empty"):
        load(b"")


@pytest.mark.parametrize(
    "content",
    [b"hello", pickle.dumps({"a": 1}), b"\x00" * 40, b"PK\x03\x04", b"\x80\x04", json.dumps({}).encode()],
)
def test_not_onnx_is_refused(content: bytes) -> None:
    with pytest.raises(ArtefactError, match="not ONNX"):
        load(content)


def test_too_large_is_refused_with_bound_and_size() -> None:
    onnx_bytes = linear([1, 1, 1, 1]).SerializeToString()
    with pytest.raises(ArtefactError, match=f"too large: at most 100 bytes .*, received {len(onnx_bytes)}"):
        load(onnx_bytes, max_bytes=100)
    assert load(onnx_bytes, max_bytes=len(onnx_bytes)).size_bytes == len(onnx_bytes)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (graph([NODE], n_features=3, constants=[AXES]), r"found x: tensor\(float\) \(n, 3\)"),
        (graph([NODE], shape=["n", "k"], constants=[AXES]), r"\(n, n\)"),
        (graph([NODE], shape=["n", 2, 1], constants=[AXES]), r"\(n, 2, 1\)"),
        (graph([NODE], shape=[1, 2], constants=[AXES]), "dynamic batch axis"),
        (graph([NODE], kind=TensorProto.INT64, constants=[AXES]), r"tensor\(int64\)"),
    ],
)
def test_wrong_input_is_refused_with_what_is_needed_and_what_was_found(model: Any, found: str) -> None:
    with pytest.raises(ArtefactError, match=r"inputs: one .* shape \(n, 2\) needed.*" + found):
        load(model.SerializeToString(), n_features=2)


def test_two_inputs_are_refused() -> None:
    model = linear([1, 1])
    model.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2]))
    model.graph.node.append(helper.make_node("Identity", ["y"], ["unused"]))
    model.graph.output.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, ["n", 2]))
    with pytest.raises(ArtefactError, match=r"inputs: one .*found x: .*, y: "):
        load(model.SerializeToString(), n_features=2)


def test_unknown_operator_is_named() -> None:
    model = graph([helper.make_node("Divine", ["x"], ["score"])])
    with pytest.raises(ArtefactError, match=r"unknown operator: Divine \(opset 18\)"):
        load(model.SerializeToString(), n_features=2)


def test_unknown_operator_of_a_foreign_domain_is_named() -> None:
    model = graph([helper.make_node("Guess", ["x"], ["score"], domain="my.ops")])
    model.opset_import.append(helper.make_opsetid("my.ops", 1))
    with pytest.raises(ArtefactError, match=r"unknown operator: my\.ops:Guess"):
        load(model.SerializeToString(), n_features=2)


def test_unknown_opset_is_named() -> None:
    with pytest.raises(
        ArtefactError, match=r"unknown opset: at most \d+ of domain ai.onnx needed, found 999"
    ):
        load(graph([NODE], opset=999, constants=[AXES]).SerializeToString(), n_features=2)


def test_missing_output_is_named() -> None:
    with pytest.raises(ArtefactError, match=r"missing output: output\.score is 'chance', found score"):
        load(linear([1, 1]).SerializeToString(), n_features=2, output={"score": "chance"})


def test_score_must_be_named_where_several_outputs_could_be_it() -> None:
    nodes = [NODE, helper.make_node("Neg", ["score"], ["other"])]
    onnx_bytes = graph(nodes, outputs=["score", "other"], constants=[AXES]).SerializeToString()
    with pytest.raises(ArtefactError, match="must name one of"):
        load(onnx_bytes, n_features=2)
    assert load(onnx_bytes, n_features=2, output={"score": "other"}).score_output == "other"


def test_output_of_another_shape_is_refused() -> None:
    onnx_bytes = graph([helper.make_node("Neg", ["x"], ["score"])]).SerializeToString()
    with pytest.raises(ArtefactError, match=r"shape \(3,\) or \(3, 1\) needed, found \(3, 2\)"):
        load(onnx_bytes, n_features=2)


def test_hash_mismatch_is_refused_before_anything_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.artefact.parse_graph", lambda _: pytest.fail("parsed"))
    onnx_bytes, metadata = artefact([1, 2])
    with pytest.raises(ArtefactError, match="hash mismatch"):
        load_artefact(onnx_bytes[:-1] + b"\x00", metadata, max_bytes=MAX_BYTES)


def test_version_covers_the_metadata() -> None:
    onnx_bytes, metadata = artefact([1, 2])
    load_artefact(onnx_bytes, metadata, max_bytes=MAX_BYTES)
    changed = json.dumps({**json.loads(metadata), "threshold": 0.5}).encode()
    with pytest.raises(ArtefactError, match="hash mismatch"):
        load_artefact(onnx_bytes, changed, max_bytes=MAX_BYTES)


def test_version_may_be_declared_by_its_first_characters_and_fields_in_any_order() -> None:
    onnx_bytes, metadata = artefact([1, 2], metrics={"auc": 0.9, "n": 10})
    declared = json.loads(metadata)
    short = dict(reversed([*{**declared, "version": declared["version"][:20]}.items()]))
    model = load_artefact(onnx_bytes, json.dumps(short, indent=4).encode(), max_bytes=MAX_BYTES)
    assert model.content_hash == declared["version"] == version_of(onnx_bytes, declared)
    assert model.version == declared["version"][:16]


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_external_data_is_refused_and_no_file_is_read(
    place: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where ONNX Runtime would look for it
    weights = np.ones((2, 1), np.float32)
    (tmp_path / "secret.bin").write_bytes(weights.tobytes())
    tensor = numpy_helper.from_array(weights, "w")
    tensor.ClearField("raw_data")
    onnx.external_data_helper.set_external_data(_with_raw(tensor), "secret.bin", length=8)
    tensor.ClearField("raw_data")
    times = helper.make_node("MatMul", ["x", "w"], ["score"])
    if place == "initializer":
        model = graph([times], constants=[tensor])
    elif place == "attribute":
        model = graph([helper.make_node("Constant", [], ["w"], value=tensor), times])
    else:
        inner = helper.make_graph(
            [helper.make_node("Constant", [], ["inner"], value=tensor)],
            "inner",
            [],
            [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [2, 1])],
        )
        true = numpy_helper.from_array(np.array(True), "yes")
        branch = helper.make_node("If", ["yes"], ["w"], then_branch=inner, else_branch=inner)
        model = graph([branch, times], constants=[true])
    with pytest.raises(ArtefactError, match=r"external data: tensor 'w' is kept in the file 'secret.bin'"):
        load(model.SerializeToString(), n_features=2)


def _with_raw(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.raw_data = b"\x00" * 8  # the helper wants some before it points elsewhere
    return tensor


def test_classes_that_contradict_the_artefact_are_refused() -> None:
    onnx_bytes = converted(LogisticRegression().fit(X, TRUTH), X)
    with pytest.raises(ArtefactError, match=r"classes: the artefact's own are \[0, 1\], received \[1, 0\]"):
        load(onnx_bytes, kind="classification", classes=[1, 0])
    with pytest.raises(ArtefactError, match=r"classes: 2 needed.* received 3"):
        load(onnx_bytes, kind="classification", classes=["a", "b", "c"])
    with pytest.raises(ArtefactError, match=r"output.positive: one of \[0, 1\] needed, received 7"):
        load(onnx_bytes, kind="classification", output={"positive": 7})


@pytest.mark.filterwarnings("ignore")
def test_classes_that_the_artefact_does_not_list_must_be_listed() -> None:
    estimator = MLPClassifier((4,), max_iter=1000, random_state=0).fit(X, np.array(["b", "a"])[TRUTH])
    onnx_bytes = converted(estimator, X)
    with pytest.raises(ArtefactError, match="classes: needed, since they are strings"):
        load(onnx_bytes, kind="classification")
    model = load(onnx_bytes, kind="classification", classes=["a", "b"])
    assert predict(model, HELD).predictions == estimator.predict(HELD).tolist()


def test_score_that_depends_on_the_other_rows_is_refused() -> None:
    nodes = [
        NODE,
        helper.make_node("ReduceMean", ["score", "rows"], ["middle"], keepdims=1),
        helper.make_node("Sub", ["score", "middle"], ["centred"]),
    ]
    rows = numpy_helper.from_array(np.array([0], np.int64), "rows")
    onnx_bytes = graph(nodes, outputs=["centred"], constants=[AXES, rows]).SerializeToString()
    with pytest.raises(ArtefactError, match="must not depend on the others"):
        load(onnx_bytes, n_features=2)


def test_model_without_any_finite_score_is_refused() -> None:
    nothing = numpy_helper.from_array(np.array([np.nan], np.float32), "nothing")
    nodes = [NODE, helper.make_node("Add", ["score", "nothing"], ["lost"])]
    with pytest.raises(ArtefactError, match="trial run: finite scores needed"):
        load(graph(nodes, outputs=["lost"], constants=[AXES, nothing]).SerializeToString(), n_features=2)


def test_raw_values_may_exclude_zero() -> None:
    nodes = [NODE, helper.make_node("Log", ["score"], ["log"])]
    onnx_bytes = graph(nodes, outputs=["log"], constants=[AXES]).SerializeToString()
    assert load(onnx_bytes, n_features=2, normaliser="none").normaliser == "none"


def test_refusal_says_nothing_on_its_own(capfd: pytest.CaptureFixture[str], caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ArtefactError):
        load(graph([helper.make_node("Divine", ["x"], ["score"])]).SerializeToString(), n_features=2)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
