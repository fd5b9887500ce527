"""How far a recovery is: counted in offsets, told in records, with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable


class Progress:
    """What a recovery has to read, and has read.

    Parameters
    ----------
    clock : callable
        Gives monotonic seconds.

    Attributes
    ----------
    n_partitions : int
        Partitions to restore.
    n_records : int
        Records written to the store so far.

    Examples
    --------
    >>> seconds = iter([0.0, 2.0])
    >>> progress = Progress(n_partitions=8, clock=lambda: next(seconds))
    >>> progress.read(n_records=0, n_left=1_000, n_partitions_left=8)
    >>> progress.read(n_records=240, n_left=750, n_partitions_left=6)
    >>> progress.describe()
    '240 records, 25%, 2 of 8 partitions, 120 records/s, 6 s left'
    """

    def __init__(self, n_partitions: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_partitions = n_partitions
        self.n_records = 0
        self._clock = clock
        self._started = clock()
        self._total: int | None = None
        self._left = 0
        self._n_partitions_left = n_partitions

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def read(self, n_records: int, n_left: int, n_partitions_left: int) -> None:
        """Note records written since the last call, and how many offsets and partitions are left."""
        self.n_records += n_records
        if self._total is None or n_left > self._total:
            self._total = n_left
        self._left = n_left
        self._n_partitions_left = n_partitions_left

    def describe(self) -> str:
        """Return how far it is, and when it will be over at this rate."""
        seconds = max(self.seconds, 1e-3)
        n_read = (self._total or 0) - self._left
        share = n_read / self._total if self._total else float(self._total == 0)
        left = f"{self._left * seconds / n_read:.0f} s left" if n_read else "time left unknown"
        return (
            f"{self.n_records:,} records, {share:.0%}, "
            f"{self.n_partitions - self._n_partitions_left} of {self.n_partitions} partitions, "
            f"{self.n_records / seconds:,.0f} records/s, {left}"
        )
