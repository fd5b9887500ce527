"""The classes that an evaluation knows, by number.

Owns which classes there are and in which order: the model's own, then those that labels or predictions name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from compute.labels import canonical_class
from compute.moments import Integers

MAX_CLASSES = 100
"""Classes told apart. What comes after them is one class, `OTHER`: labels are an input, state is bounded."""

OTHER = "other..."

STRIDE = 128
"""Above every code of a class, so that two codes fit one number: `label * STRIDE + prediction`."""


class ClassNames:
    """Classes in the order in which they came up.

    Parameters
    ----------
    names : iterable of str
        Those that are known from the start, in canonical form (`compute/labels.py`).

    Examples
    --------
    >>> classes = ClassNames(["ham", "spam"])
    >>> classes.codes(["spam", "eggs", "ham"]).tolist(), classes.names
    ([1, 2, 0], ['ham', 'spam', 'eggs'])
    """

    def __init__(self, names: Iterable[str] = ()):
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        self.codes(names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def overflowed(self) -> bool:
        """Whether there are more classes than are told apart."""
        return OTHER in self._codes

    def codes(self, names: Iterable[Any]) -> Integers:
        """Return the number of each class; one that was never seen is added.

        Parameters
        ----------
        names : iterable of n str
            Others are put into canonical form first, which takes its time.

        Returns
        -------
        ndarray, shape (n,), int64

        Raises
        ------
        ValueError
            If one is no class.
        """
        names = names.tolist() if isinstance(names, np.ndarray) else list(names)
        known = list(map(self._codes.get, names))
        if None in known:
            known = list(map(self._code, names))
        return np.array(known, np.int64)

    def _code(self, name: Any) -> int:
        known = self._codes.get(name)
        if known is not None:
            return known
        canonical = canonical_class(name)
        if canonical != name:
            return self._code(canonical)
        if len(self.names) >= MAX_CLASSES and canonical != OTHER:
            return self._code(OTHER)
        self._codes[canonical] = len(self.names)
        self.names.append(canonical)
        return self._codes[canonical]
