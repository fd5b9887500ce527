"""Artefacts as records of the models topic: key, value and header, and how one is published.

Owns the form of a record. Reading the topic is in `tables/models.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordTooLargeError

from compute.artefact import ArtefactError, version_of

METADATA_HEADER = "metadata"

HEADROOM_BYTES = 65_536
"""Room beside the ONNX bytes for metadata and framing; the topic's limit grants as much."""

_MAX_METADATA_BYTES = HEADROOM_BYTES // 2


def read_metadata_header(headers: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the metadata of a record.

    Raises
    ------
    ArtefactError
        The record has none.

    Examples
    --------
    >>> read_metadata_header([("trace", b"1"), ("metadata", b"{}")])
    b'{}'
    """
    for name, value in headers:
        if name == METADATA_HEADER and value is not None:
            return value
    raise ArtefactError(f"metadata: header {METADATA_HEADER!r} needed, received none")


def pack_metadata(onnx_bytes: bytes, fields: Mapping[str, Any]) -> bytes:
    """Return metadata as it is published, with the version that the content has.

    Examples
    --------
    >>> pack_metadata(b"onnx", {"name": "pump"})
    b'{"name":"pump","version":"486b91a12a42c0af..."}'
    """
    version = version_of(onnx_bytes, fields)
    return json.dumps({**fields, "version": version}, separators=(",", ":")).encode()


async def publish(settings: Any, name: str, onnx_bytes: bytes, metadata_json: bytes) -> tuple[int, int]:
    """Send an artefact to the models topic and wait until the broker has it.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: bootstrap_servers, topic_models, max_artefact_bytes, group.
    name : str
        Name of the model.
    onnx_bytes, metadata_json : bytes
        What `load_artefact` accepts; it is not checked again.

    Returns
    -------
    partition, offset : int

    Raises
    ------
    ArtefactError
        It is larger than the setting or the broker allows.
    aiokafka.errors.KafkaError
        The broker cannot be reached or refuses.
    """
    topic, limit = settings.topic_models, settings.max_artefact_bytes
    if len(onnx_bytes) > limit:
        raise ArtefactError(
            f"too large: at most {limit} bytes (NOWCAST_MAX_ARTEFACT_BYTES), received {len(onnx_bytes)}"
        )
    if len(metadata_json) > _MAX_METADATA_BYTES:
        raise ArtefactError(
            f"metadata: at most {_MAX_METADATA_BYTES} bytes, received {len(metadata_json)}: "
            "shorten trained_on or metrics"
        )
    # Not idempotent: not every broker can, and the same artefact twice is the same version.
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=f"{settings.group}-models",
        acks="all",
        max_request_size=limit + HEADROOM_BYTES,
    )
    try:
        await producer.start()
        sent = await producer.send_and_wait(
            topic, onnx_bytes, name.encode(), headers=[(METADATA_HEADER, metadata_json)]
        )
    except (MessageSizeTooLargeError, RecordTooLargeError):
        raise ArtefactError(
            f"too large: the broker takes fewer than {len(onnx_bytes)} bytes; set max.message.bytes of topic "
            f"{topic!r} to {limit + HEADROOM_BYTES}, or message.max.bytes of the broker"
        ) from None
    finally:
        await producer.stop()
    return sent.partition, sent.offset
