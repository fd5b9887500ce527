"""What a window holds at a moment within a batch.

Owns epochs: stretches of an entity's events that meet a ring with the same newest pane. Within an epoch no
pane is forgotten, so what an event meets is the window's content at the epoch's start plus the epoch's events
before it. The content at the start is put together from panes that were there before the batch and from
groups of the batch itself, for all epochs at once: an entity whose every event opens a new pane costs one
gather of a ring per event and no Python loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compute.arrival import Arrival
from compute.entity_columns import EntityColumns
from compute.moments import Flags, Floats, Integers, Moments, merge_by, summarise
from compute.panes import EMPTY, panes_in_ring

_MAX_PARTS = 2**17
"""Parts merged at a time: bounds memory, at 32 bytes a part and feature, where rings are long."""


@dataclass(frozen=True)
class Epochs:
    """Epochs of a batch, e of them, over the m events that are not late.

    Attributes
    ----------
    starts, n_events : ndarray, shape (e,), int64
        First event and number of events.
    run, newest : ndarray, shape (e,), int64
        Run of `Arrival` and newest pane.
    life : ndarray, shape (e,), int64
        Epochs share a number if no reset of the ring lies between them and they are of the same run.
    first_of_life : ndarray, shape (e,), int64
        First epoch with the same life.
    continues : ndarray, shape (e,), bool
        The ring still has what was in it before the batch.
    of_event : ndarray, shape (m,), int64
        Epoch of each event.
    """

    starts: Integers
    n_events: Integers
    run: Integers
    newest: Integers
    life: Integers
    first_of_life: Integers
    continues: Flags
    of_event: Integers


@dataclass(frozen=True)
class Groups:
    """Learnt events of a batch by epoch and pane, in the order of epochs; g groups.

    Attributes
    ----------
    epoch, pane : ndarray, shape (g,), int64
    n_events : ndarray, shape (g,), float64
    moments : Moments of shape (g, n_features)
    minimum, maximum : ndarray, shape (g, n_features), float64
    """

    epoch: Integers
    pane: Integers
    n_events: Floats
    moments: Moments
    minimum: Floats
    maximum: Floats

    def take(self, rows: Integers) -> Groups:
        """Return the groups at `rows`."""
        return Groups(
            self.epoch.take(rows),
            self.pane.take(rows),
            self.n_events.take(rows),
            self.moments.take(rows),
            self.minimum.take(rows, axis=0),
            self.maximum.take(rows, axis=0),
        )


def split_epochs(run: Integers, newest: Integers, fresh: Flags) -> Epochs:
    """Return the epochs of events that are grouped by run.

    Examples
    --------
    >>> run, newest = np.array([0, 0, 0, 1]), np.array([5, 5, 6, 5])
    >>> epochs = split_epochs(run, newest, fresh=np.array([True, False, False, False]))
    >>> epochs.starts.tolist(), epochs.life.tolist(), epochs.continues.tolist()
    ([0, 2, 3], [0, 0, 1], [False, False, True])
    """
    begins_life = fresh.copy()
    begins_life[0] = True
    begins_life[1:] |= run[1:] != run[:-1]
    begins = begins_life.copy()
    begins[1:] |= newest[1:] != newest[:-1]
    starts = np.flatnonzero(begins)
    n_events = np.diff(np.r_[starts, len(run)])
    life = np.cumsum(begins_life.take(starts)) - 1
    life_starts = np.flatnonzero(begins_life.take(starts))
    return Epochs(
        starts=starts,
        n_events=n_events,
        run=run.take(starts),
        newest=newest.take(starts),
        life=life,
        first_of_life=life_starts.take(life),
        continues=~fresh.take(starts.take(life_starts)).take(life),
        of_event=np.repeat(np.arange(len(starts)), n_events),
    )


def group_learnt(
    epochs: Epochs, panes: Integers, learnt: Flags | None, values: Floats, valid: Flags | None, n_panes: int
) -> Groups:
    """Return the events to learn by epoch and pane.

    Parameters
    ----------
    epochs : Epochs
    panes : ndarray, shape (m,), int64
    learnt : ndarray, shape (m,), bool, or None
        Which events are to be learnt; None says all.
    values, valid : ndarray, shape (m, n_features), float64 and bool
        As for `summarise`.
    n_panes : int
        Panes in a ring.

    Returns
    -------
    Groups
    """
    behind = epochs.newest.take(epochs.of_event) - panes
    if (
        learnt is None and not behind.any()
    ):  # nearly always: each epoch is one group, and the events lie in order
        moments, minimum, maximum = summarise(values, epochs.starts, epochs.n_events, valid)
        every = np.arange(len(epochs.starts))
        return Groups(every, epochs.newest, epochs.n_events.astype(np.float64), moments, minimum, maximum)
    rows = np.arange(len(panes)) if learnt is None else np.flatnonzero(learnt)
    if not rows.size:
        none = np.zeros((0, values.shape[1]))
        nothing = np.zeros(0, np.int64)
        return Groups(nothing, nothing, np.zeros(0), Moments(none, none, none, none), none, none)
    keys = epochs.of_event.take(rows) * n_panes + behind.take(rows)
    order = np.argsort(keys, kind="stable")
    rows, keys = rows.take(order), keys.take(order)
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    n_events = np.diff(np.r_[starts, len(keys)])
    valid = None if valid is None else valid.take(rows, axis=0)
    moments, minimum, maximum = summarise(values.take(rows, axis=0), starts, n_events, valid)
    epoch = keys.take(starts) // n_panes
    pane = panes.take(rows.take(starts))
    return Groups(epoch, pane, n_events.astype(np.float64), moments, minimum, maximum)


def content_at_start(
    columns: EntityColumns, arrival: Arrival, epochs: Epochs, groups: Groups
) -> tuple[Floats, Moments]:
    """Return what each epoch's window holds before its first event.

    Returns
    -------
    ndarray, shape (e,), float64
        Number of events.
    Moments of shape (e, n_features)
    """
    before = arrival.newest_before.take(epochs.run)
    slots = arrival.slots.take(epochs.run)
    first = np.arange(len(epochs.starts)) == epochs.first_of_life
    moved = epochs.newest != before
    kept = first & epochs.continues & ~moved
    n_events, moments = columns.window_events.take(slots), columns.window.take(slots)
    if kept.all():
        return n_events, moments
    others = np.flatnonzero(~kept)
    # A ring that starts empty, as that of a new entity, has nothing to put together.
    n_events[others] = 0.0
    for part in moments:
        part[others] = 0.0
    hard = np.flatnonzero(~kept & (epochs.continues & (before != EMPTY) | ~first))
    # Each epoch of a life moves on by one pane or more, so what is in the window is n_panes - 1 epochs back
    # at most.
    group_starts = np.searchsorted(groups.epoch, np.arange(len(epochs.starts) + 1))
    oldest = np.maximum(epochs.first_of_life.take(hard), hard - columns.n_panes + 1)
    from_group, to_group = group_starts.take(oldest), group_starts.take(hard)
    n_parts = np.cumsum(to_group - from_group + columns.n_panes)
    first_hard = 0
    while first_hard < len(hard):
        done = int(n_parts[first_hard - 1]) if first_hard else 0
        end = max(int(np.searchsorted(n_parts, done + _MAX_PARTS, side="right")), first_hard + 1)
        chunk = slice(first_hard, end)
        rows = hard[chunk]
        held_owner, held = _panes_before(columns, slots.take(rows), before.take(rows), epochs, rows)
        owner, group = _ranges(from_group[chunk], to_group[chunk])
        inside = groups.pane.take(group) > epochs.newest.take(rows.take(owner)) - columns.n_panes
        owner, group = owner[inside], group[inside]
        owners = np.concatenate([held_owner, owner])
        parts, events = columns.pane_moments(held), columns.n_events.reshape(-1).take(held)
        if group.size:
            pairs = zip(parts, groups.moments.take(group), strict=True)
            parts = Moments(*(np.concatenate(pair) for pair in pairs))
            events = np.concatenate([events, groups.n_events.take(group)])
        n_events[rows] = np.bincount(owners, events, minlength=len(rows))
        for part, new in zip(moments, merge_by(parts, owners, len(rows)), strict=True):
            part[rows] = new
        first_hard = end
    return n_events, moments


def _panes_before(
    columns: EntityColumns, slots: Integers, before: Integers, epochs: Epochs, rows: Integers
) -> tuple[Integers, Integers]:
    """Return the panes from before the batch in the windows of the epochs `rows`, and which of `rows`."""
    there = columns.n_events.take(slots, axis=0) > 0
    there &= panes_in_ring(before, columns.n_panes) > (epochs.newest.take(rows) - columns.n_panes)[:, None]
    there &= epochs.continues.take(rows)[:, None]
    owner, position = np.nonzero(there)
    return owner, slots.take(owner) * columns.n_panes + position


def _ranges(starts: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """Return all integers of the ranges from starts to ends, and which range each is of."""
    lengths = ends - starts
    owner = np.repeat(np.arange(len(starts)), lengths)
    return owner, np.arange(len(owner)) - (np.cumsum(lengths) - lengths - starts).take(owner)
