"""The ONNX graph of an artefact: parsed, checked to be self-contained, and opened in ONNX Runtime.

Owns all that is about ONNX and nothing about what a model means. What ONNX Runtime is given is what was
checked here, written anew, so that two readers cannot see two different graphs in the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import onnx
import onnxruntime
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from compute.metadata import ArtefactError, Label

_CLASS_ATTRIBUTES = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")


def parse_graph(onnx_bytes: bytes) -> onnx.ModelProto:
    """Return the ONNX model that bytes hold.

    Raises
    ------
    ArtefactError
        They hold none.
    """
    graph = onnx.ModelProto()
    try:
        graph.ParseFromString(onnx_bytes)
    except (DecodeError, RecursionError, ValueError) as error:
        raise ArtefactError(f"not ONNX, or cut off: {error}") from None
    # Protobuf takes many a foreign byte string for a message of unknown fields.
    if not graph.ir_version or not graph.HasField("graph") or not graph.graph.output:
        raise ArtefactError("not ONNX: it has no graph with outputs")
    return graph


def check_self_contained(graph: onnx.ModelProto) -> None:
    """Refuse a graph that keeps tensors in files, or names that are no text.

    ONNX Runtime would open the path that a tensor names, relative to where the worker was started.

    Raises
    ------
    ArtefactError
        Names the tensor and the file.
    """
    for message in _messages(graph):
        if not isinstance(message, onnx.TensorProto):
            continue
        if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
            location = next((item.value for item in message.external_data if item.key == "location"), "?")
            raise ArtefactError(
                f"external data: tensor {message.name!r} is kept in the file {location!r}; an artefact must "
                "hold all of its data: save it with save_as_external_data=False"
            )


def _messages(message: Message) -> Iterator[Message]:
    """Find the messages in a message, however deep: initialisers, attributes, subgraphs, functions."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for child in [value] if isinstance(value, Message) else value:
                yield from _messages(child)
        elif field.type == FieldDescriptor.TYPE_STRING:
            texts = [value] if isinstance(value, (str, bytes)) else value
            # ONNX is protobuf 2, which lets any bytes pass for text; what reads them later does not.
            if not all(isinstance(text, str) for text in texts):
                raise ArtefactError(f"not ONNX, or damaged: {field.full_name} must be UTF-8")


def read_class_labels(graph: onnx.ModelProto) -> tuple[Label, ...]:
    """Return the classes that a scikit-learn classifier's graph names; empty if none or several do."""
    found: set[tuple[Label, ...]] = set()
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name in _CLASS_ATTRIBUTES:
                names = tuple(label.decode("utf-8", "replace") for label in attribute.strings)
                found.add(names or tuple(attribute.ints))
    found.discard(())
    return found.pop() if len(found) == 1 else ()


def unwrap_zip_maps(graph: onnx.ModelProto) -> None:
    """Replace each ZipMap by its input, in place.

    scikit-learn's converter ends classifiers with one unless told not to: it makes a dict of every row's
    probabilities, which takes longer than the model (4,000 rows of a linear one: 0.6 ms against 0.1).
    """
    outputs = {item.name: item for item in graph.graph.output}
    for node in list(graph.graph.node):
        if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml" and node.input and node.output:
            source, output = node.input[0], node.output[0]
            graph.graph.node.remove(node)
            graph.graph.node.append(onnx.helper.make_node("Identity", [source], [output]))
            if output in outputs:
                tensor = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
                outputs[output].type.CopyFrom(tensor)


def open_session(graph: onnx.ModelProto) -> Any:
    """Open a graph in ONNX Runtime.

    Raises
    ------
    ArtefactError
        Names the operator or the opset that is not known, or says what else is wrong.
    """
    options = onnxruntime.SessionOptions()
    # One core a worker: scale is by partitions, and threads that spin would take the event loop's time.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # It plans memory once for each number of rows, and keeps every plan.
    options.enable_mem_pattern = False
    # Errors arrive as exceptions and are told there; its own log would tell them once for each event.
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # its exceptions share no base
        raise ArtefactError(_explain(" ".join(str(error).split()) or type(error).__name__)) from None


def _explain(text: str) -> str:
    unknown = re.search(r"No Op registered for (\S+) with domain_version of (\d+)", text)
    if unknown:
        return f"unknown operator: {unknown[1]} (opset {unknown[2]})"
    unknown = re.search(r"Fatal error: (\S+?)\(-?\d+\) is not a registered function/op", text)
    if unknown:
        return f"unknown operator: {unknown[1]}"
    opset = re.search(r"Opset (\d+) is under development.*for domain (\S+) is till opset (\d+)", text)
    if opset:
        return f"unknown opset: at most {opset[3]} of domain {opset[2]} needed, found {opset[1]}"
    return f"ONNX Runtime refuses it: {text}"
