"""Decisions about models: who is a challenger, who serves, and for which entities.

Owns the form of a decision and of the keys of the models topic. What a sequence of decisions comes to is in
`compute/ledger.py`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from compute.metadata import VERSION_LENGTH, ArtefactError

MAX_DECISION_BYTES = 16_384
"""Of a decision as JSON: evidence and reason have to be short."""

MAX_AT = 1e11
"""Latest time of a decision; what is beyond is no time in seconds."""

_NAME = r"[a-zA-Z0-9._-]{1,200}"
_VERSION = rf"[0-9a-f]{{{VERSION_LENGTH}}}"
_KEY = re.compile(rf"({_NAME})@({_VERSION})(/decision-[0-9]{{1,15}}-[0-9a-f]{{6}})?")


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the audit trail.

    Attributes
    ----------
    action : {"challenge", "promote", "rollback", "retire", "split"}
    model, version : str
        What it is about; the version by its first 16 characters.
    previous : str
        Version that was champion before a promotion or a rollback; empty if there was none.
    by : str
        Who decided.
    at : float
        When, in epoch seconds; later than every decision that was known then.
    reason : str
    evidence : dict
        What it rests on, such as a test of champion and challenger on the same events.
    share : float or None
        Of a split: part of the entities that the challenger answers for; 0 ends it.
    """

    action: Literal["challenge", "promote", "rollback", "retire", "split"]
    model: Annotated[str, msgspec.Meta(pattern=rf"^{_NAME}$")]
    version: Annotated[str, msgspec.Meta(pattern=rf"^{_VERSION}$")]
    previous: Annotated[str, msgspec.Meta(pattern=rf"^({_VERSION})?$")] = ""
    by: Annotated[str, msgspec.Meta(max_length=200)] = ""
    at: Annotated[float, msgspec.Meta(ge=0, le=MAX_AT)]
    reason: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
    evidence: dict[str, Any] = {}
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class Key(NamedTuple):
    """What the key of a record says it is."""

    name: str
    version: str = ""
    is_decision: bool = False


def read_key(key: str) -> Key:
    """Tell a champion's key from that of a kept artefact and of a decision.

    Examples
    --------
    >>> read_key("pump")
    Key(name='pump', version='', is_decision=False)
    >>> read_key("pump@486b91a12a42c0af")
    Key(name='pump', version='486b91a12a42c0af', is_decision=False)
    >>> read_key("pump@486b91a12a42c0af/decision-1700000000250-0a1b2c").is_decision
    True
    """
    match = _KEY.fullmatch(key)
    return Key(match[1], match[2], match[3] is not None) if match else Key(key)


def artefact_key(name: str, version: str) -> str:
    """Return the key under which an artefact is kept.

    Examples
    --------
    >>> artefact_key("pump", "486b91a12a42c0af")
    'pump@486b91a12a42c0af'
    """
    return f"{name}@{version}"


def decision_key(decision: Decision, nonce: str) -> str:
    """Return the key of a decision, one of its own so that compaction leaves it.

    Parameters
    ----------
    decision : Decision
    nonce : str
        Six hexadecimal characters by chance.

    Examples
    --------
    >>> decision = Decision(action="retire", model="pump", version="486b91a12a42c0af", at=1.5)
    >>> decision_key(decision, "0a1b2c")
    'pump@486b91a12a42c0af/decision-1500-0a1b2c'
    """
    return f"{artefact_key(decision.model, decision.version)}/decision-{int(decision.at * 1000)}-{nonce}"


def encode_decision(decision: Decision) -> bytes:
    """Return a decision as JSON.

    Raises
    ------
    ArtefactError
        It is not one that `decode_decision` would take.
    """
    try:
        encoded = msgspec.json.encode(decision, enc_hook=_to_python)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArtefactError(f"decision: evidence must be JSON: {error}") from None
    decode_decision(encoded)
    return encoded


def decode_decision(encoded: bytes) -> Decision:
    """Return a decision from JSON.

    Raises
    ------
    ArtefactError
        Names the field that is missing, unknown or wrong, and the bound it breaks.

    Examples
    --------
    >>> decode_decision(b'{"action": "retire", "model": "pump", "version": "486b91a12a42c0af", "at": 1}').at
    1.0
    >>> decode_decision(b'{"action": "praise", "model": "pump", "version": "486b91a12a42c0af", "at": 1}')
    Traceback (most recent call last):
    ...
    compute.metadata.ArtefactError: decision: Invalid enum value 'praise' - at `$.action`
    """
    if len(encoded) > MAX_DECISION_BYTES:
        raise ArtefactError(f"decision: at most {MAX_DECISION_BYTES} bytes, received {len(encoded)}")
    try:
        decision = msgspec.json.decode(encoded, type=Decision)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(f"decision: {error}") from None
    if (decision.action == "split") != (decision.share is not None):
        raise ArtefactError(
            f"decision: share belongs to action 'split', received {decision.share} for {decision.action!r}"
        )
    return decision


def _to_python(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"received {type(value).__name__}")


def next_time(now: float, last: float) -> float:
    """Return the time of a decision: now, or the next number after the last decision's.

    Clocks differ from machine to machine, and a decision must not be older than one that it knows of.

    Examples
    --------
    >>> next_time(12.0, 11.0), next_time(12.0, 13.0) > 13.0
    (12.0, True)
    """
    return max(now, math.nextafter(last, math.inf))


def arm_of(key: bytes, salt: str, share: float) -> bool:
    """Tell whether an entity is answered by the challenger of a split.

    The answer is the same on every worker and machine, and depends on nothing but the arguments. An entity
    that belongs to a share belongs to every larger one. Another salt draws other entities.

    Parameters
    ----------
    key : bytes
        The entity.
    salt : str
        The challenger's version.
    share : float
        From 0, nobody, to 1, everybody.

    Examples
    --------
    >>> arm_of(b"pump-3", "486b91a12a42c0af", 0.5), arm_of(b"pump-4", "486b91a12a42c0af", 0.5)
    (True, False)
    """
    digest = hashlib.blake2b(key, digest_size=8, key=salt.encode()[:64]).digest()
    # 53 bits: every one of these numbers is a float, and all are below 1.
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53) < share


def arms_of(keys: Sequence[bytes], salt: str, share: float) -> NDArray[np.bool_]:
    """Tell of each entity whether it is answered by the challenger: `arm_of`, a microsecond a key.

    Returns
    -------
    ndarray, shape (n,), bool

    Examples
    --------
    >>> arms_of([b"pump-3", b"pump-4"], "486b91a12a42c0af", 0.5)
    array([ True, False])
    """
    return np.fromiter((arm_of(key, salt, share) for key in keys), np.bool_, len(keys))
