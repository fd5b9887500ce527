"""Classes, as the online learner sees them: which there are, and how guesses become probabilities.

Owns the numbers of classes, in the order in which their labels came, and how sharp probabilities are. What
least squares guess of a class, 1 where it is and 0 elsewhere, is nearly its probability but knows no bounds.
A softmax of guesses times a sharpness does, and the sharpness is learnt from the log loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.labels import find_class
from compute.moments import Floats
from compute.online_answers import OnlineScores
from compute.online_columns import is_storable
from compute.online_features import Rows
from compute.online_memory import MEMORIES, Memory

MAX_CLASSES = 64
MAX_CLASS_BYTES = 1_000

FIRST_SHARPNESS, MIN_SHARPNESS, MAX_SHARPNESS = 4.0, 0.5, 100.0
"""4 is the slope that the logarithm of the odds has at even odds."""

FIRST_CURVATURE = 5.0
"""How much the first sharpness is believed, in the curvature of the log loss."""

SHARPNESS_LABELS = 2_000.0
"""Labels after which a label's part in the sharpness has faded to 1/e."""

_UNLABELLED, _IGNORED = -1.0, -2.0


class Classes:
    """Turns labels into targets, and guesses into answers.

    Parameters
    ----------
    names : sequence of str
        Known classes.
    positive : str
        The class whose probability is the score; empty: the last one in sorted order.

    Attributes
    ----------
    names : list of str
        By number; the labels of the last ones may be waiting for their block's end.
    positive : str
    sharpness : float
    curvature : float
        Of the log loss over the sharpness, summed up over recent labels.
    """

    n_guesses = n_sources = len(MEMORIES)

    n_first_targets = 0

    def __init__(self, names: Sequence[str] = (), positive: str = "") -> None:
        self.names, self.positive = list(names), positive
        self.offsets = self.first_offsets = None  # numbers have some
        self._codes: dict[Any, float] = {None: _UNLABELLED}
        self._codes.update({name: float(code) for code, name in enumerate(self.names)})
        self.forget()

    def forget(self) -> None:
        """Begin anew, with the classes that are known."""
        self.sharpness, self.curvature = FIRST_SHARPNESS, FIRST_CURVATURE

    def read(self, labels: Sequence[Any]) -> tuple[Floats, int]:
        """Return the number of each label's class, NaN without one, and how many labels are ignored.

        Ignored are those of more than `MAX_CLASSES` classes, those too long, and what is no string.
        """
        codes = self._codes
        try:
            found = np.array([codes[label] for label in labels], np.float64)
        except (KeyError, TypeError):
            found = np.array([self._code(label) for label in labels], np.float64)
        n_ignored = int(np.count_nonzero(found == _IGNORED))
        found[found < 0.0] = np.nan
        return found, n_ignored

    def _code(self, label: Any) -> float:
        if label is None:
            return _UNLABELLED
        if not isinstance(label, str):
            return _IGNORED
        if label not in self._codes:
            if len(self.names) >= MAX_CLASSES or not is_storable(label, MAX_CLASS_BYTES):
                return _IGNORED
            self._codes[label] = float(len(self.names))
            self.names.append(label)
        return self._codes[label]

    def n_targets(self, codes: Floats, n_before: int) -> int:
        """Return how many classes there are once these are learnt."""
        return max(n_before, int(codes.max()) + 1)

    def spread(self, codes: Floats, n_targets: int) -> NDArray[np.floating]:
        """Return 1 in the column of each class and 0 elsewhere."""
        hot = np.zeros((len(codes), n_targets), np.float32)
        hot[np.arange(len(codes)), codes.astype(np.intp)] = 1.0
        return hot

    def expect(self, best: int, error: float) -> None:
        """Take note of nothing: no class is far away."""

    def guess(self, said: Floats, targets: Floats, offsets: Any) -> tuple[Floats, Floats, Any]:
        """Return what the memories say and the labels, as they are."""
        return said, targets, offsets

    def judge(self, guesses: Floats, targets: NDArray[np.floating]) -> None:
        """Learn the sharpness from what was guessed of labelled events: a step of Newton's method.

        Parameters
        ----------
        guesses, targets : ndarray, shape (m, n_classes)
        """
        by_class = np.ascontiguousarray(guesses.T)
        weighted = softmax(by_class * self.sharpness)
        weighted *= by_class
        expected = weighted.sum(axis=0)
        slope = float(expected.sum() - np.vdot(guesses, targets))
        curvature = float(np.vdot(weighted, by_class) - np.vdot(expected, expected))
        self.curvature *= float(np.exp(-len(guesses) / SHARPNESS_LABELS))
        self.curvature += max(curvature, 0.0)
        sharper = self.sharpness - slope / max(self.curvature, 1e-3)
        self.sharpness = min(max(sharper, MIN_SHARPNESS), MAX_SHARPNESS)

    def learn(self, lifted: Rows, targets: NDArray[np.floating], memory: Memory) -> None:
        """Learn nothing beside the memories."""

    def blank(self, n: int) -> Floats:
        """Return what is chosen while no class is learnt."""
        return np.full((len(self.names), n), -np.inf)

    def answer(self, chosen: Floats) -> OnlineScores:
        """Return what events are predicted to be.

        Parameters
        ----------
        chosen : ndarray, shape (n_classes, n), float64
            Guesses times sharpness; minus infinity where a class was not learnt yet.
        """
        n_classes, n = chosen.shape
        if not n_classes or not n:
            nothing = np.zeros((n, n_classes))
            return OnlineScores(
                np.full(n, 0.5), [None] * n, nothing, tuple(self.names), self._positive_of(n_classes)
            )
        with np.errstate(invalid="ignore"):
            probabilities = softmax(chosen)
        predictions = np.array(self.names, object).take(probabilities.argmax(axis=0))
        # The first classes are learnt first; which one the score is of depends on how many there are.
        learnt = np.isfinite(chosen).sum(axis=0)
        positive = [self._positive_of(n or 1) for n in range(n_classes + 1)]
        scores = np.take_along_axis(probabilities, np.array(positive)[learnt][None], axis=0)[0]
        if learnt.min() < 2:
            scores[learnt < 2] = 0.5
            probabilities[:, learnt == 0], predictions[learnt == 0] = 0.0, None
        probabilities = np.ascontiguousarray(probabilities.T)
        return OnlineScores(scores, predictions.tolist(), probabilities, tuple(self.names), positive[-1])

    def _positive_of(self, n: int) -> int | None:
        """Return the class that the score is of when the first n are learnt."""
        learnt = self.names[:n]
        if not learnt:
            return None
        return learnt.index(find_class(self.positive, learnt) or max(learnt))

    def pack(self) -> Floats:
        """Return what is to be stored, as one vector."""
        return np.array([self.sharpness, self.curvature])

    @staticmethod
    def n_packed(n_columns: int) -> int:
        """Return the length of what is stored."""
        return 2

    def unpack(self, packed: Floats, memory: Memory) -> None:
        """Take what was stored.

        Raises
        ------
        ValueError
            If it cannot be what `pack` returned.
        """
        self.sharpness, self.curvature = packed.tolist()
        if not (MIN_SHARPNESS <= self.sharpness <= MAX_SHARPNESS and 0.0 <= self.curvature < 1e250):
            raise ValueError(f"sharpness, curvature: out of bounds, received {packed.tolist()}")


def softmax(guesses: Floats) -> Floats:
    """Return probabilities; what is guessed as minus infinity has none.

    Parameters
    ----------
    guesses : ndarray, shape (n_classes, n), float64

    Examples
    --------
    >>> softmax(np.array([[0.0, 0.0], [np.log(3.0), 0.0], [-np.inf, -np.inf]])).T.tolist()
    [[0.25, 0.75, 0.0], [0.5, 0.5, 0.0]]
    """
    risen: Floats = np.exp(guesses - guesses.max(axis=0))
    risen /= risen.sum(axis=0)
    return risen
