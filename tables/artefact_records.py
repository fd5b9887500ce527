"""Publishing an artefact: as the champion of its name, or as a challenger.

Owns which records that takes. Their form is in `tables/model_records.py`, the way to the topic in
`tables/model_writing.py`, promotion and rollback of what is published already in `tables/promotion.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from compute.artefact import ArtefactError, version_of
from compute.decisions import artefact_key, encode_decision
from compute.metadata import VERSION_LENGTH, parse_metadata
from tables.model_records import Artefact, artefact_record
from tables.model_writing import ModelWriter
from tables.promotion import champion_batches, promote

__all__ = ["pack_metadata", "promote", "publish"]


def pack_metadata(onnx_bytes: bytes, fields: Mapping[str, Any]) -> bytes:
    """Return metadata as it is published, with the version that the content has.

    Examples
    --------
    >>> pack_metadata(b"onnx", {"name": "pump"})
    b'{"name":"pump","version":"486b91a12a42c0af..."}'
    """
    version = version_of(onnx_bytes, fields)
    return json.dumps({**fields, "version": version}, separators=(",", ":")).encode()


async def publish(
    settings: Any,
    name: str,
    onnx_bytes: bytes,
    metadata_json: bytes,
    *,
    role: Literal["champion", "challenger"] = "champion",
    by: str = "",
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
    plot: bytes = b"",
    report: bytes = b"",
) -> tuple[int, int]:
    """Send an artefact to the models topic and wait until the broker has it.

    A copy is kept under name and version, so that a rollback finds it. The artefact under its name and the
    decision that it serves are one batch: either both are there or none is.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: bootstrap_servers, broker, topic_models, max_artefact_bytes, model, signing_key,
        trusted_keys, group.
    name : str
        Name of the model.
    onnx_bytes, metadata_json : bytes
        What `load_artefact` accepts; it is not checked again.
    role : {"champion", "challenger"}
        Whether it serves from now on, or is scored in the shadow of what does.
    by : str
        Who decides that; empty: the user of this process.
    reason : str
    evidence : mapping, optional
        What the decision rests on; JSON of 16 KB at most.
    plot : bytes
        PNG of at most 40 KB; may be empty.
    report : bytes
        JSON of at most 64 KB; may be empty.

    Returns
    -------
    partition, offset : int
        Where the artefact is: under its name, or a challenger under name and version.

    Raises
    ------
    ArtefactError
        It is larger than the setting or the broker allows, or a challenger that serves already, or the
        signing key that is needed is not there.
    KeyFileError
        A key file cannot be used.
    TopicError
        The topic is not there.
    aiokafka.errors.KafkaError
        The broker cannot be reached or refuses.
    """
    limit = settings.max_artefact_bytes
    if len(onnx_bytes) > limit:
        raise ArtefactError(
            f"too large: at most {limit} bytes (NOWCAST_MAX_ARTEFACT_BYTES), received {len(onnx_bytes)}"
        )
    artefact = Artefact(onnx_bytes, metadata_json, plot, report)
    artefact_record(name, artefact)  # says what is too large before anything is read or sent
    version = version_of(onnx_bytes, parse_metadata(metadata_json))[:VERSION_LENGTH]
    told: dict[str, Any] = {"by": by, "reason": reason, "evidence": dict(evidence or {})}
    async with ModelWriter(settings) as writer:
        if role == "champion":
            batches, _ = await champion_batches(writer, "promote", name, version, artefact, **told)
            return 0, (await writer.write(*batches))[-1]
        if await writer.serving() == (name, version):
            raise ArtefactError(f"{name} {version} serves: it cannot challenge itself")
        decision = writer.decide("challenge", name, version, **told)
        encoded = encode_decision(decision)
        challenger = artefact_record(artefact_key(name, version), artefact, encoded, writer.signer)
        return 0, (await writer.write([challenger, writer.decision_record(decision, encoded)]))[0]
