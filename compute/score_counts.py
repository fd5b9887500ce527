"""How many events of a class, and how many of the others, had each score: what a ROC curve is drawn from.

Owns how scores are kept so that counts of several partitions merge exactly, and the area under the curve.

A score is kept as a key, an integer that sorts as scores do; only their order matters to the curve. While
there are at most `bound` different keys the area is exact. With more of them the lowest bits of all keys
go, as few as bring their number under the bound. So what is kept is a function of the scores alone: however
events are split into batches and partitions, and in whatever order these are merged, the same counts come
out.

A key is made of the bits of a float64, so what goes is relative: scores of 1e-6 are told apart as well as
those of 1e6, whatever an anomaly detector answers. Between 0.5 and 1 it is made of the distance to 1, since a
classifier that is sure has its scores there. With bins instead of scores the area is off by at most half of
the pairs that fall into one bin, and that bound is reported with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.moments import Flags, Floats, Integers

Keys = NDArray[np.uint64]

MIN_BOUND = 256
"""Above two keys for each of 101 classes, which is where dropping bits ends."""

LARGEST = 1e290
"""Scores beyond are kept as this: the keys above 1 are shifted, and must end before infinity's."""

KEY_BITS = 64
_SIGN = np.uint64(1 << 63)
_EXPONENT = 52
_HALF = 1022 << _EXPONENT  # the bits of 0.5
# 1 - 2**-53 is the largest score below 1: its key is 2 * _HALF - bits(2**-53), and 1 comes after it.
_ABOVE_ONE = (2 * 1022 - (1023 - 53) + 1 - 1023) << _EXPONENT


def score_keys(scores: Floats) -> Keys:
    """Return integers that are ordered as the scores are, and equal where these are equal.

    Parameters
    ----------
    scores : ndarray, any shape, float64
        Without NaN.

    Returns
    -------
    ndarray, same shape, uint64

    Examples
    --------
    >>> scores = np.array([-np.inf, -2.0, -0.0, 0.0, 1e-300, 0.5, 0.75, 1.0 - 2**-53, 1.0, 7.0, 1e290])
    >>> np.diff(score_keys(scores).astype(object)) > 0
    array([ True,  True, False,  True,  True,  True,  True,  True,  True, True])
    """
    clipped = np.clip(scores, -LARGEST, LARGEST)
    bits = np.abs(clipped).view(np.int64)
    upper = np.where(clipped < 1.0, 2 * _HALF - (1.0 - clipped).view(np.int64), bits + _ABOVE_ONE)
    keys = np.where(clipped > 0.5, upper, np.where(clipped < 0.0, -bits, bits))
    return keys.view(np.uint64) ^ _SIGN


class Areas(NamedTuple):
    """Areas under the ROC curves of k classes, each against all others.

    Attributes
    ----------
    owners : ndarray, shape (k,), int64
    area : ndarray, shape (k,), float64
        NaN for a class that all or none of the events have.
    error : ndarray, shape (k,), float64
        By how much the area may be off.
    """

    owners: Integers
    area: Floats
    error: Floats


def _none() -> Integers:
    return np.zeros(0, np.int64)


