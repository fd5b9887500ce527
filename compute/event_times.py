"""Event times: epoch seconds from what producers send, and the bounds that a time has to keep.

Owns the meaning of ``timestamp``. Whether a time is too old is decided where the window is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone

import msgspec
import numpy as np
from numpy.typing import NDArray

from compute.event_faults import EventError, shown

EARLIEST_SECONDS = -62_135_596_800.0
"""Year 1, the first that ``datetime`` knows, in epoch seconds."""

_ISO_8601 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?:(:\d\d)(?:[.,](\d+))?)?(?:[Zz]|([+-]\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)
_UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
_PLAUSIBLE_SECONDS = 1e8
"""Early 1973: a time that lands after it when read in another unit was meant in that unit."""


def parse_iso_8601(text: str) -> datetime:
    """Return the time that an ISO 8601 string names; without an offset it is UTC.

    RFC 3339 is read by msgspec, the same on every Python. Beyond it this takes a bare date, a time without
    seconds, a decimal comma and an offset in hours: Java and SQL tools write them.

    Raises
    ------
    EventError
        ``invalid-timestamp`` if it is no such time.

    Examples
    --------
    >>> parse_iso_8601("2026-11-21T10:00+02").isoformat()
    '2026-11-21T10:00:00+02:00'
    """
    match = _ISO_8601.fullmatch(text)
    if match:
        date, minute, second, fraction, offset_hours, offset_minutes = match.groups()
        offset = f"{offset_hours}:{offset_minutes or '00'}" if offset_hours else "Z"
        try:
            return msgspec.convert(
                f"{date}T{minute or '00:00'}{second or ':00'}.{fraction or '0'}{offset}", datetime
            )
        except msgspec.ValidationError:
            pass
    hint = "; a number must not stand in quotes" if re.fullmatch(r"\d+(\.\d+)?", text) else ""
    raise EventError(
        "invalid-timestamp",
        f'timestamp: must be an ISO 8601 time such as 2026-11-21T10:00:00Z, received "{shown(text)}"{hint}',
    )


def epoch_seconds(times: Sequence[float | datetime]) -> NDArray[np.float64]:
    """Return times as epoch seconds.

    Parameters
    ----------
    times : sequence of float or datetime
        Epoch seconds, or times of which those without an offset are UTC.

    Returns
    -------
    ndarray, shape (n,), float64, seconds

    Examples
    --------
    >>> epoch_seconds([1.5, datetime(1970, 1, 2)]).tolist()
    [1.5, 86400.0]
    """
    try:
        return np.fromiter(times, np.float64, len(times))
    except TypeError:  # at least one is a datetime
        return np.fromiter(map(_seconds, times), np.float64, len(times))


def latest_allowed(
    record_times: NDArray[np.float64], now: float, future_seconds: float
) -> NDArray[np.float64]:
    """Return for each event the last time at which it may lie.

    The record's own time comes first, so that a replay refuses the same events as the first run; our clock
    bounds it, so that a producer whose clock is wrong cannot lift the bound.

    Parameters
    ----------
    record_times : ndarray, shape (n,), float64, seconds
        Times that the broker or producer gave the records; NaN, 0 or less where there is none.
    now : float
        Current time in seconds.
    future_seconds : float
        How far an event may lie ahead.

    Returns
    -------
    ndarray, shape (n,), float64, seconds

    Examples
    --------
    >>> latest_allowed(np.array([100.0, np.nan, 900.0]), now=500.0, future_seconds=60.0).tolist()
    [160.0, 560.0, 560.0]
    """
    known = record_times > 0  # false for NaN as well
    return np.minimum(np.where(known, record_times, now), now) + future_seconds


def time_fault(timestamp: float, latest: float) -> EventError:
    """Return what to say of a time that breaks its bounds.

    A finite time that lies ahead is always ``future-event``, even beyond the year 9999: that is where
    milliseconds given as seconds lie, and the message says so.

    Examples
    --------
    >>> print(time_fault(1700000000000.0, latest=1700000300.0))
    timestamp: must be at most 1700000300.0, received 1700000000000.0,
    which looks like milliseconds; send seconds
    """
    received = float(timestamp)
    if not timestamp <= latest:
        units = [unit for unit, n in _UNITS.items() if _PLAUSIBLE_SECONDS < timestamp / n <= latest]
        hint = f", which looks like {units[0]}; send seconds" if units else ""
        message = f"timestamp: must be at most {float(latest)}, received {received}{hint}"
        return EventError("future-event", message)
    message = f"timestamp: must be at least {EARLIEST_SECONDS}, received {received}"
    return EventError("invalid-timestamp", message)


def _seconds(time: float | datetime) -> float:
    if not isinstance(time, datetime):
        return time
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()
