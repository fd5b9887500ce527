"""The state of a partition's entities as columns.

Owns the arrays and every change to them. What the numbers are is computed in `compute/statistics.py`, their
stored form in `compute/state_codec.py`; which key has which slot is known to the table.

`EntityColumns` is the one mutable thing here: copying a partition's state for each batch would cost more than
the batch. Pure functions read it, and return a `Learnt` or `EntityState` that its methods write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compute.moments import Floats, Integers, Moments, merge_by, no_moments
from compute.panes import EMPTY


@dataclass(frozen=True)
class Learnt:
    """What a batch changes: r entities, c panes that are forgotten, g panes that grow.

    Attributes
    ----------
    slots, newest, seen, last_offset : ndarray, shape (r,), int64
        The entities, and their new values.
    window_events : ndarray, shape (r,), float64
    window : Moments of shape (r, n_features)
        All panes of each entity merged.
    forgotten : ndarray, shape (c,), int64
        Panes to empty, as `slot * n_panes + position`.
    panes, n_events : ndarray, shape (g,), int64 and float64
        Panes that grow, in the same form, and their new number of events; written after `forgotten`.
    moments : Moments of shape (g, n_features)
    minimum, maximum : ndarray, shape (g, n_features), float64
    """

    slots: Integers
    newest: Integers
    seen: Integers
    last_offset: Integers
    window_events: Floats
    window: Moments
    forgotten: Integers
    panes: Integers
    n_events: Floats
    moments: Moments
    minimum: Floats
    maximum: Floats


@dataclass(frozen=True)
class EntityState:
    """State of one entity by itself: p panes that hold events, oldest first.

    Attributes
    ----------
    features : tuple of str
        Names of the columns of `moments`, `minimum` and `maximum`.
    n_panes : int
        Panes in the ring.
    pane_seconds : float
    newest, seen, last_offset : int
    panes : ndarray, shape (p,), int64
        Indices of the panes.
    n_events : ndarray, shape (p,), float64
    moments : Moments of shape (p, n_features)
    minimum, maximum : ndarray, shape (p, n_features), float64
    extra : bytes
        What others keep with the entity.
    """

    features: tuple[str, ...]
    n_panes: int
    pane_seconds: float
    newest: int
    seen: int
    last_offset: int
    panes: Integers
    n_events: Floats
    moments: Moments
    minimum: Floats
    maximum: Floats
    extra: bytes = b""


class EntityColumns:
    """Rings of panes of many entities, one slot each.

    Parameters
    ----------
    n_panes : int
        Panes in a ring, at least 1.
    pane_seconds : float
        Length of a pane.
    features : sequence of str
        Names of the features, in the order of the matrix that `score_and_learn` gets.
    n_slots : int
        Slots to begin with.

    Attributes
    ----------
    newest, seen, last_offset : ndarray, shape (n_slots,), int64
        Newest pane (`EMPTY` if there is none), the partition's watermark at the last accepted event (same),
        and the highest offset (-1 if there is none).
    n_events : ndarray, shape (n_slots, n_panes), float64
    moments : Moments of shape (n_slots, n_panes, n_features)
    minimum, maximum : ndarray, shape (n_slots, n_panes, n_features), float64
        Infinity and minus infinity where a pane holds no value.
    window_events : ndarray, shape (n_slots,), float64
    window : Moments of shape (n_slots, n_features)
        All panes merged: kept, so that a batch need not read whole rings.

    Examples
    --------
    >>> columns = EntityColumns(n_panes=12, pane_seconds=300.0, features=("temperature",), n_slots=2)
    >>> columns.add_features(["pressure"])
    >>> columns.grow(3)
    >>> columns.moments.mean.shape
    (4, 12, 2)
    """

    def __init__(
        self, n_panes: int, pane_seconds: float, features: Sequence[str] = (), n_slots: int = 0
    ) -> None:
        if n_panes < 1:
            raise ValueError(f"n_panes: must be at least 1, received {n_panes}")
        if not pane_seconds > 0:
            raise ValueError(f"pane_seconds: must be above 0, received {pane_seconds}")
        self.n_panes = n_panes
        self.pane_seconds = pane_seconds
        self.features = tuple(features)
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"features: names must differ, received {list(self.features)}")
        self._allocate(n_slots)

    @property
    def n_slots(self) -> int:
        """Slots that there is room for."""
        return len(self.newest)

    @property
    def n_features(self) -> int:
        """Features, the columns of the matrix."""
        return len(self.features)

    def grow(self, n_slots: int, most: int | None = None) -> None:
        """Make room for `n_slots`; at least doubles, up to `most`, so growing one by one stays cheap."""
        if n_slots > self.n_slots:
            doubled = 2 * self.n_slots if most is None else min(2 * self.n_slots, most)
            self._rebuild(max(n_slots, doubled), self.features)

    def add_features(self, names: Sequence[str]) -> None:
        """Append features, of which no entity has values yet; known names are left out."""
        new = tuple(dict.fromkeys(name for name in names if name not in self.features))
        if new:
            self._rebuild(self.n_slots, self.features + new)

    def clear(self, slots: Integers) -> None:
        """Empty slots, so that other entities can have them."""
        self.newest[slots] = EMPTY
        self.seen[slots] = EMPTY
        self.last_offset[slots] = -1
        self.window_events[slots] = 0.0
        for part in self.window:
            part[slots] = 0.0
        self._empty((np.asarray(slots)[:, None] * self.n_panes + np.arange(self.n_panes)).ravel())

    def assign(self, learnt: Learnt) -> None:
        """Write what a batch changed."""
        slots = learnt.slots
        self.newest[slots] = learnt.newest
        self.seen[slots] = learnt.seen
        self.last_offset[slots] = learnt.last_offset
        self.window_events[slots] = learnt.window_events
        for part, new in zip(self.window, learnt.window, strict=True):
            part[slots] = new
        if learnt.forgotten.size:
            self._empty(learnt.forgotten)
        self.n_events.reshape(-1)[learnt.panes] = learnt.n_events
        for part, new in zip(
            (*self.moments, self.minimum, self.maximum),
            (*learnt.moments, learnt.minimum, learnt.maximum),
            strict=True,
        ):
            self._rows(part)[learnt.panes] = new

    def put(self, slots: Sequence[int], states: Sequence[EntityState]) -> None:
        """Replace what slots hold by stored states; features that are new become columns.

        Raises
        ------
        ValueError
            If a state was kept with other panes than these.
        """
        for state in states:
            for name, wanted in (("n_panes", self.n_panes), ("pane_seconds", self.pane_seconds)):
                received = getattr(state, name)
                if received != wanted:
                    raise ValueError(
                        f"{name}: the stored state must have {wanted} as configured, received {received}; "
                        "configure the old window or start with empty state"
                    )
        self.add_features([name for features in {s.features: None for s in states} for name in features])
        where = np.asarray(slots, np.int64)
        self.clear(where)
        self.newest[where] = [state.newest for state in states]
        self.seen[where] = [state.seen for state in states]
        self.last_offset[where] = [state.last_offset for state in states]
        by_features: dict[tuple[str, ...], list[int]] = {}
        for i, state in enumerate(states):
            by_features.setdefault(state.features, []).append(i)
        for features, members in by_features.items():
            chosen = [states[i] for i in members]
            n_held = [len(state.panes) for state in chosen]
            slot = np.repeat(where[members], n_held)
            position = np.concatenate([state.panes for state in chosen]) % self.n_panes
            self.n_events[slot, position] = np.concatenate([state.n_events for state in chosen])
            order = np.array([self.features.index(name) for name in features], np.int64)
            index = (slot[:, None], position[:, None], order)
            for i, part in enumerate(self.moments):
                part[index] = np.concatenate([state.moments[i] for state in chosen])
            self.minimum[index] = np.concatenate([state.minimum for state in chosen])
            self.maximum[index] = np.concatenate([state.maximum for state in chosen])
        self._merge_windows(where)

    def _merge_windows(self, slots: Integers) -> None:
        owner, position = np.nonzero(self.n_events[slots])
        held = slots[owner] * self.n_panes + position
        self.window_events[slots] = self.n_events[slots].sum(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            merged = merge_by(self.pane_moments(held), owner, len(slots))
        for part, new in zip(self.window, merged, strict=True):
            part[slots] = new

    def pane_moments(self, panes: Integers) -> Moments:
        """Return a copy of the moments of panes, given as `slot * n_panes + position`."""
        return Moments(*(self._rows(part).take(panes, axis=0) for part in self.moments))

    def pane_extremes(self, panes: Integers) -> tuple[Floats, Floats]:
        """Return copies of the smallest and largest values of panes, given in the same form."""
        return self._rows(self.minimum).take(panes, axis=0), self._rows(self.maximum).take(panes, axis=0)

    def _empty(self, panes: Integers) -> None:
        self.n_events.reshape(-1)[panes] = 0.0
        for part in self.moments:
            self._rows(part)[panes] = 0.0
        self._rows(self.minimum)[panes] = np.inf
        self._rows(self.maximum)[panes] = -np.inf

    def _rows(self, array: Floats) -> Floats:
        """Return one row for each pane; -1 would be ambiguous where there is no feature."""
        return array.reshape(self.n_slots * self.n_panes, self.n_features)

    def _allocate(self, n_slots: int) -> None:
        shape = (n_slots, self.n_panes, self.n_features)
        self.newest = np.full(n_slots, EMPTY, np.int64)
        self.seen = np.full(n_slots, EMPTY, np.int64)
        self.last_offset = np.full(n_slots, -1, np.int64)
        self.n_events = np.zeros(shape[:2])
        self.moments = Moments(*(np.zeros(shape) for _ in Moments._fields))
        self.minimum = np.full(shape, np.inf)
        self.maximum = np.full(shape, -np.inf)
        self.window_events = np.zeros(n_slots)
        self.window = no_moments(n_slots, self.n_features)

    def _rebuild(self, n_slots: int, features: tuple[str, ...]) -> None:
        before = (self.newest, self.seen, self.last_offset, self.n_events, self.window_events)
        before_features = [*self.moments, *self.window, self.minimum, self.maximum]
        old_slots, old_features = self.n_slots, self.n_features
        self.features = features
        self._allocate(n_slots)
        after = (self.newest, self.seen, self.last_offset, self.n_events, self.window_events)
        after_features = (*self.moments, *self.window, self.minimum, self.maximum)
        for new, old in zip(after, before, strict=True):
            new[:old_slots] = old
        for new in after_features:
            # Each is let go once it is copied: new arrays of zeros take no memory before they are written.
            new[:old_slots, ..., :old_features] = before_features.pop(0)
