"""Events in blocks, read before the step that joins their labels.

Owns reading a little at a time. What is in a block never changes, so others may have a turn in between; only
which blocks there are is looked at anew in the step itself.
"""

from __future__ import annotations

import numpy as np

from compute.answered import Answered, concat
from tables.pending_blocks import Blocks, Integers

READ_AHEAD = 512
"""Events that are looked for at a time: some 10 ms, where each is in another block."""


class Ahead:
    """Events that a batch of labels is about, as far as they are in blocks when it begins.

    Parameters
    ----------
    blocks : Blocks
    offsets : ndarray, shape (n,), int64
        In any order.
    """

    def __init__(self, blocks: Blocks, offsets: Integers) -> None:
        self._blocks = blocks
        self._reach = blocks.last_offset
        wanted = np.unique(offsets)
        self._wanted = wanted[: np.searchsorted(wanted, self._reach, "right")]
        self._parts: list[Answered] = []
        self._events: Answered | None = None

    def read(self) -> bool:
        """Read some of the events; False if there was nothing left to read."""
        some, self._wanted = self._wanted[:READ_AHEAD], self._wanted[READ_AHEAD:]
        self._parts += [events for events, _ in self._blocks.find(some)]
        return bool(len(some))

    def find(self, wanted: Integers) -> list[tuple[Answered, Integers]]:
        """Return those events that are in blocks now, of the ones looked for, and their places in `wanted`.

        Parameters
        ----------
        wanted : ndarray, shape (n,), int64
            Ascending offsets, each once: some of those that were read, all of which are.
        """
        if self._events is None:
            self._events = concat(self._parts)
        known = self._events.offsets
        end = int(np.searchsorted(wanted, self._reach, "right"))
        found: list[tuple[Answered, Integers]] = []
        if len(known) and end:
            asked = wanted[:end]
            rows = np.minimum(np.searchsorted(known, asked), len(known) - 1)
            is_there = (known[rows] == asked) & (self._blocks.locate(asked) >= 0)
            if is_there.any():
                found.append((self._events.take(rows[is_there]), np.flatnonzero(is_there)))
        return found + [(events, end + places) for events, places in self._blocks.find(wanted[end:])]
