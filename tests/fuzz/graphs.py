"""Valid ONNX made wrong within its own structure: fields that change, go, come and move."""

from __future__ import annotations

from random import Random
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

OPERATORS = """
Add ArrayFeatureExtractor Cast Concat ConstantOfShape Conv Einsum Expand EyeLike Gather GatherND Identity If
LSTM LabelEncoder LinearClassifier Loop MatMul NonZero Normalizer OneHot Pad RandomNormal Range ReduceSum
Reshape Resize SVMClassifier Scan ScatterND SequenceConstruct Split StringNormalizer TfIdfVectorizer Tile
TopK Unsqueeze Upsample TreeEnsembleClassifier ZipMap
""".split()  # noqa: SIM905  a list of forty literals says no more
INTEGERS = [0, 1, -1, 2, 3, 7, 64, 10**6, 10**9, 2**31 - 1, -(2**31), 2**31, 10**12, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -1.0, 1e38, 1e-38, float("nan"), float("inf")]


def damaged(onnx_bytes: bytes, random: Random) -> bytes:
    """Return a model after a few changes, each of which keeps it readable."""
    model = onnx.ModelProto()
    model.ParseFromString(onnx_bytes)
    for _ in range(random.choice([1, 1, 2, 3, 5])):
        messages = _messages(model)
        message = random.choice(messages)
        present = [field for field, _ in message.ListFields()]
        every = list(message.DESCRIPTOR.fields)
        field = random.choice(present if present and random.random() < 0.85 else every)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _change_message(message, field, messages, random)
        else:
            _change_value(message, field, messages, random)
    return bytes(model.SerializeToString())


def _messages(message: Message) -> list[Message]:
    found = [message]
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for child in [value] if isinstance(value, Message) else value:
                found += _messages(child)
    return found


def _change_message(message: Any, field: Any, messages: list[Message], random: Random) -> None:
    alike = [other for other in messages if other.DESCRIPTOR is field.message_type]
    if alike:  # by its bytes: a message that is copied into its own descendant crashes protobuf
        copy = type(alike[0]).FromString(random.choice(alike).SerializePartialToString())
    if not field.is_repeated:
        if alike and random.random() < 0.5:
            getattr(message, field.name).CopyFrom(copy)
        else:
            message.ClearField(field.name)
        return
    children = getattr(message, field.name)
    if len(children) and random.random() < 0.4:
        del children[random.randrange(len(children))]
    else:
        child = children.add()
        if alike:
            child.CopyFrom(copy)


def _change_value(message: Any, field: Any, messages: list[Message], random: Random) -> None:
    if not field.is_repeated:
        if random.random() < 0.15:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, _value(field, messages, random))
        return
    values = getattr(message, field.name)
    choice = random.randrange(3)
    if choice == 0 and len(values):
        del values[random.randrange(len(values))]
    elif choice == 1 and len(values):
        values[random.randrange(len(values))] = _value(field, messages, random)
    else:
        values.append(_value(field, messages, random))


def _value(field: Any, messages: list[Message], random: Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        names = [
            name
            for message in messages
            for other, value in message.ListFields()
            if other.type == FieldDescriptor.TYPE_STRING
            for name in ([value] if isinstance(value, str) else value)
        ]
        return random.choice([*names, *names, *OPERATORS, ""])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.randbytes(random.choice([0, 1, 3, 4, 8, 100]))
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return random.choice(FLOATS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_INT64:
        return random.choice(INTEGERS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_UINT64:
        return abs(random.choice(INTEGERS))
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    return random.choice([*range(25), *(number for number in INTEGERS if -(2**31) <= number < 2**31)])
