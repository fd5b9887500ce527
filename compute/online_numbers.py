"""Numbers, as the online learner sees them: labels as they are, and offsets that follow them.

Owns the offsets. Labels of a stream often wander in ways that no feature tells, so next to what the memories
say there are guesses that add the recent mean of their errors, over some ten labels and over one or two. That
moves with every label, while weights change once a block; it is the intercept with a learning rate of its own
that linear models by stochastic gradient descent have. One more says nothing, so that with its offsets it is
the recent mean of the labels themselves: where features mislead, that is hard to beat.

A label that lies far from the best guess counts for less, in all of this: see `compute/online_bounds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.moments import Floats
from compute.online_answers import OnlineScores
from compute.online_bounds import MAX_REACH, TYPICAL_ERRORS, bound_targets, faded
from compute.online_features import BEND_STDDEVS, N_FREQUENCIES, Rows
from compute.online_memory import MEMORIES, Memory

PACES = (0.1, 0.6)
"""Share of an error by which an offset moves."""

MAX_NUMBER = 1e60
"""Larger labels are ignored. Times 0.4 to the power of minus a block's length they must fit float64."""

N_SOURCES = len(MEMORIES) + 1
"""The memories, and what always says 0."""


class Offsets(NamedTuple):
    """What moves with every label.

    Attributes
    ----------
    of_sources : ndarray, shape (N_SOURCES, n_paces), float64
    reach : float
        How many times as far from the best guess as at the beginning of a block the next label may lie.
    """

    of_sources: Floats
    reach: float = 1.0


