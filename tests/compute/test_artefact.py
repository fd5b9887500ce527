from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from compute.artefact import ArtefactError, embedded_metadata, load_artefact, version_of
from compute.metadata import parse_metadata, read_metadata
from tables.artefact_records import pack_metadata
from tests.artefacts import MAX_BYTES, artefact, as_json, converted, fields, graph, linear

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


# What a model answers


@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        DecisionTreeClassifier(max_depth=4, random_state=0),
        RandomForestClassifier(20, max_depth=5, random_state=0),
        make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=1000, random_state=0)),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_classifier_answers_as_its_original(estimator: Any, zipmap: bool) -> None:
    estimator.fit(X, TRUTH)
    model = load(converted(estimator, X, zipmap=zipmap), kind="classification")
    scores = predict(model, HELD)
    expected = estimator.predict_proba(HELD)
    np.testing.assert_allclose(scores.probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(scores.scores, expected[:, 1], atol=1e-5)
    assert scores.predictions == estimator.predict(HELD).tolist()
    assert model.classes == (0, 1)


@pytest.mark.filterwarnings("ignore")
def test_svc_with_probabilities_answers_as_its_original() -> None:
    estimator = SVC(probability=True, random_state=0).fit(X, TRUTH)
    scores = predict(load(converted(estimator, X), kind="classification"), HELD)
    np.testing.assert_allclose(scores.probabilities, estimator.predict_proba(HELD), atol=1e-4)
    assert scores.predictions == estimator.predict(HELD).tolist()


def test_svc_without_probabilities_is_no_classification() -> None:
    with pytest.raises(ArtefactError, match="probabilities that sum to 1 needed"):
        load(converted(SVC().fit(X, TRUTH), X), kind="classification")


@pytest.mark.parametrize("zipmap", [False, True])
def test_classes_are_the_artefacts_own_strings(zipmap: bool) -> None:
    names = np.array(["worn", "new"])[TRUTH]
    estimator = LogisticRegression().fit(X, names)
    model = load(converted(estimator, X, zipmap=zipmap), kind="classification", output={"positive": "new"})
    scores = predict(model, HELD)
    assert model.classes == ("new", "worn")
    assert scores.predictions == estimator.predict(HELD).tolist()
    np.testing.assert_allclose(scores.scores, estimator.predict_proba(HELD)[:, 0], atol=1e-5)


@pytest.mark.parametrize("zipmap", [False, True])
def test_metadata_names_classes_that_are_numbers_in_the_artefact(zipmap: bool) -> None:
    estimator = LogisticRegression().fit(X, TRUTH)
    onnx_bytes = converted(estimator, X, zipmap=zipmap)
    model = load(onnx_bytes, kind="classification", classes=["ok", "fault"])
    assert predict(model, HELD).predictions == [["ok", "fault"][i] for i in estimator.predict(HELD)]


def test_three_classes_that_do_not_count_from_zero() -> None:
    estimator = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, TRUTH + (X[:, 2] > 0) + 3)
    model = load(converted(estimator, X), kind="classification")
    assert model.classes == (3, 4, 5)
    assert predict(model, HELD).predictions == estimator.predict(HELD).tolist()


