"""The test of Page and Hinkley: at which value the mean of a sequence has risen.

Owns the test. What it watches, and what is told of it, is in `compute/error_drift.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compute.moments import Floats, Integers

Z_LIMIT = 8.0
"""Most that one value counts, in standard deviations: a single one far out is no change."""

FAR = 30.0
"""Standard deviations from the mean beyond which a value is moved there, and `sqrt(n)` of them after n values
where that is more. So none more than doubles what 900 values or more make of the spread; and rare values that
are all alike, as errors of 0 and 1 are, stay what they are, however rare."""


class Level(NamedTuple):
    """How many values there were, their mean and their standard deviation."""

    n_values: int
    mean: float
    stddev: float


class Rise(NamedTuple):
    """A mean that has risen.

    Attributes
    ----------
    row : int
        The value at which it is plain.
    statistic : float
        How far the sum of deviations lies above its lowest.
    before, after : Level
        Up to the lowest, where the change most likely was (Hinkley 1971), and since.
    """

    row: int
    statistic: float
    before: Level
    after: Level


class PageHinkley:
    """Watches the mean of a sequence for a rise.

    Page (1954), "Continuous inspection schemes"; Hinkley (1971), "Inference about the change-point from
    cumulative sum tests". Deviations from the mean so far, less `delta`, are added up; once their sum is
    `threshold` above its lowest, the mean has risen. Several values at once give the same as one by one, to
    the last bit.

    Parameters
    ----------
    delta : float
        Rise that does not count.
    threshold : float
        What the sum of deviations has to gain.
    min_values : int
        Values before which nothing is found.
    in_stddevs : bool
        Whether deviations are counted in standard deviations so far, each within `Z_LIMIT`, so that `delta`
        and `threshold` suit any scale, and values within those that `FAR` is about. Without it, this is the
        test as published.
    target : tuple of float and float, optional
        Mean and standard deviation to count from instead of those so far: Page's test of a known level.

    Examples
    --------
    >>> test = PageHinkley(delta=0.005, threshold=10.0, min_values=30)
    >>> rise = test.observe(np.repeat([0.0, 1.0], [100, 50]))
    >>> rise.row, rise.before.n_values, rise.after.mean
    (110, 100, 1.0)
    """

    def __init__(
        self,
        delta: float,
        threshold: float,
        min_values: int,
        in_stddevs: bool = False,
        target: tuple[float, float] | None = None,
    ) -> None:
        self._delta, self._threshold, self._min_values = delta, threshold, min_values
        self._in_stddevs, self._target = in_stddevs, target
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._excess, self._lowest = 0.0, np.inf
        # Sums are of differences from the first value, so that a large level costs no digits.
        self._first = 0.0
        self._sums, self._sums_at_lowest = _Sums(0, 0.0, 0.0), _Sums(0, 0.0, 0.0)

    @property
    def level(self) -> Level:
        """All values since the beginning, as they count."""
        return self._sums.describe(self._first)

    def observe(self, values: Floats) -> Rise | None:
        """Take values in, up to the one at which a rise is plain.

        Parameters
        ----------
        values : ndarray, shape (n,), float64
            Finite.

        Returns
        -------
        Rise or None
            What comes after its row was not looked at; the test goes on from there unless it is reset.
        """
        if not len(values):
            return None
        if not self._sums.n_values:
            self._first = float(values[0])
        n_values = self._sums.n_values + 1 + np.arange(len(values))
        away, totals, squares = self._add_up(values - self._first, n_values)
        mean = totals / n_values
        deviations = away - mean
        if self._target is not None:
            level, stddev = self._target
            deviations = _standardise(values - level, np.full(len(values), stddev))
        elif self._in_stddevs:
            variance = squares / n_values - mean * mean
            deviations = _standardise(deviations, np.sqrt(np.maximum(variance, 0.0)))
        excess = _running_sum(self._excess, deviations - self._delta)
        lowest = np.minimum.accumulate(np.r_[self._lowest, excess])[1:]
        rises = np.flatnonzero((excess - lowest > self._threshold) & (n_values >= self._min_values))
        last = int(rises[0]) if rises.size else len(values) - 1
        self._sums = _sums_at(last, n_values, totals, squares)
        at_lowest = np.flatnonzero(excess[: last + 1] == lowest[: last + 1])
        if at_lowest.size:
            self._sums_at_lowest = _sums_at(int(at_lowest[-1]), n_values, totals, squares)
        self._excess, self._lowest = float(excess[last]), float(lowest[last])
        if not rises.size:
            return None
        before, after = self._sums_at_lowest, self._sums.minus(self._sums_at_lowest)
        statistic = self._excess - self._lowest
        return Rise(last, statistic, before.describe(self._first), after.describe(self._first))

    def _add_up(self, away: Floats, n_values: Integers) -> tuple[Floats, Floats, Floats]:
        """Return values as they count, and their sums and those of their squares up to each."""
        row = 0
        while True:
            totals = _running_sum(self._sums.total, away)
            squares = _running_sum(self._sums.squares, away * away)
            if not self._in_stddevs or self._target is not None:
                return away, totals, squares
            n_before = np.maximum(n_values - 1, 1)
            mean = np.r_[self._sums.total, totals[:-1]] / n_before
            variance = np.r_[self._sums.squares, squares[:-1]] / n_before - mean * mean
            limit = np.sqrt(np.maximum(variance, 0.0) * np.maximum(n_before, FAR * FAR))
            far = np.flatnonzero((np.abs(away - mean) > limit) & (limit > 0.0))
            far = far[far >= row]
            if not far.size:
                return away, totals, squares
            # Where it is now decides which of the values behind it are far.
            row = int(far[0])
            away[row] = mean[row] + np.copysign(limit[row], away[row] - mean[row])
            row += 1

    def numbers(self) -> tuple[float, ...]:
        """Return all that the test remembers; `restore` takes it back."""
        return (self._first, self._excess, self._lowest, *self._sums, *self._sums_at_lowest)

    def restore(self, numbers: tuple[float, ...]) -> None:
        """Go on from what `numbers` returned.

        Raises
        ------
        ValueError
            If no sequence of values leads there.
        """
        self._first, self._excess, self._lowest, n, total, squares, n_low, total_low, squares_low = numbers
        if not (0 <= n_low <= n < 2**53 and n % 1 == 0 and n_low % 1 == 0):
            raise ValueError(f"Page-Hinkley test: n_values must be whole and ascend, received {n_low}, {n}")
        finite = np.isfinite([self._first, self._excess, total, squares, total_low, squares_low]).all()
        if not (
            finite and 0 <= squares_low <= squares and (n > 0) == (n_low > 0) == np.isfinite(self._lowest)
        ):
            raise ValueError(
                "Page-Hinkley test: sums must be finite, squares ascend from 0, and values have a lowest"
            )
        if self._lowest > self._excess and n:
            raise ValueError(
                f"Page-Hinkley test: lowest must be at most {self._excess}, received {self._lowest}"
            )
        self._sums, self._sums_at_lowest = (
            _Sums(int(n), total, squares),
            _Sums(int(n_low), total_low, squares_low),
        )


class _Sums(NamedTuple):
    n_values: int
    total: float
    squares: float

    def minus(self, other: _Sums) -> _Sums:
        n_values, total = self.n_values - other.n_values, self.total - other.total
        return _Sums(n_values, total, self.squares - other.squares)

    def describe(self, first: float) -> Level:
        if not self.n_values:
            return Level(0, 0.0, 0.0)
        mean = self.total / self.n_values
        variance = max(self.squares / self.n_values - mean * mean, 0.0)
        return Level(self.n_values, first + mean, float(np.sqrt(variance)))


def _sums_at(row: int, n_values: Integers, totals: Floats, squares: Floats) -> _Sums:
    return _Sums(int(n_values[row]), float(totals[row]), float(squares[row]))


def _running_sum(start: float, values: Floats) -> Floats:
    """Return `start` plus the values up to each, added one by one, so that any split gives the same bits."""
    return np.cumsum(np.r_[start, values])[1:]


def _standardise(deviations: Floats, stddev: Floats) -> Floats:
    """Return deviations in standard deviations, within `Z_LIMIT`; 0 where the standard deviation is."""
    z = np.divide(deviations, stddev, out=np.zeros(len(deviations)), where=stddev > 0)
    return np.clip(z, -Z_LIMIT, Z_LIMIT)
