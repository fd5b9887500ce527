"""A model that learns online: one learner a partition, which answers first and learns after.

Owns the order of things. Labelled events are gathered into blocks; weights stay as they are from the end of
one to the end of the next, where they are found anew. Blocks end at counts of labels, so one by one, all at
once or in any split gives the same: weights to the last bit, answers up to the rounding of float32.

Several guesses compete: those of a long and of a short memory, for numbers with and without the offsets that
recent labels suggest. The one whose recent squared error is smallest is the answer. Each was made before its
label was known, so they are compared fairly (Blum, Kalai and Langford, 1999: Beating the hold-out).

What is guessed from is in `compute/online_features.py`, how weights are found in `compute/online_memory.py`,
what classes and numbers need beyond that in `compute/online_classes.py` and `compute/online_numbers.py`, and
the stored form in `compute/online_codec.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from compute.moments import Flags, Floats
from compute.online_answers import OnlineScores
from compute.online_block import BLOCK_SHARE, MAX_BLOCK, MAX_BLOCK_CHANGING, Waiting, block_size
from compute.online_bounds import REACH_LABELS, TYPICAL_ERRORS
from compute.online_classes import FIRST_CURVATURE, FIRST_SHARPNESS, SHARPNESS_LABELS, Classes
from compute.online_codec import decode_state, encode_state
from compute.online_columns import MAX_FEATURES, Columns
from compute.online_features import BEND_STDDEVS, N_FREQUENCIES, Rows, lift
from compute.online_memory import MEMORIES, RIDGE, SHORT, Memory
from compute.online_numbers import PACES, Numbers
from compute.online_state import OnlineState, Task

__all__ = ["OnlineLearner", "OnlineScores"]

RECENT_LABELS = 500.0
"""Labels after which an error's part in the comparison of guesses has faded to 1/e."""

CHANGING_ERROR = 0.95
"""The world changes where the short memory is best, with less than this share of the long one's error."""

ALGORITHM = 2
"""To be raised when the same labels teach something else."""

_CONSTANTS = (
    *(ALGORITHM, MAX_FEATURES, N_FREQUENCIES, BEND_STDDEVS, MEMORIES, RIDGE, PACES, RECENT_LABELS),
    *(TYPICAL_ERRORS, REACH_LABELS),
    *(BLOCK_SHARE, MAX_BLOCK, MAX_BLOCK_CHANGING, CHANGING_ERROR),
    *(FIRST_SHARPNESS, FIRST_CURVATURE, SHARPNESS_LABELS),
)