class Numbers:
    """Turns labels into targets, what memories say into guesses, and guesses into answers.

    Attributes
    ----------
    origin : float
        The first label, NaN before it. Targets are counted from it, so that differences of large labels are
        not lost in float32.
    offsets : Offsets
        After the last label.
    first_offsets : Offsets
        At the beginning of the block. They follow from the sums:
    weight, target : ndarray, shape (n_paces,), float64
        Sums of 1 and of targets, fading with each label by 1 - pace.
    lifted : ndarray, shape (n_paces, n_columns), float64
        Same of features.
    best : int
        Which guess is the best one until the block's end.
    bound : float
        How far from it a label may lie.
    """

    n_sources = N_SOURCES
    n_guesses = N_SOURCES * (1 + len(PACES))

    n_first_targets = 1
    sharpness = 1.0

    def __init__(self) -> None:
        self.names: list[str] = []
        self.origin = np.nan
        self.best, self.bound = 0, np.inf
        self.forget()

    def forget(self) -> None:
        """Begin anew; targets are counted from where they were."""
        self.offsets = self.first_offsets = Offsets(np.zeros((N_SOURCES, len(PACES))))
        self.weight, self.target = np.zeros(len(PACES)), np.zeros(len(PACES))
        self.lifted = np.zeros((len(PACES), N_FREQUENCIES + 1))

    def read(self, labels: Sequence[Any]) -> tuple[Floats, int]:
        """Return labels counted from the origin, NaN without one, and how many are ignored.

        Ignored is what is no finite number, or beyond `MAX_NUMBER`.
        """
        if not _PLAIN.issuperset(map(type, labels)):
            labels = [None if label is None else _number(label) for label in labels]
        found = np.array(labels, np.float64)
        unusable = ~(np.abs(found) <= MAX_NUMBER)
        n_ignored = 0
        if unusable.any():
            found[unusable] = np.nan
            n_ignored = int(np.count_nonzero(unusable)) - sum(label is None for label in labels)
        if np.isnan(self.origin) and not unusable.all():
            self.origin = float(found[np.argmin(unusable)])
        found -= self.origin
        return found, n_ignored

    def n_targets(self, targets: Floats, n_before: int) -> int:
        """Return 1: numbers are one target."""
        return 1

    def spread(self, targets: Floats, n_targets: int) -> Floats:
        """Return the targets as a column."""
        return targets[:, None]

    def expect(self, best: int, error: float) -> None:
        """Take note of which guess is the best one, and of the root mean square of its recent errors.

        Where that is 0 nothing tells what is far away.
        """
        self.best, self.bound = best, TYPICAL_ERRORS * error or np.inf

    def guess(self, said: Floats, targets: Floats, offsets: Offsets) -> tuple[Floats, Floats, Offsets]:
        """Return guesses without and with offsets, labels as they count, and the offsets after the last.

        Parameters
        ----------
        said : ndarray, shape (n, n_memories, 1), float64
        targets : ndarray, shape (n,), float64
            NaN without a label. At most a block of them have one.
        offsets : Offsets
            Before the first of these events.

        Returns
        -------
        guesses : ndarray, shape (n, n_guesses, 1), float64
            Of all sources without an offset, then with the slow one, then with the fast one.
        targets : ndarray, shape (n,), float64
        offsets : Offsets
        """
        guesses, after = self._follow(said, targets, offsets.of_sources)
        # In most blocks none is far away, and that needs no loop.
        if not (np.abs(targets - guesses[:, self.best, 0]) > self.bound).any():
            n_labels = len(targets) - int(np.count_nonzero(np.isnan(targets)))
            return guesses, targets, Offsets(after, faded(offsets.reach, n_labels))
        known = np.flatnonzero(~np.isnan(targets))
        i, source = divmod(self.best, N_SOURCES)
        pace, offset = (PACES[i - 1], float(offsets.of_sources[source, i - 1])) if i else (0.0, 0.0)
        bare = guesses[known, source, 0].tolist()
        bounded, reach = bound_targets(targets[known].tolist(), bare, pace, offset, self.bound, offsets.reach)
        targets = targets.copy()
        targets[known] = bounded
        guesses, after = self._follow(said, targets, offsets.of_sources)
        return guesses, targets, Offsets(after, reach)

    def _follow(self, said: Floats, targets: Floats, offsets: Floats) -> tuple[Floats, Floats]:
        """Return guesses without and with offsets, and the offsets after the last label."""
        labelled = ~np.isnan(targets)
        known = slice(None) if labelled.all() else labelled
        n_before = slice(len(said)) if labelled.all() else np.cumsum(labelled) - labelled
        guesses, last = np.zeros((len(said), self.n_guesses, 1)), offsets.copy()
        guesses[:, : N_SOURCES - 1] = said
        bare = guesses[:, :N_SOURCES, 0]
        errors = targets[known, None] - bare[known]
        for i, pace in enumerate(PACES):
            # offset[t] = (1 - pace) * offset[t - 1] + pace * error[t], with the powers of 1 - pace taken out
            powers = _powers(1.0 - pace, len(errors))[:, None]
            moved = (np.cumsum(errors * (pace / powers), axis=0) + offsets[:, i]) * powers
            offset = np.concatenate([offsets[None, :, i], moved])
            guesses[:, (i + 1) * N_SOURCES : (i + 2) * N_SOURCES, 0] = bare + offset[n_before]
            last[:, i] = offset[-1]
        return guesses, last

    def judge(self, guesses: Floats, targets: NDArray[np.floating]) -> None:
        """Learn nothing from errors: they have moved the offsets."""

    def learn(self, lifted: Rows, targets: NDArray[np.floating], memory: Memory) -> None:
        """Add a block to the sums, and take the offsets that the new weights would have had."""
        n = len(targets)
        if lifted.shape[1] > self.lifted.shape[1]:
            grown = np.zeros((len(PACES), lifted.shape[1]))
            grown[:, : self.lifted.shape[1]] = self.lifted
            self.lifted = grown
        for i, pace in enumerate(PACES):
            powers = _powers(1.0 - pace, n)
            weight = np.append(powers[-2::-1], 1.0) * pace
            self.weight[i] = powers[-1] * self.weight[i] + weight.sum()
            self.target[i] = powers[-1] * self.target[i] + weight @ targets[:, 0]
            self.lifted[i] = powers[-1] * self.lifted[i] + weight.astype(np.float32) @ lifted
        self.begin_block(memory)

    def begin_block(self, memory: Memory) -> None:
        """Take the offsets that follow from the sums, where there are any."""
        if self.weight.all():
            said = memory.predict((self.lifted / self.weight[:, None]).astype(np.float32))
            bare = np.append(said[:, :, 0], np.zeros((len(PACES), 1)), axis=1)
            self.first_offsets = Offsets(((self.target / self.weight)[:, None] - bare).T)
            self.offsets = self.first_offsets

    def blank(self, n: int) -> Floats:
        """Return what is chosen before the first label: the value 0."""
        return np.full((1, n), 0.0 if np.isnan(self.origin) else -self.origin)

    def answer(self, chosen: Floats) -> OnlineScores:
        """Return what events are predicted to be."""
        values = chosen[0] if np.isnan(self.origin) else chosen[0] + self.origin
        return OnlineScores(values, values.tolist(), None, ())

    def pack(self) -> Floats:
        """Return what is to be stored, as one vector."""
        parts = (self.offsets.of_sources, self.weight, self.target, self.lifted)
        return np.concatenate([[self.origin, self.offsets.reach], *(part.ravel() for part in parts)])

    @staticmethod
    def n_packed(n_columns: int) -> int:
        """Return the length of what is stored."""
        return 2 + (N_SOURCES + 2 + n_columns) * len(PACES)

    def unpack(self, packed: Floats, memory: Memory) -> None:
        """Take what was stored.

        Raises
        ------
        ValueError
            If it cannot be what `pack` returned.
        """
        if not (np.abs(packed[1:]) <= _LARGEST).all() or np.abs(packed[0]) > MAX_NUMBER:
            raise ValueError(f"offsets: must be finite and at most {_LARGEST:g}")
        reach = float(packed[1])
        if not 1.0 <= reach <= MAX_REACH:
            raise ValueError(f"reach: must be between 1 and {MAX_REACH:g}, received {reach}")
        at = 2 + np.cumsum([0, N_SOURCES * len(PACES), len(PACES), len(PACES)])
        offsets, self.weight, self.target, lifted = (x.copy() for x in np.split(packed, at)[1:])
        self.origin, self.lifted = float(packed[0]), lifted.reshape(len(PACES), -1)
        if self.weight.any() and (self.weight < 0.9 * np.array(PACES)).any():
            raise ValueError(f"weight: must be 0, or above its last term, received {self.weight.min()}")
        if (np.abs(self.lifted) > 2.0 * BEND_STDDEVS * self.weight[:, None]).any():
            raise ValueError("lifted: must be sums of bounded features")
        self.begin_block(memory)
        self.offsets = Offsets(offsets.reshape(N_SOURCES, len(PACES)), reach)


_LARGEST = 1e70
_PLAIN = {float, type(None)}


def _number(label: Any) -> float:
    """Return a number as float64, NaN for what is none; a string is none, whatever it says."""
    if not isinstance(label, int | float | np.integer | np.floating) or isinstance(label, bool):
        return np.nan
    try:
        return float(label)
    except OverflowError:
        return np.nan


@lru_cache(maxsize=1024)
def _powers(base: float, n: int) -> Floats:
    """Return the first n powers."""
    powers: Floats = base ** np.arange(1.0, n + 1.0)
    powers.flags.writeable = False
    return powers
