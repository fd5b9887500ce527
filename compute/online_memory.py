"""Least squares that forgets: what the online learner knows, for a long and a short memory.

Owns the sums of products of features and targets, and the weights that follow from them. Sums fade, so that
the last labels count most; each memory has its own time. Weights are those of ridge regression on the faded
sums (recursive least squares with exponential forgetting; Haykin, Adaptive Filter Theory, chapter 10). They
are solved anew at each block's end and not updated: rounding does not add up, and where nothing is known any
more the ridge is left, and no covariance that grows without bound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

from compute.moments import Floats
from compute.online_features import N_FREQUENCIES, Rows

MEMORIES = (10_000.0, 500.0)
"""Labels after which a label counts for 1/e: a long memory errs less while nothing changes, a short one is
right again soon after a change."""

SHORT = 1
"""Which of them is the short one; the long one comes right before it."""

RIDGE = 3.0

INTERCEPT = N_FREQUENCIES
"""Column of the feature that is 1."""


class Memory:
    """Sums and weights of each memory, for targets side by side.

    Parameters
    ----------
    n_columns, n_targets : int

    Attributes
    ----------
    gram : ndarray, shape (n_memories, n_columns, n_columns), float32
        Faded sums of products of features. Its rounding is far below the ridge, and it is most of the state.
    moment : ndarray, shape (n_memories, n_columns, n_targets), float64
        Faded sums of products of features and targets.
    weights : ndarray, shape (n_columns, n_memories * n_targets), float32
        Of the deviation from the mean in units of `scale`; these three follow from the sums.
    scale, mean : ndarray, shape (n_memories, n_targets), float64
        The ridge draws what is predicted to the mean, instead of to 0.
    """

    def __init__(self, n_columns: int, n_targets: int) -> None:
        n = len(MEMORIES)
        self.gram = np.zeros((n, n_columns, n_columns), np.float32)
        self.moment = np.zeros((n, n_columns, n_targets))
        self.weights = np.zeros((n_columns, n * n_targets), np.float32)
        self.scale, self.mean = np.ones((n, n_targets)), np.zeros((n, n_targets))

    def predict(self, lifted: Rows) -> Floats:
        """Return what each memory says.

        Parameters
        ----------
        lifted : ndarray, shape (n, n_columns), float32

        Returns
        -------
        ndarray, shape (n, n_memories, n_targets), float64
        """
        said: Floats = (lifted @ self.weights).reshape(len(lifted), *self.mean.shape) * self.scale
        said += self.mean
        return said

    def learn(self, lifted: Rows, targets: NDArray[np.floating]) -> bool:
        """Add a block of labelled events and find the weights; tell whether there are any.

        Parameters
        ----------
        lifted : ndarray, shape (m, n_columns), float32
        targets : ndarray, shape (m, n_targets)
        """
        kept = np.exp(-len(lifted) / np.array(MEMORIES))[:, None, None]
        self.gram *= kept.astype(np.float32)
        self.gram += lifted.T @ lifted
        self.moment *= kept
        self.moment += lifted.T @ targets
        return self.solve()

    def solve(self) -> bool:
        """Find the weights that follow from the sums; tell whether these are sums of anything."""
        sums = self.gram[:, INTERCEPT].astype(np.float64)
        if not (sums[:, INTERCEPT] > 0.0).all():
            return False
        self.mean = self.moment[:, INTERCEPT] / sums[:, INTERCEPT, None]
        right = self.moment - sums[:, :, None] * self.mean[:, None]
        left = self.gram.astype(np.float64)
        left.reshape(len(left), -1)[:, :: left.shape[1] + 1] += RIDGE
        for i in range(len(left)):
            # Its transpose is the same matrix, in the order of LAPACK, which then works in place.
            _, right[i], failed = dposv(left[i].T, right[i], lower=1, overwrite_a=1)
            if failed:
                return False
        self.scale = np.abs(right).max(axis=1, initial=1e-300)
        weights = (right / self.scale[:, None]).transpose(1, 0, 2).reshape(left.shape[1], -1)
        self.weights = weights.astype(np.float32)
        return bool(np.isfinite(self.scale).all())

    def grow(self, n_columns: int, n_targets: int) -> None:
        """Make room for features and targets that were 0 until now; `learn` finds their weights."""
        before = self.moment.shape
        more_columns, more_targets = (0, n_columns - before[1]), (0, n_targets - before[2])
        if more_columns[1] or more_targets[1]:
            self.gram = np.pad(self.gram, ((0, 0), more_columns, more_columns))
            self.moment = np.pad(self.moment, ((0, 0), more_columns, more_targets))

    @classmethod
    def of(cls, gram: Rows, moment: Floats) -> Memory:
        """Return a memory of sums; `solve` finds its weights."""
        memory = cls(*moment.shape[1:])
        memory.gram, memory.moment = gram, moment
        return memory
