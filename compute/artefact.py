"""Artefacts: ONNX bytes and metadata in, a model that can serve out, or one line that says why not.

Owns every check between the bytes of a topic and the first score. An artefact is an input like any other:
nothing in it is trusted to be well formed, and nothing outside it is ever read. It can still cost time
and memory (an endless Loop, a huge constant), so who may write to the topic matters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from compute.metadata import (
    VERSION_LENGTH,
    ArtefactError,
    Label,
    Metadata,
    Output,
    parse_metadata,
    read_metadata,
    version_of,
)
from compute.onnx_graph import (
    check_self_contained,
    open_session,
    parse_graph,
    read_class_labels,
    unwrap_zip_maps,
)
from compute.scoring import Model, Scores

__all__ = ["ArtefactError", "Metadata", "Output", "embedded_metadata", "load_artefact", "version_of"]

EMBEDDED_KEY = "nowcast"
"""Key of the ONNX `metadata_props` under which an artefact may carry its own metadata."""

_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_LABELS = {"tensor(int64)": int, "tensor(int32)": int, "tensor(string)": str}
_TOLERANCE = 1e-3
"""Of sums of probabilities, and between a row scored alone and in company: float32 is this rough."""


def load_artefact(onnx_bytes: bytes, metadata_json: bytes, *, max_bytes: int) -> Model:
    """Check an artefact from all sides and load it.

    Parameters
    ----------
    onnx_bytes : bytes
        A whole ONNX model, without external data.
    metadata_json : bytes
        A JSON object with the fields of `Metadata`.
    max_bytes : int
        Largest size of the ONNX bytes.

    Returns
    -------
    Model

    Raises
    ------
    ArtefactError
        One line with the reason; never another exception, whatever the bytes.

    Examples
    --------
    >>> load_artefact(b"pickle", b'{"name": "pump", "kind": "anomaly", "features": ["heat"]}', max_bytes=9)
    Traceback (most recent call last):
    ...
    compute.metadata.ArtefactError: not ONNX...
    """
    if not onnx_bytes:
        raise ArtefactError("the artefact is empty, ONNX needed")
    if len(onnx_bytes) > max_bytes:
        raise ArtefactError(
            f"too large: at most {max_bytes} bytes (max_artefact_bytes), received {len(onnx_bytes)}"
        )
    fields = parse_metadata(metadata_json)
    metadata = read_metadata(fields)
    content_hash = version_of(onnx_bytes, fields)
    # Before anything is parsed: damaged bytes of a declared version end here.
    if not content_hash.startswith(metadata.version):
        raise ArtefactError(
            f"hash mismatch: version {metadata.version!r} is declared, the content is {content_hash!r}"
        )
    graph = parse_graph(onnx_bytes)
    check_self_contained(graph)
    own_classes = read_class_labels(graph)
    unwrap_zip_maps(graph)
    session = open_session(graph)
    input_name, input_dtype = _find_input(session, len(metadata.features))
    types = {item.name: item.type for item in session.get_outputs()}
    score = _find_output("score", metadata.output.score, types, _FLOATS)
    classes: tuple[Label, ...] = ()
    label = ""
    if metadata.kind == "classification":
        label = _find_label(metadata, types)
        zeros = np.zeros((1, len(metadata.features)), input_dtype)
        n_columns = _attempt(lambda: np.size(session.run([score], {input_name: zeros})[0]))
        classes = _find_classes(metadata, own_classes, label and _LABELS[types[label]], n_columns)
        if label and not metadata.output.label and not isinstance(classes[0], _LABELS[types[label]]):
            label = ""  # numbers that stand for named classes: the names go by position
    model = Model(
        metadata=metadata,
        version=content_hash[:VERSION_LENGTH],
        content_hash=content_hash,
        classes=classes,
        size_bytes=len(onnx_bytes),
        session=session,
        input_name=input_name,
        input_dtype=input_dtype,
        score_output=score,
        label_output=label,
    )
    _try_out(model, classes_are_known=bool(metadata.classes or own_classes))
    return model


def embedded_metadata(onnx_bytes: bytes) -> dict[str, Any]:
    """Return the metadata that ONNX bytes carry in their `metadata_props` under "nowcast"; empty without.

    Raises
    ------
    ArtefactError
        The bytes are not ONNX, or what they carry is not a JSON object.
    """
    for item in parse_graph(onnx_bytes).metadata_props:
        if item.key == EMBEDDED_KEY:
            return parse_metadata(item.value.encode())
    return {}


def _find_input(session: Any, n_features: int) -> tuple[str, Any]:
    inputs = session.get_inputs()
    needed = f"inputs: one of float32 or float64 with shape (n, {n_features}) needed, as features has names"
    found = ", ".join(f"{item.name}: {item.type} {_shape(item.shape)}" for item in inputs) or "none"
    if len(inputs) != 1 or inputs[0].type not in _FLOATS:
        raise ArtefactError(f"{needed}; found {found}")
    shape = inputs[0].shape
    if len(shape) != 2 or shape[1] != n_features:
        raise ArtefactError(f"{needed}; found {found}")
    if isinstance(shape[0], int):
        raise ArtefactError(f"{needed}; found {found}: export it with a dynamic batch axis")
    return inputs[0].name, _FLOATS[inputs[0].type]


def _shape(dimensions: list[Any]) -> str:
    return "(" + ", ".join(str(size) if isinstance(size, int) else "n" for size in dimensions) + ")"


def _find_output(meaning: str, declared: str, types: dict[str, str], wanted: dict[str, Any]) -> str:
    found = ", ".join(f"{name}: {kind}" for name, kind in types.items())
    if declared and declared not in types:
        raise ArtefactError(f"missing output: output.{meaning} is {declared!r}, found {found}")
    fitting = [name for name, kind in types.items() if kind in wanted and declared in ("", name)]
    if len(fitting) != 1:
        raise ArtefactError(f"output.{meaning}: must name one of {' or '.join(wanted)}, found {found}")
    return fitting[0]


def _find_label(metadata: Metadata, types: dict[str, str]) -> str:
    n_fitting = sum(kind in _LABELS for kind in types.values())
    if not metadata.output.label and n_fitting != 1:
        return ""  # the most probable class is the prediction
    return _find_output("label", metadata.output.label, types, _LABELS)


def _find_classes(
    metadata: Metadata, own: tuple[Label, ...], label_type: Any, n_columns: int
) -> tuple[Label, ...]:
    declared = metadata.classes
    if own and label_type and not isinstance(own[0], label_type):
        own = ()  # an inner numbering, translated before it leaves the graph
    if declared and own and isinstance(own[0], type(declared[0])) and own != declared:
        raise ArtefactError(f"classes: the artefact's own are {list(own)}, received {list(declared)}")
    if not declared and not own and label_type is str:
        raise ArtefactError("classes: needed, since they are strings and the artefact does not list them")
    n_classes = max(n_columns, 2)  # one column is the probability of the second of two
    classes = declared or own or tuple(range(n_classes))
    if len(classes) != n_classes:
        raise ArtefactError(
            f"classes: {n_classes} needed, one for each probability, received {len(classes)}: {list(classes)}"
        )
    positive = metadata.output.positive
    if positive is not None and positive not in classes:
        raise ArtefactError(f"output.positive: one of {list(classes)} needed, received {positive!r}")
    return classes


def _try_out(model: Model, classes_are_known: bool) -> None:
    """Score three different rows, together and one by one."""
    rows = np.array([[0.0], [1.0], [-1.0]]) * np.ones(len(model.features))
    together = _attempt(lambda: model.run(rows))
    alone = _attempt(lambda: [model.run(row[np.newaxis]) for row in rows])
    one_by_one = np.concatenate([scores.scores for scores in alone])
    # Raw values of 0 or -1 may be outside of what a model can take, but hardly all three.
    finite = np.isfinite(together.scores)
    if not finite.any():
        raise ArtefactError(f"trial run: finite scores needed, received {together.scores.tolist()}")
    if not np.allclose(together.scores, one_by_one, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
        raise ArtefactError(
            f"trial run: a row's score must not depend on the others, received {together.scores.tolist()} "
            f"together and {one_by_one.tolist()} one by one"
        )
    if together.probabilities is not None:
        _check_classification(model, together, finite.tolist(), classes_are_known)


def _check_classification(model: Model, scores: Scores, finite: list[bool], classes_are_known: bool) -> None:
    assert scores.probabilities is not None
    for row, prediction in enumerate(scores.predictions):
        chances = scores.probabilities[row]
        if finite[row] and not (
            abs(chances.sum() - 1.0) <= _TOLERANCE
            and chances.min() >= -_TOLERANCE
            and chances.max() <= 1.0 + _TOLERANCE
        ):
            raise ArtefactError(
                f"output {model.score_output!r}: probabilities that sum to 1 needed, "
                f"received {chances.tolist()}"
            )
        likeliest = model.classes[int(np.argmax(chances))]
        if prediction not in model.classes or (not classes_are_known and prediction != likeliest):
            raise ArtefactError(
                f"classes: output {model.label_output!r} says {prediction!r} where the probabilities say "
                f"{likeliest!r}, of {list(model.classes)}; list the classes in the order of the probabilities"
            )


def _attempt(call: Any) -> Any:
    try:
        return call()
    except Exception as error:  # whatever an operator of the graph may raise
        raise ArtefactError(f"trial run: {str(error) or type(error).__name__}") from None
