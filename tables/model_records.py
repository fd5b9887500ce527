"""Records of the models topic: keys, values and headers, and their signatures.

Owns the form of a record. What the records come to is in `compute/ledger.py`, writing them in
`tables/artefact_records.py` and `tables/promotion.py`.

| key | value | headers |
|---|---|---|
| `NAME` | ONNX of the champion | `metadata`; `decision`, `plot`, `report` where Nowcast wrote it |
| `NAME@VERSION` | ONNX of an artefact that is kept: a challenger, a champion, a former one | the same |
| `NAME@VERSION/decision-MS-NONCE` | a decision, JSON | |

Every record may have `signature` and `signature-key`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from compute.artefact import ArtefactError
from compute.decisions import MAX_DECISION_BYTES
from compute.signatures import Signature, Signer, Verifier

METADATA_HEADER = "metadata"
DECISION_HEADER = "decision"
PLOT_HEADER = "plot"
REPORT_HEADER = "report"
SIGNATURE_HEADER = "signature"
SIGNATURE_KEY_HEADER = "signature-key"

MAX_METADATA_BYTES = 32_768
MAX_PLOT_BYTES = 40_960
MAX_REPORT_BYTES = 65_536

HEADROOM_BYTES = 196_608
"""Room beside the ONNX bytes: the headers, the decision that is written with them, framing."""

Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    """A record to be written."""

    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Artefact(NamedTuple):
    """An artefact with what stands beside it; all but the first two may be empty.

    Attributes
    ----------
    onnx_bytes, metadata_json : bytes
    plot : bytes
        PNG of the candidates it was chosen from.
    report : bytes
        JSON of the same.
    """

    onnx_bytes: bytes
    metadata_json: bytes
    plot: bytes = b""
    report: bytes = b""


def read_header(headers: Iterable[tuple[str, bytes]], name: str) -> bytes:
    """Return the first header of that name, empty without.

    Examples
    --------
    >>> read_header([("trace", b"1"), ("plot", b"png")], "plot")
    b'png'
    """
    return next((value for header, value in headers if header == name and value is not None), b"")


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
    metadata = read_header(headers, METADATA_HEADER)
    if not metadata:
        raise ArtefactError(f"metadata: header {METADATA_HEADER!r} needed, received none")
    return metadata


def read_artefact(record: Any) -> Artefact:
    """Return what a record of an artefact has; nothing is checked but that it has metadata.

    Raises
    ------
    ArtefactError
        It has none.
    """
    headers = record.headers
    plot, report = read_header(headers, PLOT_HEADER), read_header(headers, REPORT_HEADER)
    return Artefact(record.value or b"", read_metadata_header(headers), plot, report)


def artefact_record(
    key: str, artefact: Artefact, decision: bytes = b"", signer: Signer | None = None
) -> Record:
    """Return the record of an artefact.

    Raises
    ------
    ArtefactError
        Something is larger than its bound.
    """
    headers = []
    for name, value, limit in (
        (METADATA_HEADER, artefact.metadata_json, MAX_METADATA_BYTES),
        (DECISION_HEADER, decision, MAX_DECISION_BYTES),
        (PLOT_HEADER, artefact.plot, MAX_PLOT_BYTES),
        (REPORT_HEADER, artefact.report, MAX_REPORT_BYTES),
    ):
        if len(value) > limit:
            hint = ": shorten trained_on or metrics" if name == METADATA_HEADER else ""
            raise ArtefactError(f"{name}: at most {limit} bytes, received {len(value)}{hint}")
        if value:
            headers.append((name, value))
    return _signed(Record(key.encode(), artefact.onnx_bytes, headers), signer)


def decision_record(key: str, decision: bytes, signer: Signer | None = None) -> Record:
    """Return the record of a decision."""
    return _signed(Record(key.encode(), decision, []), signer)


def check_signature(verifier: Verifier, record: Any) -> None:
    """Check the signature of a record that was read.

    Raises
    ------
    SignatureError
        It has none, or not the one of a trusted key over this record.
    """
    value = read_header(record.headers, SIGNATURE_HEADER)
    key_id = read_header(record.headers, SIGNATURE_KEY_HEADER).decode("ascii", "replace")
    signature = Signature(key_id, value) if value else None
    verifier.check(signature, *_signed_parts(record.key or b"", record.value or b"", record.headers))


def _signed(record: Record, signer: Signer | None) -> Record:
    if signer is None:
        return record
    signature = signer.sign(*_signed_parts(record.key, record.value or b"", record.headers))
    headers = [
        *record.headers,
        (SIGNATURE_HEADER, signature.value),
        (SIGNATURE_KEY_HEADER, signature.key_id.encode()),
    ]
    return record._replace(headers=headers)


def _signed_parts(key: bytes, value: bytes, headers: Headers) -> tuple[str, bytes, list[bytes]]:
    """Return kind, key and parts; a decision has no metadata, an artefact always some."""
    parts = [read_header(headers, name) for name in (METADATA_HEADER, DECISION_HEADER)]
    parts += [read_header(headers, name) for name in (PLOT_HEADER, REPORT_HEADER)]
    return ("artefact" if parts[0] else "decision"), key, [value, *parts]
