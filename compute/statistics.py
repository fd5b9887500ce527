"""Windowed running statistics: score first, then learn.

Owns the step from a batch of events to the statistics that each event met, and to what the entities have
learnt from the batch. The rules of late, replayed and silent are in `compute/arrival.py`, the content of
windows in `compute/window_content.py`, the numerics of merging in `compute/moments.py`.

Event i is described by the statistics of the accepted events of its entity before it, in the panes that the
window covers when it arrives. One by one, all at once or in any split gives the same, up to the order in
which floats are added. Variances are population variances, m2 / count, as numpy's with ddof 0.

Values whose squared distance overflows float64 (differences above 1e154) give an infinite or NaN standard
deviation to that entity and feature until their panes have left the window; nothing else is touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compute.arrival import Arrival, arrange
from compute.entity_columns import EntityColumns, Learnt
from compute.moments import Flags, Floats, Integers, no_moments
from compute.normalisation import normalise
from compute.panes import EMPTY, MAX_PANE, pane_index, silent
from compute.window_content import content_at_start, group_learnt, split_epochs
from compute.window_learning import learn_groups
from compute.window_scores import score_events
from compute.window_view import window_statistics

__all__ = [
    "EMPTY",
    "EntityColumns",
    "Learnt",
    "Scored",
    "normalise",
    "pane_index",
    "score_and_learn",
    "silent",
    "window_statistics",
]


@dataclass(frozen=True)
class Scored:
    """What each event of a batch met, in the order of the batch.

    Attributes
    ----------
    mean, stddev : ndarray, shape (n, n_features), float64
        Of the values before the event; NaN where there is none, and for late events.
    count : ndarray, shape (n, n_features), float64
        Number of those values.
    n_events : ndarray, shape (n,), float64
        Events before it in the window, whatever features they had.
    silence : ndarray, shape (n,), int64
        Panes by which the partition moved on since the entity's last event; see `Arrival`.
    late, replayed : ndarray, shape (n,), bool
        Older than the window: not scored, not learnt. Applied before: scored, not learnt again.
    watermark : int
        Highest pane of the partition, this batch included.
    """

    mean: Floats
    stddev: Floats
    count: Floats
    n_events: Floats
    silence: Integers
    late: Flags
    replayed: Flags
    watermark: int


def score_and_learn(
    columns: EntityColumns,
    slots: Integers,
    offsets: Integers,
    panes: Integers,
    matrix: Floats,
    watermark: int = EMPTY,
) -> tuple[Learnt, Scored]:
    """Return what the events of one partition teach, and what each of them met.

    Nothing is changed: `columns.assign(learnt)` does that, once whatever may fail is done. To score without
    learning, drop `learnt`.

    Parameters
    ----------
    columns : EntityColumns
        State before the batch.
    slots : ndarray, shape (n,), int64
        Slot of each event's entity.
    offsets : ndarray, shape (n,), int64
        Offsets in the partition.
    panes : ndarray, shape (n,), int64
        Pane of each event's time, see `pane_index`.
    matrix : ndarray, shape (n, n_features), float64
        Values of `columns.features`; NaN is a missing value.
    watermark : int
        Highest pane of the partition before the batch; `EMPTY` if it had no event.

    Returns
    -------
    Learnt, Scored

    Raises
    ------
    ValueError
        If shapes do not fit, or a slot or pane is out of bounds.

    Examples
    --------
    >>> columns = EntityColumns(n_panes=12, pane_seconds=300.0, features=("temperature",), n_slots=1)
    >>> slots, offsets, panes = np.zeros(3, np.int64), np.arange(3), np.full(3, 7)
    >>> learnt, scored = score_and_learn(columns, slots, offsets, panes, np.array([[1.0], [3.0], [9.0]]))
    >>> scored.mean.ravel().tolist(), scored.stddev.ravel().tolist(), scored.count.ravel().tolist()
    ([nan, 1.0, 2.0], [nan, 0.0, 1.0], [0.0, 1.0, 2.0])
    >>> columns.assign(learnt)
    >>> window_statistics(columns, 0)["features"]["temperature"]["count"]
    3
    """
    _check(columns, slots, offsets, panes, matrix)
    if not len(slots):
        return _nothing(columns, watermark)
    arrival = arrange(
        slots,
        offsets,
        panes,
        watermark,
        columns.n_panes,
        columns.newest,
        columns.seen,
        columns.last_offset,
    )
    kept = None if not arrival.late.any() else np.flatnonzero(~arrival.late)
    if kept is not None and not kept.size:
        return _all_late(columns, arrival, matrix.shape)
    run, newest, rows = arrival.run, arrival.newest, arrival.order
    fresh, replayed = arrival.fresh, arrival.replayed
    if kept is not None:
        run, newest, rows = run.take(kept), newest.take(kept), rows.take(kept)
        fresh, replayed = fresh.take(kept), replayed.take(kept)
    values = matrix.take(rows, axis=0)
    valid: Flags | None = ~np.isnan(values)
    if np.all(valid):
        valid = None
    taught = None if not replayed.any() else ~replayed
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        epochs = split_epochs(run, newest, fresh)
        groups = group_learnt(epochs, panes.take(rows), taught, values, valid, columns.n_panes)
        n_events, content = content_at_start(columns, arrival, epochs, groups)
        scores = score_events(epochs, n_events, content, values, valid, taught)
        learnt = learn_groups(columns, arrival, epochs, groups, n_events, content)
    return learnt, _in_order_of_batch(arrival, rows, kept is None, scores)


def _in_order_of_batch(
    arrival: Arrival, rows: Integers, all_kept: bool, scores: tuple[Floats, Floats, Floats, Floats]
) -> Scored:
    """Bring scores of the events `rows` back into the order of the batch, late events among them."""
    n = len(arrival.order)
    back = np.empty(n, np.int64)
    back[arrival.order] = np.arange(n)
    if all_kept:  # taking is five times as fast as assigning
        mean, stddev, count, events = (score.take(back, axis=0) for score in scores)
    else:
        n_features = scores[0].shape[1]
        mean, stddev = np.full((2, n, n_features), np.nan)
        count, events = np.zeros((n, n_features)), np.zeros(n)
        for whole, part in zip((mean, stddev, count, events), scores, strict=True):
            whole[rows] = part
    silence, late, replayed = arrival.silence.take(back), arrival.late.take(back), arrival.replayed.take(back)
    return Scored(mean, stddev, count, events, silence, late, replayed, arrival.watermark)


def _check(
    columns: EntityColumns, slots: Integers, offsets: Integers, panes: Integers, matrix: Floats
) -> None:
    n = len(slots)
    if len(offsets) != n or len(panes) != n:
        raise ValueError(
            f"offsets, panes: must have {n} items as slots, received {len(offsets)} and {len(panes)}"
        )
    if matrix.shape != (n, columns.n_features):
        raise ValueError(f"matrix: must have shape {(n, columns.n_features)}, received {matrix.shape}")
    if not n:
        return
    if int(slots.min()) < 0 or int(slots.max()) >= columns.n_slots:
        raise ValueError(
            f"slots: must lie in 0 to {columns.n_slots - 1}, received {slots.min()} to {slots.max()}"
        )
    if int(panes.min()) <= -MAX_PANE or int(panes.max()) >= MAX_PANE:
        raise ValueError(f"panes: must lie within {MAX_PANE}, received {panes.min()} to {panes.max()}")


def _nothing(columns: EntityColumns, watermark: int) -> tuple[Learnt, Scored]:
    """Return the result of an empty batch."""
    none, nothing, flags = np.zeros((0, columns.n_features)), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    learnt = _unlearnt(columns, nothing, nothing, nothing, nothing)
    return learnt, Scored(none, none, none, np.zeros(0), nothing, flags, flags, watermark)


def _all_late(columns: EntityColumns, arrival: Arrival, shape: tuple[int, ...]) -> tuple[Learnt, Scored]:
    """Return the result of a batch whose events are all late: offsets move, nothing else does."""
    learnt = _unlearnt(columns, arrival.slots, arrival.newest_after, arrival.seen, arrival.last_offset)
    none = np.zeros((0, shape[1]))
    scores = (none, none, none, np.zeros(0))
    return learnt, _in_order_of_batch(arrival, np.zeros(0, np.int64), False, scores)


def _unlearnt(
    columns: EntityColumns, slots: Integers, newest: Integers, seen: Integers, last_offset: Integers
) -> Learnt:
    none, nothing = np.zeros((0, columns.n_features)), np.zeros(0, np.int64)
    return Learnt(
        slots=slots,
        newest=newest,
        seen=seen,
        last_offset=last_offset,
        window_events=columns.window_events.take(slots),
        window=columns.window.take(slots),
        forgotten=nothing,
        panes=nothing,
        n_events=np.zeros(0),
        moments=no_moments(0, columns.n_features),
        minimum=none,
        maximum=none,
    )
