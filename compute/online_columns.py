"""The names of features that the online learner has met, as columns.

Owns which name has which column, and since when it counts. A name is met with the first labelled event that
has a value of it, and counts from the end of that event's block on, which is the same however events are
split into batches. Columns never change places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compute.moments import Flags
from compute.online_features import Rows, bend, frequencies

MAX_FEATURES = 256
"""Features that are learnt from; a name that comes later is passed over."""

MAX_NAME_BYTES = 1_024


class Columns:
    """Names of features in the order in which they were met.

    Parameters
    ----------
    names : sequence of str
        All that were met.
    n_present : sequence of int
        Of each that counts, the first of the names: how many counted once it did.

    Attributes
    ----------
    names : list of str
    n_present : list of int
    of_names : ndarray, shape (1 + number that count, N_FREQUENCIES), float32
        Phases and frequencies.
    """

    def __init__(self, names: Sequence[str] = (), n_present: Sequence[int] = ()) -> None:
        self.names, self.n_present = list(names), list(n_present)
        self._place = {name: place for place, name in enumerate(self.names)}
        self.of_names = frequencies(self.names[: len(self.n_present)], self.n_present)

    def meet(self, names: Sequence[str], z: NDArray[np.floating], labelled: Flags) -> list[int]:
        """Add the names that labelled rows bring; return the row of each, in order."""
        met = []
        for i, name in enumerate(names):
            if name not in self._place:
                there = np.flatnonzero(labelled & ~np.isnan(z[:, i]))
                if len(there) and is_storable(name, MAX_NAME_BYTES):
                    met.append((int(there[0]), name))
        met = sorted(met)[: MAX_FEATURES - len(self.names)]
        for _, name in met:
            self._place[name] = len(self.names)
            self.names.append(name)
        return [row for row, _ in met]

    def count(self, n_names: int) -> bool:
        """Let the first names count; tell whether more do than before."""
        n_new = n_names - len(self.n_present)
        if n_new > 0:
            self.n_present += [n_names] * n_new
            self.of_names = frequencies(self.names[:n_names], self.n_present)
        return n_new > 0

    def align(self, names: Sequence[str], z: NDArray[np.floating]) -> Rows:
        """Return 1 and the bent features of each row, in the order of the columns; 0 where there is none."""
        theirs = [i for i, name in enumerate(names) if name in self._place]
        ours = [1 + self._place[names[i]] for i in theirs]
        rows = np.zeros((len(z), 1 + len(self.names)), np.float32)
        rows[:, 0] = 1.0
        if ours == list(range(1, 1 + len(names))):  # nearly always, and twice as fast
            rows[:, 1 : 1 + len(names)] = bend(z)
        elif ours:
            rows[:, ours] = bend(z[:, theirs])
        return rows


def is_storable(name: str, max_bytes: int) -> bool:
    r"""Tell whether a name can be part of the stored state.

    Examples
    --------
    >>> is_storable("temperature", 1000), is_storable("\ud800", 1000)
    (True, False)
    """
    try:
        return len(name.encode()) <= max_bytes
    except UnicodeEncodeError:
        return False
