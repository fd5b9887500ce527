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
    """Statistics of one feature in a window; None where there is no value."""

    count: int
    mean: float | None
    variance: float | None
    stddev: float | None
    min: float | None
    max: float | None


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
    for i, name in enumerate(columns.features):
        count, mean, m2 = (float(part[0, i]) for part in (whole.count, whole.mean, whole.m2))
        variance = m2 / count if count else 0.0
        features[name] = {
            "count": int(count),
            "mean": mean if count else None,
            "variance": variance if count else None,
            "stddev": float(np.sqrt(variance)) if count else None,
            "min": float(lowest[i]) if count else None,
            "max": float(highest[i]) if count else None,
        }
    return {"start": start, "end": end, "n_events": int(columns.n_events[slot].sum()), "features": features}
