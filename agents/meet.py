"""What the accepted events of a batch meet: their entities' statistics, and what these learn from them.

Owns the step from decoded events to rows that somebody can decide about. It writes nothing that anybody else
would see; `agents/score.py` does, once it was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.dead_letters import Fault
from agents.decide import Rows
from compute.alerts import KEPT_WINDOWS
from compute.entity_columns import Learnt
from compute.events import EventBatch
from compute.normalisation import normalise
from compute.panes import pane_index
from compute.statistics import score_and_learn
from tables.partition import Partition


@dataclass(frozen=True)
class Met:
    """What the accepted events of a batch met.

    Attributes
    ----------
    rows : Rows
        Those that can be decided about.
    slots : ndarray, shape (n,), int64
        Of the entities of all of them.
    learnt : Learnt
        What the entities learn, to be assigned.
    watermark : int
        Of the partition, to be assigned.
    faults : list of Fault
        The others.
    """

    rows: Rows
    slots: NDArray[np.int64]
    learnt: Learnt
    watermark: int
    faults: list[Fault]


def meet(records: Sequence[Any], partition: Partition, events: EventBatch, settings: Any) -> Met:
    """Find what the accepted events meet; the same again while nothing else changes their entities.

    Parameters
    ----------
    records : sequence
        The records that `events` was decoded from.
    partition : Partition
        Entities that it does not know yet are made, empty; names of features are added.
    events : EventBatch
    settings : app.settings.Settings
        Of these: warmup_events, window_seconds.

    Raises
    ------
    NoRoomError
        Memory does not hold so many entities together; fewer events at a time may do.
    """
    if len(events.index) < len(records):
        records = [records[i] for i in events.index.tolist()]
    keys = [record.key for record in records]
    slots = partition.slots_of(keys, events.feature_names)
    columns = partition.columns
    matrix = events.matrix
    if matrix.shape[1] < columns.n_features:  # entities from the store brought features of their own
        unknown = np.full((len(matrix), columns.n_features - matrix.shape[1]), np.nan)
        matrix = np.hstack([matrix, unknown])
    offsets = np.array([record.offset for record in records], np.int64)
    panes = pane_index(events.timestamps, columns.pane_seconds)
    learnt, scored = score_and_learn(columns, slots, offsets, panes, matrix, partition.watermark)
    rows = Rows(
        position=events.index,
        keys=keys,
        offsets=offsets,
        slots=slots,
        timestamps=events.timestamps,
        matrix=matrix,
        mean=scored.mean,
        stddev=scored.stddev,
        z=normalise(matrix, scored.mean, scored.stddev),
        n_events=scored.n_events,
        warming_up=scored.n_events < settings.warmup_events,
        forgotten=scored.silence >= columns.n_panes * KEPT_WINDOWS,
    )
    faults: list[Fault] = []
    if scored.late.any() or scored.replayed.any():
        # A crash can leave an entity ahead of its partition. What it has seen was answered before.
        for row in np.flatnonzero(scored.late & ~scored.replayed).tolist():
            message = (
                f"timestamp: must be within {settings.window_seconds:g} s of the entity's newest event, "
                f"received {events.timestamps[row]}"
            )
            faults.append((int(events.index[row]), "late-event", message))
        rows = rows.take(np.flatnonzero(~(scored.late | scored.replayed)))
    return Met(rows, slots, learnt, scored.watermark, faults)