@dataclass
class ScoreCounts:
    """Counts of events by class and score.

    Attributes
    ----------
    bound : int
        Different keys, of all classes together; at least `MIN_BOUND`.
    level : int
        Bits that all keys lost.
    n_rows : int
        Events; each class has all of them, as its own or as those of the others.
    owners, keys : ndarray, shape (b,), int64 and uint64
        Class and key of each bin, in their order, no two alike.
    positive, negative : ndarray, shape (b,), int64
        Events of the class in the bin, and events of the others.

    Examples
    --------
    >>> counts = ScoreCounts(bound=256)
    >>> keys = score_keys(np.array([[0.1], [0.4], [0.35], [0.8]]))
    >>> counts.add(keys, np.array([0]), np.array([[False], [False], [True], [True]]))
    >>> counts.areas().area.tolist(), counts.areas().error.tolist()
    ([0.75], [0.0])
    """

    bound: int
    level: int = 0
    n_rows: int = 0
    owners: Integers = field(default_factory=_none)
    keys: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))
    positive: Integers = field(default_factory=_none)
    negative: Integers = field(default_factory=_none)

    def add(self, keys: Keys, owners: Integers, positive: Flags) -> None:
        """Count events.

        Parameters
        ----------
        keys : ndarray, shape (n, k), uint64
            Of each event's score for each of the classes.
        owners : ndarray, shape (k,), int64
            The classes: all those that were given before, and perhaps more.
        positive : ndarray, shape (n, k), bool
            Whether it has that class.
        """
        n_rows = len(keys)
        if not n_rows:
            return
        self._know(owners)
        self.n_rows += n_rows
        hits = positive.T.ravel().astype(np.int64)
        self._unite(np.repeat(owners, n_rows), keys.T.ravel() >> np.uint64(self.level), hits, 1 - hits)

    def merge(self, other: ScoreCounts) -> None:
        """Count all that another one counted, which stays as it is."""
        theirs = replace(other)  # arrays are never changed in place, so they may be shared
        self._know(theirs.owners)
        theirs._know(self.owners)
        level = max(self.level, theirs.level)
        self._drop(level - self.level)
        theirs._drop(level - theirs.level)
        self.n_rows += theirs.n_rows
        self._unite(theirs.owners, theirs.keys, theirs.positive, theirs.negative)

    def recode(self, codes: Integers) -> ScoreCounts:
        """Return the same counts with class `i` called `codes[i]`; no two may become one."""
        renamed = ScoreCounts(self.bound, self.level, self.n_rows)
        renamed._unite(codes.take(self.owners), self.keys, self.positive, self.negative)
        return renamed

    def areas(self) -> Areas:
        """Return the area under each class's ROC curve.

        It is the share of pairs, one event of the class and one of the others, in which the one of the class
        has the higher score, where equal scores count half (Hanley and McNeil 1982).
        """
        if not len(self.keys):
            return Areas(_none(), np.zeros(0), np.zeros(0))
        starts = np.flatnonzero(_changes(self.owners))
        positive, negative = self.positive.astype(np.float64), self.negative.astype(np.float64)
        lower = np.cumsum(negative) - negative
        lower -= np.repeat(lower.take(starts), np.diff(np.append(starts, len(lower))))
        n_pairs = np.add.reduceat(positive, starts) * np.add.reduceat(negative, starts)
        n_pairs[n_pairs == 0] = np.nan
        higher = np.add.reduceat(positive * (lower + 0.5 * negative), starts)
        together = np.add.reduceat(positive * negative, starts)
        error = 0.5 * together / n_pairs if self.level else 0.0 * n_pairs
        return Areas(self.owners.take(starts), higher / n_pairs, error)

    def _know(self, owners: Integers) -> None:
        """Give classes that come up only now all earlier events: not theirs, with a score of 0."""
        new = np.setdiff1d(owners, self.owners)
        if self.n_rows and len(new):
            zeros = score_keys(np.zeros(len(new))) >> np.uint64(self.level)
            self._unite(new, zeros, np.zeros(len(new), np.int64), np.full(len(new), self.n_rows))

    def _unite(self, owners: Integers, keys: Keys, positive: Integers, negative: Integers) -> None:
        """Add counts whose keys are at this level."""
        self.owners = np.concatenate((self.owners, owners))
        self.keys = np.concatenate((self.keys, keys))
        self.positive = np.concatenate((self.positive, positive))
        self.negative = np.concatenate((self.negative, negative))
        one_class = not len(self.owners) or self.owners.min() == self.owners.max()
        order = np.argsort(self.keys) if one_class else np.lexsort((self.keys, self.owners))
        self.owners, self.keys = self.owners.take(order), self.keys.take(order)
        self.positive, self.negative = self.positive.take(order), self.negative.take(order)
        self._drop(0)
        if len(self.keys) > self.bound:
            self._drop(_bits_to_drop(self.owners, self.keys, self.bound))

    def _drop(self, n_bits: int) -> None:
        """Take the lowest bits from all keys, and make one bin of those that are alike."""
        self.level += n_bits
        self.keys = self.keys >> np.uint64(n_bits)
        starts = np.flatnonzero(_changes(self.owners) | _changes(self.keys))
        if len(starts) < len(self.keys):
            self.owners, self.keys = self.owners.take(starts), self.keys.take(starts)
            self.positive = np.add.reduceat(self.positive, starts)
            self.negative = np.add.reduceat(self.negative, starts)


def _changes(values: NDArray[np.generic]) -> Flags:
    """Tell where a value differs from the one before it; the first does."""
    changes = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes


def _bits_to_drop(owners: Integers, keys: Keys, bound: int) -> int:
    """Return the fewest bits without which no more than `bound` bins are left.

    Two neighbours are one bin as soon as the highest bit in which they differ has gone.
    """
    differing = keys[1:] ^ keys[:-1]
    # Without the lower of two adjacent ones no rounding can carry into a higher bit.
    _, n_bits = np.frexp((differing & ~(differing >> np.uint64(1))).astype(np.float64))
    n_bits[owners[1:] != owners[:-1]] = KEY_BITS
    n_bins = len(keys) - np.cumsum(np.bincount(n_bits, minlength=KEY_BITS + 1))
    return int(np.argmax(n_bins <= bound))
