"""What the window of one entity holds, for people to read.

Owns the form of the statistics that web views show.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from compute.entity_columns import EntityColumns
from compute.moments import merge_by
from compute.panes import EMPTY, window_bounds


class FeatureStatistics(TypedDict):
    """Statistics of one feature that has values in a window."""

    count: int
    mean: float
    variance: float
    stddev: float
    min: float
    max: float


class WindowStatistics(TypedDict):
    """Statistics of one entity; start and end, in epoch seconds, are None before its first event."""

    start: float | None
    end: float | None
    n_events: int
    features: dict[str, FeatureStatistics]


def window_statistics(columns: EntityColumns, slot: int) -> WindowStatistics:
    """Return what an entity's window holds now, by name of feature.

    Examples
    --------
    >>> from compute.statistics import score_and_learn
    >>> columns = EntityColumns(n_panes=2, pane_seconds=60.0, features=("temperature",), n_slots=1)
    >>> matrix = np.array([[20.0], [22.0]])
    >>> learnt, _ = score_and_learn(columns, np.zeros(2, np.int64), np.arange(2), np.array([0, 1]), matrix)
    >>> columns.assign(learnt)
    >>> found = window_statistics(columns, 0)
    >>> found["start"], found["end"], found["n_events"]
    (0.0, 120.0, 2)
    >>> found["features"]["temperature"]
    {'count': 2, 'mean': 21.0, 'variance': 1.0, 'stddev': 1.0, 'min': 20.0, 'max': 22.0}
    """
    newest = int(columns.newest[slot])
    start, end = (
        (None, None) if newest == EMPTY else window_bounds(newest, columns.n_panes, columns.pane_seconds)
    )
    held = np.flatnonzero(columns.n_events[slot]) + slot * columns.n_panes
    with np.errstate(over="ignore", invalid="ignore"):
        whole = merge_by(columns.pane_moments(held), np.zeros(len(held), np.int64), 1)
        lowest, highest = columns.minimum[slot].min(axis=0), columns.maximum[slot].max(axis=0)
    features: dict[str, FeatureStatistics] = {}
    # By name, and only its own: the columns are those of all entities in memory, in order of appearance.
    own = [i for i in range(columns.n_features) if whole.count[0, i]]
    for i in sorted(own, key=columns.features.__getitem__):
        name = columns.features[i]
        count, mean, m2 = (float(part[0, i]) for part in (whole.count, whole.mean, whole.m2))
        variance = m2 / count
        features[name] = {
            "count": int(count),
            "mean": mean,
            "variance": variance,
            "stddev": float(np.sqrt(variance)),
            "min": float(lowest[i]),
            "max": float(highest[i]),
        }
    return {"start": start, "end": end, "n_events": int(columns.n_events[slot].sum()), "features": features}
