"""What was removed because it waited too long for labels: two numbers of a partition, and those before.

A label of a removed event is late, one of an event that was never answered is unknown: this tells which.
"""

from __future__ import annotations

import logging
import math
import struct
from typing import NamedTuple

from compute.own_values import content_of, seen_of, with_header
from tables.reserved import PREFIX

log = logging.getLogger(__name__)

KIND = b"NX"
EXPIRED = PREFIX + b"expired"

_PAIRS = struct.Struct("<qdqd")


class Expired(NamedTuple):
    """What does not wait any more.

    Attributes
    ----------
    below : int
        Offset behind the last event that was removed.
    time : float, seconds
        Blocks with all record times before it were removed.
    """

    below: int = 0
    time: float = -math.inf

    @staticmethod
    def read(stored: bytes | None, seen: int) -> Expired:
        """Return what a state has removed that has seen so much."""
        if stored is None:
            return Expired()
        try:
            below, time, below_before, time_before = _PAIRS.unpack(content_of(KIND, stored))
        except (ValueError, struct.error) as error:
            log.error("what labels waited for and expired cannot be read: %s", error)
            return Expired()
        return Expired(below_before, time_before) if seen_of(stored) > seen else Expired(below, time)

    def encode(self, before: Expired, seen: int) -> bytes:
        """Return the stored form, with what the checkpoint before had."""
        return with_header(KIND, seen, _PAIRS.pack(*self, *before))
