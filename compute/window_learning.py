"""What a batch teaches: panes that grow, panes that are forgotten, and the windows after it.

Owns the new state as a `Learnt`. Writing it is up to `EntityColumns.assign`.
"""

from __future__ import annotations

import numpy as np

from compute.arrival import Arrival
from compute.entity_columns import EntityColumns, Learnt
from compute.moments import Floats, Integers, Moments, merge, merge_by
from compute.panes import EMPTY, panes_in_ring
from compute.window_content import Epochs, Groups


def learn_groups(
    columns: EntityColumns,
    arrival: Arrival,
    epochs: Epochs,
    groups: Groups,
    n_events: Floats,
    content: Moments,
) -> Learnt:
    """Return the rings and windows after the batch."""
    n_panes, slots = columns.n_panes, arrival.slots
    before, after = arrival.newest_before, arrival.newest_after
    last = np.append(np.flatnonzero(epochs.run[1:] != epochs.run[:-1]), len(epochs.run) - 1)
    last_run = epochs.run.take(last)
    restarted = np.zeros(len(slots), np.bool_)
    restarted[last_run] = ~epochs.continues.take(last)

    # The whole window: what the last epoch began with, and what came in it.
    window_events, window = columns.window_events.take(slots), columns.window.take(slots)
    final = np.full(len(epochs.run), -1)
    final[last] = np.arange(len(last))
    owner = final.take(groups.epoch)
    if len(last) == len(groups.epoch) and (owner == np.arange(len(last))).all():
        came_events, came = groups.n_events, groups.moments
    else:
        rows = np.flatnonzero(owner >= 0)
        owner = owner.take(rows)
        came_events = np.zeros(len(last))
        np.add.at(came_events, owner, groups.n_events.take(rows))
        came = merge_by(groups.moments.take(rows), owner, len(last))
    window_events[last_run] = n_events.take(last) + came_events
    for part, new in zip(window, merge(content.take(last), came), strict=True):
        part[last_run] = new

    # The panes: those that left the ring are emptied, those that events fell into grow.
    moved = np.flatnonzero((restarted | (after != before)) & (before != EMPTY))
    left = panes_in_ring(before.take(moved), n_panes) <= (after.take(moved) - n_panes)[:, None]
    left |= restarted.take(moved)[:, None]
    left &= columns.n_events.take(slots.take(moved), axis=0) > 0
    run, position = np.nonzero(left)
    forgotten = slots.take(moved.take(run)) * n_panes + position

    group_run = epochs.run.take(groups.epoch)
    if len(last) < len(epochs.run):
        latest = np.zeros(len(slots), np.int64)
        latest[last_run] = epochs.life.take(last)
        inside = epochs.life.take(groups.epoch) == latest.take(group_run)
        inside &= groups.pane > after.take(group_run) - n_panes
        rows = np.flatnonzero(inside)
        groups, group_run = groups.take(rows), group_run.take(rows)
        groups, group_run = _one_group_a_pane(groups, group_run, n_panes)
    target = slots.take(group_run) * n_panes + groups.pane % n_panes
    old_events = columns.n_events.reshape(-1).take(target)
    old = columns.pane_moments(target)
    minimum, maximum = columns.pane_extremes(target)
    if moved.size:
        # What is about to be forgotten at these positions has no part in the panes that take their place.
        gone = restarted.take(group_run) | (groups.pane > before.take(group_run))
        old_events[gone] = 0.0
        for part in old:
            part[gone] = 0.0
        minimum[gone], maximum[gone] = np.inf, -np.inf
    return Learnt(
        slots=slots,
        newest=after,
        seen=arrival.seen,
        last_offset=arrival.last_offset,
        window_events=window_events,
        window=window,
        forgotten=forgotten,
        panes=target,
        n_events=old_events + groups.n_events,
        moments=merge(old, groups.moments),
        minimum=np.minimum(minimum, groups.minimum),
        maximum=np.maximum(maximum, groups.maximum),
    )


def _one_group_a_pane(groups: Groups, run: Integers, n_panes: int) -> tuple[Groups, Integers]:
    """Merge groups of different epochs that go to the same pane; out-of-order events make such groups."""
    target = run * n_panes + groups.pane % n_panes
    order = np.argsort(target, kind="stable")
    ordered = target.take(order)
    begins = np.r_[True, ordered[1:] != ordered[:-1]]
    if begins.all():
        return groups, run
    starts = np.flatnonzero(begins)
    first = order.take(starts)
    owner = np.cumsum(begins) - 1
    parts = groups.take(order)
    merged = Groups(
        groups.epoch.take(first),
        groups.pane.take(first),
        np.add.reduceat(parts.n_events, starts),
        merge_by(parts.moments, owner, len(starts)),
        np.minimum.reduceat(parts.minimum, starts, axis=0),
        np.maximum.reduceat(parts.maximum, starts, axis=0),
    )
    return merged, run.take(first)
