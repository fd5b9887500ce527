"""The alert state of many entities for one rule, as columns, and its stored form.

Owns memory and bytes only; ``compute/alerts.py`` owns what the state means and changes it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUIET, WARNING, CRITICAL = 0, 1, 2
"""Values of ``firing``; higher is worse."""

_FORMAT = 1
_STORED = np.dtype(
    [("format", "u1"), ("firing", "u1"), ("since", "<f8"), ("last_fired", "<f8"), ("suppressed", "<u4")]
)
PACKED_BYTES = _STORED.itemsize
"""Bytes of one entity's stored state."""

_MAX_SUPPRESSED = int(np.iinfo(np.uint32).max)


class AlertColumns:
    """Alert state by slot; a slot is the place of one entity and is given out by the caller.

    Parameters
    ----------
    n_slots : int
        Places to begin with; all are quiet.

    Attributes
    ----------
    firing : ndarray, shape (n_slots,), uint8
        ``QUIET``, ``WARNING`` or ``CRITICAL``.
    since : ndarray, shape (n_slots,), float64, seconds
        Event time at which the firing, or else the last, alert began; -inf before the first.
    last_fired : ndarray, shape (n_slots,), float64, seconds
        Latest event time at which a firing alert was published; -inf before the first.
    suppressed : ndarray, shape (n_slots,), int64
        Exceedances that were not published since the last alert.

    Examples
    --------
    >>> columns = AlertColumns(2)
    >>> columns.firing[1], columns.since[1], columns.last_fired[1] = CRITICAL, 10.0, 12.5
    >>> stored = columns.pack(np.array([1]))
    >>> stored.shape, stored.dtype
    ((1, 22), dtype('uint8'))
    >>> restored = AlertColumns(1)
    >>> restored.unpack(np.array([0]), stored)
    >>> restored.firing.tolist(), restored.last_fired.tolist()
    ([2], [12.5])
    """

    def __init__(self, n_slots: int = 0) -> None:
        self.firing: NDArray[np.uint8] = np.zeros(n_slots, np.uint8)
        self.since: NDArray[np.float64] = np.full(n_slots, -np.inf)
        self.last_fired: NDArray[np.float64] = np.full(n_slots, -np.inf)
        self.suppressed: NDArray[np.int64] = np.zeros(n_slots, np.int64)

    def __len__(self) -> int:
        return len(self.firing)

    def grow(self, n_slots: int) -> None:
        """Make room for at least this many slots; new ones are quiet."""
        if n_slots <= len(self):
            return
        # Doubling, so that entities which appear one by one do not copy everything each time.
        added = AlertColumns(max(n_slots, 2 * len(self)) - len(self))
        self.firing = np.concatenate([self.firing, added.firing])
        self.since = np.concatenate([self.since, added.since])
        self.last_fired = np.concatenate([self.last_fired, added.last_fired])
        self.suppressed = np.concatenate([self.suppressed, added.suppressed])

    def clear(self, slots: NDArray[np.int64]) -> None:
        """Make slots quiet again, for the entity that is given them next."""
        self.firing[slots] = QUIET
        self.since[slots] = -np.inf
        self.last_fired[slots] = -np.inf
        self.suppressed[slots] = 0

    def pack(self, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the stored form of slots.

        Parameters
        ----------
        slots : ndarray, shape (n,), int64

        Returns
        -------
        ndarray, shape (n, PACKED_BYTES), uint8
            A row for each slot: little-endian, without padding, the first byte is the format's number.
        """
        stored = np.empty(len(slots), _STORED)
        stored["format"] = _FORMAT
        stored["firing"] = self.firing[slots]
        stored["since"] = self.since[slots]
        stored["last_fired"] = self.last_fired[slots]
        stored["suppressed"] = np.minimum(self.suppressed[slots], _MAX_SUPPRESSED)
        return stored.view(np.uint8).reshape(len(slots), PACKED_BYTES)

    def unpack(self, slots: NDArray[np.int64], packed: NDArray[np.uint8] | bytes) -> None:
        """Set slots from their stored form.

        Parameters
        ----------
        slots : ndarray, shape (n,), int64
        packed : ndarray, shape (n, PACKED_BYTES), uint8, or bytes
            What ``pack`` returned.

        Raises
        ------
        ValueError
            If the size, the format or a severity is not one that this version writes.
        """
        raw = bytes(packed) if isinstance(packed, bytes) else np.ascontiguousarray(packed).tobytes()
        if len(raw) != len(slots) * PACKED_BYTES:
            bound = f"must be {PACKED_BYTES} bytes for each of {len(slots)} slots"
            raise ValueError(f"alert state: {bound}, received {len(raw)} bytes")
        stored = _read(raw)
        self.firing[slots] = stored["firing"]
        self.since[slots] = stored["since"]
        self.last_fired[slots] = stored["last_fired"]
        self.suppressed[slots] = stored["suppressed"]


def check_packed(packed: bytes) -> None:
    """Raise ValueError if this is not what `AlertColumns.pack` writes for a slot.

    Examples
    --------
    >>> check_packed(AlertColumns(1).pack(np.array([0])).tobytes())
    >>> check_packed(b"calm")
    Traceback (most recent call last):
    ValueError: alert state: must be 22 bytes, received 4
    """
    if len(packed) != PACKED_BYTES:
        raise ValueError(f"alert state: must be {PACKED_BYTES} bytes, received {len(packed)}")
    _read(packed)


def is_marked(packed: bytes) -> bool:
    """Tell whether a slot had an alert when it was packed; False for what is no packed slot.

    Examples
    --------
    >>> is_marked(AlertColumns(1).pack(np.array([0])).tobytes())
    False
    """
    return len(packed) == PACKED_BYTES and bool(np.isfinite(np.frombuffer(packed, _STORED)["last_fired"][0]))


def _read(packed: bytes) -> NDArray[np.void]:
    stored = np.frombuffer(packed, _STORED)
    for name, lowest, highest in (("format", _FORMAT, _FORMAT), ("firing", QUIET, CRITICAL)):
        wrong = stored[name][(stored[name] < lowest) | (stored[name] > highest)]
        if len(wrong):
            raise ValueError(f"alert state: {name} must be {lowest} to {highest}, received {wrong[0]}")
    for name in ("since", "last_fired"):
        if not (stored[name] < np.inf).all():  # false for NaN as well
            raise ValueError(f"alert state: {name} must be a time, received {stored[name].max()}")
    return stored