def test_one_column_is_the_probability_of_the_second_class() -> None:
    nodes = [NODE, helper.make_node("Sigmoid", ["score"], ["chance"])]
    onnx_bytes = graph(nodes, n_features=1, outputs=["chance"], constants=[AXES]).SerializeToString()
    scores = predict(load(onnx_bytes, kind="classification", n_features=1), np.array([[0.0], [3.0], [-3.0]]))
    np.testing.assert_allclose(scores.probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(scores.scores, 1 / (1 + np.exp([0.0, -3.0, 3.0])), atol=1e-6)
    assert scores.predictions == [0, 1, 0]


@pytest.mark.parametrize(
    "estimator", [LinearRegression(), DecisionTreeRegressor(max_depth=5, random_state=0)]
)
def test_regression_answers_as_its_original(estimator: Any) -> None:
    estimator.fit(X, X @ [1.0, 2.0, -1.0, 0.5])
    scores = predict(load(converted(estimator, X)), HELD)
    np.testing.assert_allclose(scores.scores, estimator.predict(HELD), atol=1e-4)
    assert scores.predictions == scores.scores.tolist()
    assert scores.probabilities is None


@pytest.mark.parametrize("estimator", [IsolationForest(n_estimators=20, random_state=0), OneClassSVM(nu=0.1)])
def test_anomaly_scores_are_higher_for_the_unusual_once_the_sign_is_turned(estimator: Any) -> None:
    estimator.fit(X)
    onnx_bytes = converted(estimator, X)
    model = load(onnx_bytes, kind="anomaly", output={"score": "scores", "sign": -1}, threshold=0.0)
    scores = predict(model, HELD)
    expected = -estimator.decision_function(HELD)
    np.testing.assert_allclose(scores.scores, expected, atol=1e-4)
    assert scores.predictions == (scores.scores >= 0.0).astype(int).tolist()
    assert predict(model, np.full((1, N_FEATURES), 9.0)).predictions == [1]


def test_anomaly_without_threshold_predicts_its_score() -> None:
    scores = predict(load(linear([1, 1, 1, 1]).SerializeToString(), kind="anomaly"), HELD)
    assert scores.predictions == scores.scores.tolist()


def test_input_of_float64_keeps_its_precision() -> None:
    onnx_bytes = graph([NODE], kind=TensorProto.DOUBLE, constants=[AXES]).SerializeToString()
    assert predict(load(onnx_bytes, n_features=2), np.array([[1e9, 1e-3]])).predictions == [1e9 + 1e-3]


def test_no_rows_give_no_scores() -> None:
    classifier = load(converted(LogisticRegression().fit(X, TRUTH), X), kind="classification")
    scores, errors = classifier.predict(np.empty((0, N_FEATURES)))
    assert (scores.scores.shape, scores.predictions, scores.probabilities.shape, errors) == (
        (0,),
        [],
        (0, 2),
        {},
    )


def test_rows_alone_together_and_in_any_split_have_the_same_scores() -> None:
    model = load(converted(RandomForestClassifier(5, random_state=0).fit(X, TRUTH), X), kind="classification")
    together = predict(model, HELD).scores
    for size in (1, 7, 399):
        parts = [predict(model, HELD[at : at + size]).scores for at in range(0, len(HELD), size)]
        assert np.concatenate(parts).tolist() == together.tolist()


# Rows that fail


def test_row_without_a_finite_score_costs_no_other_its_score() -> None:
    model = load(linear([1, 1, 1, 1]).SerializeToString())
    rows = HELD[:5].copy()
    rows[1, 2], rows[3, 0] = np.nan, 1e300
    before = rows.copy()
    scores, errors = model.predict(rows)
    assert sorted(errors) == [1, 3]
    assert "must be finite, received nan" in errors[1]
    assert scores.predictions[1] is None
    assert np.isfinite(scores.scores).tolist() == [True, False, True, False, True]
    np.testing.assert_array_equal(rows, before)


class Moody:
    """A session that cannot bear rows that start with 13."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.n_calls = 0

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> Any:
        self.n_calls += 1
        if (next(iter(inputs.values()))[:, 0] == 13).any():
            raise RuntimeError("[ONNXRuntimeError] : 2 :\n INVALID_ARGUMENT")
        return self._session.run(names, inputs)


@pytest.mark.parametrize("bad", [[0], [399], [17, 18, 200], list(range(400))])
def test_row_that_breaks_the_model_costs_no_other_its_score(bad: list[int]) -> None:
    model = load(converted(LogisticRegression().fit(X, TRUTH), X), kind="classification")
    expected = predict(model, HELD)
    moody = Moody(model.session)
    object.__setattr__(model, "session", moody)
    rows = HELD.copy()
    rows[bad, 0] = 13
    scores, errors = model.predict(rows)
    good = np.setdiff1d(np.arange(len(rows)), bad)
    assert sorted(errors) == bad
    assert errors[bad[0]] == "'pump': [ONNXRuntimeError] : 2 : INVALID_ARGUMENT"
    np.testing.assert_allclose(scores.scores[good], expected.scores[good], rtol=1e-6)
    assert [scores.predictions[row] for row in good] == [expected.predictions[row] for row in good]
    assert np.isnan(scores.probabilities[bad]).all()
    assert moody.n_calls <= 2 * len(bad) * (1 + int(np.ceil(np.log2(len(rows))))) + 1


def test_matrix_of_another_width_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"shape \(n, 4\) needed, received \(3, 2\)"):
        load(linear([1, 1, 1, 1]).SerializeToString()).predict(np.zeros((3, 2)))


# What is refused


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


# Metadata


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "a/b"}, r"metadata: .*matching regex.*\$\.name"),
        ({"kind": "guess"}, r"\$\.kind"),
        ({"features": []}, r"length >= 1.*\$\.features"),
        ({"features": ["a", "a"]}, "features must differ, received 'a' twice"),
        ({"features": ["a", ""]}, r"\$\.features"),
        ({"features": "a,b"}, r"Expected `array`, got `str`"),
        ({"normaliser": "zscore"}, r"\$\.normaliser"),
        ({"missing": "ignore"}, r"\$\.missing"),
        ({"threshold": "high"}, r"\$\.threshold"),
        ({"treshold": 0.5}, "unknown field `treshold`"),
        ({"output": {"scores": "x"}}, "unknown field `scores`"),
        ({"output": {"sign": 2}}, r"\$\.output\.sign"),
        ({"output": {"sign": -1}}, "output.sign belongs to kind 'anomaly', received 'regression'"),
        ({"classes": [0, 1]}, "classes belong to kind 'classification', received 'regression'"),
        ({"kind": "classification", "classes": ["a", "a"]}, "classes must differ"),
        ({"version": "newest"}, r"\$\.version"),
    ],
)
def test_metadata_is_refused_with_field_and_bound(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        read_metadata({**fields(), **changed})


@pytest.mark.parametrize("missing", ["name", "kind", "features"])
def test_metadata_needs(missing: str) -> None:
    with pytest.raises(ArtefactError, match=f"missing required field `{missing}`"):
        read_metadata({name: value for name, value in fields().items() if name != missing})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_metadata_that_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(ArtefactError, match="metadata: "):
        parse_metadata(content)


def test_onnx_may_carry_its_metadata() -> None:
    model = linear([1, 1])
    assert embedded_metadata(model.SerializeToString()) == {}
    helper.set_model_props(model, {"producer": "x", "nowcast": json.dumps(fields())})
    assert embedded_metadata(model.SerializeToString()) == fields()


# Whatever the bytes

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WHOLE = linear([1, 1, 1, 1]).SerializeToString()
CLASSIFIER = converted(LogisticRegression().fit(X, TRUTH), X, zipmap=True)


def load_or_refuse(onnx_bytes: bytes, metadata: bytes) -> None:
    try:
        load_artefact(onnx_bytes, metadata, max_bytes=MAX_BYTES)
    except ArtefactError as error:
        assert str(error).isprintable()  # noqa: PT017  (both ends are right)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ArtefactError):
        load(content)


def test_every_truncation_is_refused() -> None:
    undeclared = as_json(n_features=N_FEATURES, kind="classification")
    declared = pack_metadata(CLASSIFIER, json.loads(undeclared))
    for size in range(len(CLASSIFIER)):
        # Cut between two fields it may be a whole message still: the hash tells.
        load_or_refuse(CLASSIFIER[:size], undeclared)
        with pytest.raises(ArtefactError):
            load_artefact(CLASSIFIER[:size], declared, max_bytes=MAX_BYTES)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_still_a_model(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from([WHOLE, CLASSIFIER])))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    kind = data.draw(st.sampled_from(["regression", "classification", "anomaly"]))
    load_or_refuse(bytes(damaged), as_json(n_features=N_FEATURES, kind=kind))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_random_metadata_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ArtefactError):
        load_artefact(WHOLE, content, max_bytes=MAX_BYTES)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*read_metadata(fields()).__struct_fields__, "other"]), ANY_JSON)
def test_random_metadata_fields_are_refused_or_fit(name: str, value: Any) -> None:
    changed = {**fields(n_features=N_FEATURES), name: value}
    load_or_refuse(WHOLE, json.dumps(changed).encode())
