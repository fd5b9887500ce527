"""What an artefact says about itself: the fields of its metadata, how they are checked, and its version.

Owns the JSON beside the ONNX bytes. Whether the ONNX bytes keep what it promises is checked in
`compute/artefact.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

VERSION_LENGTH = 16
"""Characters of the content hash that stand for a version in predictions and views."""

_MAX_MESSAGE = 1_000

Label = str | int
"""What names a class."""

_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9._-]{1,200}$")]
_Feature = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Version = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{16,64})?$")]


class ArtefactError(ValueError):
    """An artefact cannot serve; the message is one printable line and says why."""

    def __init__(self, message: str) -> None:
        # It quotes names and texts that strangers chose, and ends in logs and on terminals.
        line = " ".join(message.split())[:_MAX_MESSAGE]
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in line))


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which outputs of the ONNX graph mean what.

    Attributes
    ----------
    score : str
        Output that gives the number (probabilities for a classification); empty: the only one of floats.
    label : str
        Output that gives the class; empty: the only one of integers or strings, if it fits `classes`.
    positive : str, int or None
        Class whose probability is the score; None: the last one.
    sign : {1, -1}
        Factor of an anomaly's score, for a model whose lower numbers are more unusual (isolation forest).
    """

    score: str = ""
    label: str = ""
    positive: Label | None = None
    sign: Literal[1, -1] = 1


# Unknown fields are refused: a misspelt "treshold" would otherwise be obeyed by nobody, silently.
class Metadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metadata of an artefact.

    Attributes
    ----------
    name : str
        Name of the model, the Kafka key of its artefacts.
    version : str
        Content hash (`version_of`) or its first 16 characters or more; empty: not declared.
    kind : {"anomaly", "classification", "regression"}
    features : tuple of str
        The model's input, in order.
    normaliser : {"window", "none"}
        Whether features are z-scores by the entity's running statistics, or raw values.
    missing : {"reject", "mean", "nan"}
        What a missing feature does: the event is a dead letter, the mean stands in, or NaN is passed on.
    output : Output
    classes : tuple of str or int
        Names of the classes by column of the probabilities; empty: the artefact's own, or 0, 1, ...
    threshold : float or None
        Score at which an event is an alarm, instead of the alert settings' own.
    metrics, trained_by, trained_on, created_at, library_versions
        Where the model comes from; shown, not used.
    """

    name: _Name
    version: _Version = ""
    kind: Literal["anomaly", "classification", "regression"]
    features: Annotated[tuple[_Feature, ...], msgspec.Meta(min_length=1, max_length=4_096)]
    normaliser: Literal["window", "none"] = "window"
    missing: Literal["reject", "mean", "nan"] = "reject"
    output: Output = Output()
    classes: tuple[Label, ...] = ()
    threshold: float | None = None
    metrics: dict[str, Any] = {}
    trained_by: str = ""
    trained_on: Any = None
    created_at: str = ""
    library_versions: dict[str, str] = {}


def read_metadata(fields: Mapping[str, Any]) -> Metadata:
    """Check the fields of a metadata object.

    Raises
    ------
    ArtefactError
        Names the field that is missing, unknown or wrong, and the bound it breaks.

    Examples
    --------
    >>> read_metadata({"name": "pump", "kind": "anomaly", "features": ["heat"]}).normaliser
    'window'
    >>> read_metadata({"name": "pump", "kind": "guess", "features": ["heat"]})
    Traceback (most recent call last):
    ...
    compute.metadata.ArtefactError: metadata: Invalid enum value 'guess' - at `$.kind`
    """
    check_field_names(fields)
    try:
        metadata = msgspec.convert(dict(fields), Metadata)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ArtefactError(f"metadata: {error}") from None
    for field, values in (("features", metadata.features), ("classes", metadata.classes)):
        repeated = [value for number, value in enumerate(values) if value in values[:number]]
        if repeated:
            raise ArtefactError(f"metadata: {field} must differ, received {repeated[0]!r} twice")
    if metadata.kind != "classification" and (metadata.classes or metadata.output.positive is not None):
        raise ArtefactError(f"metadata: classes belong to kind 'classification', received {metadata.kind!r}")
    if metadata.kind != "anomaly" and metadata.output.sign != 1:
        raise ArtefactError(f"metadata: output.sign belongs to kind 'anomaly', received {metadata.kind!r}")
    return metadata


def check_field_names(fields: Mapping[str, Any]) -> None:
    """See that a metadata object has no other fields than there are.

    Raises
    ------
    ArtefactError
        Names the first unknown field, and those that are known.

    Examples
    --------
    >>> check_field_names({"output": {"lable": "y"}})
    Traceback (most recent call last):
    ...
    compute.metadata.ArtefactError: metadata.output: unknown field `lable`; known are score, label, ...
    """
    output = fields.get("output")
    for place, given, known in (
        ("metadata", fields, Metadata.__struct_fields__),
        ("metadata.output", output if isinstance(output, Mapping) else {}, Output.__struct_fields__),
    ):
        unknown = next((str(name) for name in given if name not in known), None)
        if unknown is not None:
            raise ArtefactError(f"{place}: unknown field `{unknown[:100]}`; known are {', '.join(known)}")


def parse_metadata(metadata_json: bytes) -> dict[str, Any]:
    """Return the fields of a metadata object from JSON.

    Raises
    ------
    ArtefactError
        It is not a JSON object.

    Examples
    --------
    >>> parse_metadata(b'{"name": "pump"}')
    {'name': 'pump'}
    """
    try:
        fields = msgspec.json.decode(metadata_json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(f"metadata: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ArtefactError(f"metadata: a JSON object needed, received {type(fields).__name__}")
    return fields


def version_of(onnx_bytes: bytes, fields: Mapping[str, Any]) -> str:
    """Return the content hash of an artefact.

    It is SHA-256 over the ONNX bytes followed by the metadata without ``version``, as JSON with sorted keys,
    no spaces and ASCII only, which any language's standard library writes alike.

    Parameters
    ----------
    onnx_bytes : bytes
    fields : mapping
        The metadata as it is published: a field left out and one at its default are different content.

    Returns
    -------
    str
        64 hexadecimal characters.

    Examples
    --------
    >>> version = version_of(b"onnx", {"name": "pump", "version": "anything"})
    >>> version[:16], version == version_of(b"onnx", {"name": "pump"})
    ('486b91a12a42c0af', True)
    """
    content = {name: value for name, value in fields.items() if name != "version"}
    try:
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise ArtefactError("metadata: nested too deeply") from None
    digest = hashlib.sha256(onnx_bytes)
    digest.update(canonical.encode())
    return digest.hexdigest()
