"""How many rows the next call of a model gets: pure, so that no clock is needed to try it.

A batch of 4,000 rows may well be one call of a model that takes 10 us a row; with one that takes 5 ms all of
them would be given up. Nobody says beforehand which it is. So the first call gets one row, and each next one
twice as many, as long as that is expected to take a small part of the time that a call may take.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE = 1 / 20
"""Of the timeout that a call should take: a model may become twenty times as slow before its rows expire."""

MAX_SECONDS = 0.5
"""What a call should take at most: a rebalance, a new version and the offset to commit wait for it."""

SHRINK = ENOUGH = 4


@dataclass(frozen=True)
class Pace:
    """Rows of the next call, by what the calls before took.

    Parameters
    ----------
    timeout_seconds : float
        After so long a call is given up.
    n_rows : int
        Most rows of the next call.

    Examples
    --------
    >>> pace = Pace(timeout_seconds=10.0)
    >>> for _ in range(12):  # 5 ms a row
    ...     pace = pace.answered(pace.n_rows, pace.n_rows * 0.005)
    >>> pace.n_rows
    100
    >>> pace.expired(100).n_rows
    25
    """

    timeout_seconds: float
    n_rows: int = 1

    def answered(self, n_rows: int, seconds: float) -> Pace:
        """Return the pace after a call of `n_rows` that took `seconds`."""
        if n_rows == 0:
            return self
        aim_seconds = min(self.timeout_seconds * SHARE, MAX_SECONDS)
        affordable = int(n_rows * aim_seconds / max(seconds, 1e-9))
        # A call has fewer rows where events were put aside before it; one of far fewer says nothing of many.
        tried = n_rows * ENOUGH >= self.n_rows
        return self._with(min(2 * self.n_rows if tried else self.n_rows, affordable))

    def expired(self, n_rows: int) -> Pace:
        """Return the pace after a call of `n_rows` that was given up."""
        return self._with(min(self.n_rows, n_rows) // SHRINK)

    def _with(self, n_rows: int) -> Pace:
        return Pace(self.timeout_seconds, max(n_rows, 1))
