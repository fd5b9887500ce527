"""The last predictions of each entity in memory, for people who look one up.

A ring a slot, written by a few array operations a batch; a list per entity would cost the hot path more
than the prediction itself. It is a view's memory, not state: a restart empties it, the topic has it all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

N_RECENT = 10


class RecentPredictions:
    """The last `N_RECENT` predictions by slot.

    Examples
    --------
    >>> recent = RecentPredictions()
    >>> recent.grow(2)
    >>> recent.add(np.array([1, 1]), np.array([7, 9]), np.array([0.5, 1.5]), np.array([0.1, 0.9]),
    ...            [0, 1], np.array([False, False]), ("detector", "builtin-1"))
    >>> [(item["offset"], item["prediction"]) for item in recent.newest_first(1)]
    [(9, 1), (7, 0)]
    """

    def __init__(self) -> None:
        self._n_written = np.zeros(0, np.int64)
        self._offsets = np.zeros((0, N_RECENT), np.int64)
        self._timestamps = np.zeros((0, N_RECENT))
        self._scores = np.zeros((0, N_RECENT))
        self._predictions = np.empty((0, N_RECENT), object)
        self._warming_up = np.zeros((0, N_RECENT), np.bool_)
        self._sources = np.zeros((0, N_RECENT), np.int32)
        self._known_sources: list[tuple[str, str]] = []

    def grow(self, n_slots: int) -> None:
        """Make room for at least this many slots."""
        n_more = n_slots - len(self._n_written)
        if n_more <= 0:
            return
        for name, array in vars(self).items():
            if isinstance(array, np.ndarray):
                more = np.zeros((n_more, *array.shape[1:]), array.dtype)
                setattr(self, name, np.concatenate([array, more]))

    def clear(self, slots: NDArray[np.int64]) -> None:
        """Forget what slots held, for the entities that are given them next."""
        self._n_written[slots] = 0
        self._predictions[slots] = None

    def add(
        self,
        slots: NDArray[np.int64],
        offsets: NDArray[np.int64],
        timestamps: NDArray[np.float64],
        scores: NDArray[np.float64],
        predictions: Any,
        warming_up: NDArray[np.bool_],
        source: tuple[str, str],
    ) -> None:
        """Add predictions in the order of their events; `source` is model and version."""
        if not len(slots):
            return
        if not self._known_sources or self._known_sources[-1] != source:
            self._known_sources.append(source)
        order = np.argsort(slots, kind="stable")
        ordered = slots[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        n_each = np.diff(np.r_[starts, len(ordered)])
        rank = np.arange(len(ordered)) - np.repeat(starts, n_each)
        # Where a run is longer than the ring the later assignment stays, which is what is wanted.
        place = (ordered, (self._n_written[ordered] + rank) % N_RECENT)
        self._offsets[place] = offsets[order]
        self._timestamps[place] = timestamps[order]
        self._scores[place] = scores[order]
        values = np.empty(len(slots), object)
        values[:] = predictions.tolist() if isinstance(predictions, np.ndarray) else list(predictions)
        self._predictions[place] = values[order]
        self._warming_up[place] = warming_up[order]
        self._sources[place] = len(self._known_sources) - 1
        self._n_written[ordered[starts]] += n_each

    def newest_first(self, slot: int) -> list[dict[str, Any]]:
        """Return a slot's predictions, the newest first."""
        n_written = int(self._n_written[slot])
        found = []
        for i in range(n_written - 1, max(n_written - N_RECENT, 0) - 1, -1):
            place = (slot, i % N_RECENT)
            model, version = self._known_sources[self._sources[place]]
            found.append(
                {
                    "offset": int(self._offsets[place]),
                    "timestamp": float(self._timestamps[place]),
                    "model": model,
                    "version": version,
                    "prediction": self._predictions[place],
                    "score": float(self._scores[place]),
                    "warming_up": bool(self._warming_up[place]),
                }
            )
        return found