class OnlineLearner:
    """Predicts, and learns from labels.

    Parameters
    ----------
    task : str
        "classification" or "regression".
    positive : str
        Class whose probability is the score, in canonical form. Where it is empty or not learnt yet, the last
        one in sorted order is. It is no part of what is stored.

    Attributes
    ----------
    version : str
        16 hexadecimal digits that stand for the algorithm and its constants, not for what was learnt.
    n_learnt : int
        Labels that the weights follow from, since the beginning or the last reset.
    n_ignored : int
        Labels that could not be learnt from: beyond 64 classes, too long, not finite, of the wrong kind.
    n_resets : int
        How often numbers became infinite and learning began anew. It should never.

    Examples
    --------
    >>> learner = OnlineLearner("classification")
    >>> z, labels = np.array([[-1.0], [1.0]] * 20), ["cold", "hot"] * 20
    >>> answers = learner.score_and_learn(["temperature"], z, labels)
    >>> answers.predictions[:2], answers.predictions[-2:]
    ([None, 'cold'], ['cold', 'hot'])
    """

    def __init__(self, task: Task, positive: str = "") -> None:
        if task not in get_args(Task):
            raise ValueError(f"task: must be one of {', '.join(get_args(Task))}, received {task!r}")
        self.task: Task = task
        self.version = hashlib.sha256(repr((task, *_CONSTANTS)).encode()).hexdigest()[:16]
        self.n_ignored, self.n_resets = 0, 0
        self._kind: Classes | Numbers = Classes(positive=positive) if task == "classification" else Numbers()
        self._columns = Columns()
        self._waiting = Waiting(np.ones((0, 1), np.float32), np.zeros(0))
        self._begin()

    def _begin(self) -> None:
        self.n_learnt = 0
        self._kind.forget()
        self._memory = Memory(N_FREQUENCIES + len(self._columns.of_names), self._kind.n_first_targets)
        self._losses = np.zeros(self._kind.n_guesses)
        self._choose()

    def score_and_learn(
        self, names: Sequence[str], z: NDArray[np.floating], labels: Sequence[Any]
    ) -> OnlineScores:
        """Answer for each event what the labels before it say, then learn its own.

        Parameters
        ----------
        names : sequence of str, length n_features
            Of the columns, in any order, which may be another one in the next call.
        z : ndarray, shape (n, n_features), float
            Normalised features in standard deviations, NaN where missing.
        labels : sequence of str, float or None, length n
            Classes in canonical form (`compute/labels.py`), or numbers; None where there is no label.

        Returns
        -------
        OnlineScores

        Raises
        ------
        ValueError
            If shapes do not fit, or a name comes twice.
        """
        _check(names, z, len(labels))
        targets, n_ignored = self._kind.read(labels)
        self.n_ignored += n_ignored
        met_at = self._columns.meet(names, z, ~np.isnan(targets))
        self._waiting.widen(len(met_at))
        return self._walk(self._columns.align(names, z), targets, met_at)

    def score(self, names: Sequence[str], z: NDArray[np.floating]) -> OnlineScores:
        """Answer and learn nothing; parameters are those of `score_and_learn`."""
        _check(names, z, len(z))
        return self._walk(self._columns.align(names, z), np.full(len(z), np.nan), [])

    def learn(self, names: Sequence[str], z: NDArray[np.floating], labels: Sequence[Any]) -> None:
        """Learn from events that were answered before; parameters are those of `score_and_learn`."""
        self.score_and_learn(names, z, labels)

    def _walk(self, rows: Rows, targets: Floats, met_at: list[int]) -> OnlineScores:
        """Go through a batch from one end of a block to the next; new names were met at some of its rows."""
        labelled = np.flatnonzero(~np.isnan(targets))
        n_met = len(self._columns.names) - len(met_at)
        chosen = self._kind.blank(len(rows))
        silent: Flags | None = None
        start = n_taken = 0
        while start < len(rows):
            n_missing = self._block_size - self._waiting.n
            taken = labelled[n_taken : n_taken + n_missing]
            n_taken += len(taken)
            ends = len(taken) == n_missing
            stop = int(taken[-1]) + 1 if ends else len(rows)
            part = slice(start, stop)
            block, self._kind.offsets = self._guess(rows[part], targets[part], self._kind.offsets)
            if self.n_learnt:
                best = block.guesses[:, self._best].T
                np.multiply(best, self._kind.sharpness, out=chosen[: len(best), part])
            else:
                silent = np.zeros(len(rows), np.bool_) if silent is None else silent
                silent[part] = True
            if self._waiting.n or len(taken) < stop - start or not ends:
                self._waiting.add(rows[taken], targets[taken])
                if ends:
                    waited = self._waiting
                    block, _ = self._guess(waited.rows, waited.targets, self._kind.first_offsets)
            if ends:
                self._learn(block, n_met + sum(row < stop for row in met_at))
                self._waiting.n = 0
            start = stop
        answers = self._kind.answer(chosen)
        return answers if silent is None else replace(answers, silent=silent)

    def _guess(self, rows: Rows, targets: Floats, offsets: Any) -> tuple[_Block, Any]:
        of_names = self._columns.of_names
        lifted = lift(rows[:, : len(of_names)], of_names)
        guesses, bounded, after = self._kind.guess(self._memory.predict(lifted), targets, offsets)
        return _Block(rows, bounded, lifted, guesses), after

    def _learn(self, block: _Block, n_names: int) -> None:
        """Learn a block, at the end of which so many names have been met."""
        kind, memory, lifted, guesses = self._kind, self._memory, block.lifted, block.guesses
        n_targets = kind.n_targets(block.targets, memory.mean.shape[1])
        spread = kind.spread(block.targets, n_targets)
        if self.n_learnt:
            # What was not known as a class was guessed as 0.
            if n_targets > guesses.shape[2]:
                guesses = np.pad(guesses, ((0, 0), (0, 0), (0, n_targets - guesses.shape[2])))
            errors = guesses - spread[:, None]
            self._losses *= np.exp(-len(errors) / RECENT_LABELS)
            self._losses += np.einsum("igk,igk->g", errors, errors)
            kind.judge(guesses[:, self._best], spread)
        if self._columns.count(n_names):
            of_names = self._columns.of_names
            lifted = lift(block.rows[:, : len(of_names)], of_names)
        memory.grow(lifted.shape[1], n_targets)
        if not memory.learn(lifted, spread):
            self.n_resets += 1
            self._begin()
            return
        kind.learn(lifted, spread, memory)
        self.n_learnt += len(lifted)
        self._choose()

    def _choose(self) -> None:
        """Take the guess with the smallest recent error, and the next block's size."""
        self._best = best = int(np.argmin(self._losses))
        n_recent = -RECENT_LABELS * np.expm1(-self.n_learnt / RECENT_LABELS)
        self._kind.expect(best, float(np.sqrt(self._losses[best] / max(n_recent, 1.0))))
        of_short_memory = best % self._kind.n_sources == SHORT
        is_changing = of_short_memory and self._losses[best] < CHANGING_ERROR * self._losses[best - 1]
        self._block_size = block_size(self.n_learnt, bool(is_changing))

    def encode(self) -> bytes:
        """Return the stored form, which `decode` reads."""
        return encode_state(
            OnlineState(
                version=self.version,
                task=self.task,
                n_learnt=self.n_learnt,
                n_ignored=self.n_ignored,
                n_resets=self.n_resets,
                names=tuple(self._columns.names),
                n_present=tuple(self._columns.n_present),
                classes=tuple(self._kind.names),
                gram=self._memory.gram,
                moment=self._memory.moment,
                losses=self._losses,
                packed=self._kind.pack(),
                waiting_rows=self._waiting.rows,
                waiting_targets=self._waiting.targets,
            )
        )

    @classmethod
    def decode(cls, stored: bytes, positive: str = "") -> OnlineLearner:
        """Return the learner that `encode` stored: it answers and learns on to the bit.

        `positive` is as for a new one.

        Raises
        ------
        ValueError
            If the bytes are no stored learner, or one of another version.
        """
        state = decode_state(stored, {task: cls(task).version for task in get_args(Task)})
        learner = cls(state.task, positive)
        learner.n_learnt, learner.n_ignored = state.n_learnt, state.n_ignored
        learner.n_resets = state.n_resets
        learner._columns = Columns(state.names, state.n_present)
        learner._waiting = Waiting(state.waiting_rows, state.waiting_targets)
        if state.task == "classification":
            learner._kind = Classes(state.classes, positive)
        learner._memory = Memory.of(state.gram, state.moment)
        if state.n_learnt and not learner._memory.solve():
            raise ValueError("gram, moment: must be sums of products, from which weights follow")
        learner._kind.unpack(state.packed, learner._memory)
        learner._losses = state.losses
        learner._choose()
        if learner._waiting.n >= learner._block_size:
            raise ValueError(
                f"waiting: must be fewer than a block of {learner._block_size}, received {learner._waiting.n}"
            )
        return learner


class _Block(NamedTuple):
    rows: Rows
    targets: Floats
    lifted: Rows
    guesses: Floats


def _check(names: Sequence[str], z: NDArray[np.floating], n_labels: int) -> None:
    if z.ndim != 2 or z.shape[1] != len(names):
        raise ValueError(f"z: must have shape (n, {len(names)}) as there are names, received {z.shape}")
    if n_labels != len(z):
        raise ValueError(f"labels: must have {len(z)} items as z has rows, received {n_labels}")
    if len(set(names)) != len(names):
        raise ValueError(f"names: must differ, received {list(names)}")
