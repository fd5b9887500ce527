"""Order of arrival: for each event of a batch, which ring it meets.

Owns what depends on order alone: grouping by entity, late and replayed events, how far each ring has moved
and where a silent entity starts anew. Values of features play no part here.

The rules, for the events of one entity in the order in which they arrive:

- An event at or below the entity's last offset is a replay. It changes nothing, and meets the ring as it is.
- An event that arrives when the partition's watermark is `n_panes` or more beyond the watermark at the
  entity's last accepted event finds an empty ring: the entity was silent for longer than the window.
- An event whose pane is `n_panes` or more behind the newest is late. It changes nothing but the last offset.
- Any other event is accepted, and its pane is the newest from now on if it lies ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compute.moments import Flags, Integers
from compute.panes import EMPTY


@dataclass(frozen=True)
class Arrival:
    """Events of a batch grouped by entity, n of them in k runs.

    Attributes
    ----------
    order : ndarray, shape (n,), int64
        Positions in the batch, grouped by slot, in order of arrival within one; the other arrays of
        length n are in this order.
    starts, n_events, slots : ndarray, shape (k,), int64
        First event, number of events and slot of each run.
    run : ndarray, shape (n,), int64
        Run of each event.
    newest : ndarray, shape (n,), int64
        Newest pane of the ring that each event meets; its own if it lies ahead.
    silence : ndarray, shape (n,), int64
        Panes by which the watermark moved on since the entity's last accepted event; 0 for a replay, and
        beyond all bounds for the first event of an entity.
    fresh, late, replayed : ndarray, shape (n,), bool
        The ring was emptied right before this event; the event is too late; it was applied before.
    newest_before, newest_after, seen, last_offset : ndarray, shape (k,), int64
        Newest pane before and after the batch, watermark at the last accepted event, highest offset.
    watermark : int
        Highest pane of the partition, this batch included.
    """

    order: Integers
    starts: Integers
    n_events: Integers
    slots: Integers
    run: Integers
    newest: Integers
    silence: Integers
    fresh: Flags
    late: Flags
    replayed: Flags
    newest_before: Integers
    newest_after: Integers
    seen: Integers
    last_offset: Integers
    watermark: int


def arrange(
    slots: Integers,
    offsets: Integers,
    panes: Integers,
    watermark: int,
    n_panes: int,
    newest: Integers,
    seen: Integers,
    last_offset: Integers,
) -> Arrival:
    """Return which ring each event of a batch meets.

    Parameters
    ----------
    slots, offsets, panes : ndarray, shape (n,), int64
        Entity, offset and pane of each event, in order of arrival; n is at least 1.
    watermark : int
        Highest pane of the partition before the batch.
    n_panes : int
        Panes in a ring.
    newest, seen, last_offset : ndarray, shape (n_slots,), int64
        State of all entities.

    Examples
    --------
    >>> state = [np.full(2, EMPTY), np.full(2, EMPTY), np.full(2, -1)]
    >>> arrival = arrange(np.array([1, 0, 1]), np.arange(3), np.array([9, 9, 2]), EMPTY, 4, *state)
    >>> arrival.order.tolist(), arrival.late.tolist(), arrival.newest.tolist()
    ([1, 0, 2], [False, False, True], [9, 9, 9])
    """
    order, starts, n_events = _group(slots)
    run_slots = slots.take(order.take(starts))
    run = np.repeat(np.arange(len(starts)), n_events)
    pane, offset = panes.take(order), offsets.take(order)
    marks = np.maximum(np.maximum.accumulate(panes), watermark)
    mark = marks.take(order)
    last = starts + n_events - 1
    newest_before = newest.take(run_slots)
    seen_after, last_after = seen.take(run_slots), last_offset.take(run_slots)

    # Nearly every run has no replay, no late event and no silence but at its start: done for all at once.
    silence = np.diff(mark, prepend=0)
    silence[starts] = mark.take(starts) - seen_after
    fresh = np.zeros(len(order), np.bool_)
    starts_fresh = silence.take(starts) >= n_panes
    fresh[starts] = starts_fresh
    reached = _running_max(pane, starts, run, n_events)
    reached = np.maximum(reached, np.repeat(np.where(starts_fresh, EMPTY, newest_before), n_events))
    late = pane <= reached - n_panes
    odd = offset <= np.repeat(last_after, n_events)
    odd |= late
    follows = run[1:] == run[:-1]
    odd[1:] |= follows & ((offset[1:] <= offset[:-1]) | (silence[1:] >= n_panes))
    odd_events = np.flatnonzero(odd)
    replayed = np.zeros(len(order), np.bool_)
    seen_before, last_before = seen_after, last_after
    seen_after, last_after = mark.take(last), np.maximum(offset.take(last), last_before)

    # The others depend on themselves from event to event, so they are walked.
    for odd_run in np.unique(run.take(odd_events)).tolist():
        rows = slice(starts[odd_run], starts[odd_run] + n_events[odd_run])
        walked = _walk(
            pane[rows].tolist(),
            offset[rows].tolist(),
            mark[rows].tolist(),
            n_panes,
            (int(newest_before[odd_run]), int(seen_before[odd_run]), int(last_before[odd_run])),
        )
        reached[rows], silence[rows], fresh[rows], late[rows], replayed[rows] = walked[:5]
        seen_after[odd_run], last_after[odd_run] = walked[5:]

    return Arrival(
        order=order,
        starts=starts,
        n_events=n_events,
        slots=run_slots,
        run=run,
        newest=reached,
        silence=silence,
        fresh=fresh,
        late=late,
        replayed=replayed,
        newest_before=newest_before,
        newest_after=reached.take(last),
        seen=seen_after,
        last_offset=last_after,
        watermark=int(marks[-1]),
    )


def _group(slots: Integers) -> tuple[Integers, Integers, Integers]:
    """Return a stable order by slot, and first row and length of each run of equal slots in it."""
    # numpy sorts 16 bits by radix, in a quarter of the time.
    keys = slots.astype(np.uint16) if int(slots.max()) < 2**16 else slots
    order = np.argsort(keys, kind="stable")
    ordered = slots.take(order)
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return order, starts, np.diff(np.r_[starts, len(slots)])


def _running_max(values: Integers, starts: Integers, run: Integers, n_values: Integers) -> Integers:
    """Return the running maximum within each run."""
    falls = values[1:] < values[:-1]
    falls &= run[1:] == run[:-1]
    if not falls.any():
        return values
    lowest = int(values.min())
    span = int(values.max()) - lowest + 1
    if span < 2**62 // len(starts):
        # Each run on a level of its own above all before it, so that one running maximum serves all.
        levels = run * span - lowest
        return np.asarray(np.maximum.accumulate(values + levels) - levels)
    pieces = [values[start : start + n] for start, n in zip(starts.tolist(), n_values.tolist(), strict=True)]
    return np.concatenate([np.maximum.accumulate(piece) for piece in pieces])


def _walk(
    panes: list[int], offsets: list[int], marks: list[int], n_panes: int, state: tuple[int, int, int]
) -> tuple[list[int], list[int], list[bool], list[bool], list[bool], int, int]:
    """Apply the rules of this module to one entity, event by event.

    Returns newest pane, silence, fresh, late and replayed of each event, then the entity's `seen` and last
    offset.
    """
    newest, seen, last = state
    newests, silences, freshes, lates, replays = [], [], [], [], []
    for pane, offset, mark in zip(panes, offsets, marks, strict=True):
        replayed = offset <= last
        last = max(last, offset)
        silence = 0 if replayed else mark - seen
        fresh = silence >= n_panes
        if fresh:
            newest = EMPTY
        late = pane <= newest - n_panes
        if not (late or replayed):
            newest, seen = max(newest, pane), mark
        newests.append(newest)
        silences.append(silence)
        freshes.append(fresh)
        lates.append(late)
        replays.append(replayed)
    return newests, silences, freshes, lates, replays, seen, last
