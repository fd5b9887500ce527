"""Read one event: fast when it is right, field by field when it is not.

Owns the shape of an event's JSON. ``decode_event`` is the hot path and says little about what is wrong;
``read_carefully`` is for the values it refuses. Batches belong to ``compute/events.py``.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

import msgspec

from compute.event_faults import EventError, shown
from compute.event_times import parse_iso_8601


class Event(msgspec.Struct, gc=False):
    """An event as the contract writes it; fields that it does not name are ignored."""

    timestamp: float | datetime
    features: dict[str, float | None]
    id: str | int | None = None
    label: str | int | float | bool | None = None


class _Envelope(msgspec.Struct, gc=False):
    """An event with its fields left undecoded, so that each is judged, and blamed, by itself."""

    timestamp: msgspec.Raw = msgspec.Raw()
    features: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    label: msgspec.Raw = msgspec.Raw()


decode_event = msgspec.json.Decoder(Event).decode


def read_carefully(value: bytes) -> Event:
    """Read one event: slow, and exact about what is wrong.

    It accepts all that ``decode_event`` accepts, and a little more: the times of ``parse_iso_8601``, a field
    whose repetition is right (the last one counts), and an ``id`` or ``label`` that is neither string, number
    nor boolean, since no score depends on it. Such an id is left out; such a label is the empty string, which
    is none either.

    Parameters
    ----------
    value : bytes
        The value of one record.

    Returns
    -------
    Event

    Raises
    ------
    EventError
        With the code ``invalid-json``, ``invalid-timestamp``, ``invalid-features`` or ``not-finite``.

    Examples
    --------
    >>> read_carefully(b'{"timestamp": 0, "features": {"t": "warm"}}')
    Traceback (most recent call last):
    compute.event_faults.EventError: features.t: must be a number or null, received a string: "warm"
    """
    try:
        envelope = msgspec.json.decode(value, type=_Envelope)
    except RecursionError:
        raise _depth_fault() from None
    except Exception as error:
        raise _syntax_fault(value, error) from None
    return Event(
        timestamp=_read_timestamp(bytes(envelope.timestamp)),
        features=_read_features(bytes(envelope.features)),
        id=_read_scalar(bytes(envelope.id), str | int | None),
        label=_read_scalar(bytes(envelope.label), str | int | float | bool | None, ""),
    )


def _read_timestamp(raw: bytes) -> float | datetime:
    if not raw:
        raise EventError("invalid-timestamp", "timestamp: must be present, received none")
    try:
        time: float | datetime = msgspec.json.decode(raw, type=float | datetime)
        return time
    except Exception:
        received = _parse_loosely(raw)
    if isinstance(received, str):
        return parse_iso_8601(received)
    if isinstance(received, float):
        raise EventError("invalid-timestamp", f"timestamp: must be finite, received {shown(raw)}")
    bound = "must be epoch seconds or an ISO 8601 string"
    raise EventError("invalid-timestamp", f"timestamp: {bound}, received {_described(received)}")


def _read_features(raw: bytes) -> dict[str, float | None]:
    if not raw:
        raise EventError("invalid-features", "features: must be present, received none")
    try:
        return msgspec.json.decode(raw, type=dict[str, float | None])
    except Exception as error:
        received, reason = _parse_loosely(raw), str(error)
    if not isinstance(received, dict):
        raise EventError(
            "invalid-features", f"features: must be an object of numbers, received {_described(received)}"
        )
    for name, number in received.items():
        if number is not None and not isinstance(number, float):
            bound = "must be a number or null"
            raise EventError(
                "invalid-features", f"features.{shown(name)}: {bound}, received {_described(number)}"
            )
    raise _find_not_finite(received) or EventError("invalid-features", f"features: {reason}")


def _read_scalar(raw: bytes, kind: Any, otherwise: Any = None) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind) if raw else None
    except Exception:
        return otherwise


def _parse_loosely(raw: bytes) -> Any:
    """Parse with every number as a float: those too large become infinite, where msgspec raises."""
    try:
        return json.loads(raw.decode("utf-8"), parse_int=float)
    except RecursionError:
        raise _depth_fault() from None
    except ValueError as error:
        raise EventError("invalid-json", f"value: must be JSON ({error}), received {shown(raw)}") from None


def _syntax_fault(value: bytes, error: Exception) -> EventError:
    """Tell the NaN and Infinity that Python's ``json.dumps`` writes from what no parser reads."""
    constants: list[str] = []

    def note_constant(name: str) -> float:
        constants.append(name)
        return float(name)

    try:
        document = json.loads(value.decode("utf-8"), parse_int=float, parse_constant=note_constant)
    except (ValueError, RecursionError):
        return EventError("invalid-json", f"value: must be JSON ({error}), received {shown(value)}")
    if not isinstance(document, dict):
        return EventError("invalid-json", f"value: must be a JSON object, received {_described(document)}")
    if not constants:  # Python takes half a surrogate pair for a character, UTF-8 has no bytes for it
        return EventError("invalid-json", f"value: must be JSON in valid Unicode, received {shown(value)}")
    timestamp, features = document.get("timestamp"), document.get("features")
    if isinstance(timestamp, float) and not math.isfinite(timestamp):
        return EventError("invalid-timestamp", f"timestamp: must be finite, received {timestamp}")
    fault = _find_not_finite(features) if isinstance(features, dict) else None
    return fault or EventError("not-finite", f"value: must hold finite numbers only, received {constants[0]}")


def _find_not_finite(features: dict[str, Any]) -> EventError | None:
    for name, number in features.items():
        if isinstance(number, float) and not math.isfinite(number):
            return EventError("not-finite", f"features.{shown(name)}: must be finite, received {number}")
    return None


def _depth_fault() -> EventError:
    return EventError("invalid-json", "value: must be JSON that can be read, received one nested too deeply")


def _described(received: object) -> str:
    if received is None:
        return "null"
    kinds = {bool: "a boolean", float: "a number", str: "a string", list: "an array", dict: "an object"}
    try:
        text = json.dumps(received, ensure_ascii=False)
    except RecursionError:
        text = "..."
    return f"{kinds[type(received)]}: {shown(text)}"
