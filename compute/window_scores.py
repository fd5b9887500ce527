"""Scores of the events of a batch: the statistics that each event met.

Owns the running sums within epochs. What an epoch begins with is put together in `compute/window_content.py`.
"""

from __future__ import annotations

import numpy as np

from compute.moments import Flags, Floats, Moments, first_values
from compute.prefix import prefix_sums
from compute.window_content import Epochs


def score_events(
    epochs: Epochs,
    n_events: Floats,
    content: Moments,
    values: Floats,
    valid: Flags | None,
    taught: Flags | None,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return mean, standard deviation, count and number of events that each event met.

    Sums of deviations and of their squares run over the epoch from the content at its start on. The shift
    is the mean of that content, so the variance of what was there is not lost in the sums; a single outlier
    before m events costs at most the m-th part of the digits.
    """
    n_features = values.shape[1]
    starts, of_event = epochs.starts, epochs.of_event
    rank = np.arange(len(of_event)) - np.repeat(starts, epochs.n_events)
    shift = np.where(content.count > 0, content.mean, first_values(values, starts, valid))
    shift_of_event = shift.take(of_event, axis=0)
    everywhere = valid is None and taught is None
    sums = np.empty((len(of_event), 2 * n_features if everywhere else 3 * n_features + 1))
    deviations = values[:-1] - shift_of_event[:-1]
    if not everywhere:
        counted = np.ones(values.shape, np.bool_) if valid is None else valid.copy()
        if taught is not None:
            counted &= taught[:, None]
        deviations[~counted[:-1]] = 0.0
        sums[1:, 2 * n_features : -1] = counted[:-1]
        sums[1:, -1] = True if taught is None else taught[:-1]
        sums[starts, 2 * n_features : -1] = content.count
        sums[starts, -1] = n_events
    # Each row holds the event before it, the first of an epoch what was there: so the sums are exclusive.
    sums[1:, :n_features] = deviations
    np.square(deviations, out=sums[1:, n_features : 2 * n_features])
    carried = content.count * content.low
    sums[starts, :n_features] = carried
    sums[starts, n_features : 2 * n_features] = content.m2 + carried * content.low
    sums = prefix_sums(sums, rank)
    if everywhere:
        count = content.count.take(of_event, axis=0)
        count += rank[:, None]
        events = n_events.take(of_event) + rank
    else:
        count, events = np.ascontiguousarray(sums[:, 2 * n_features : -1]), sums[:, -1]
    moved = sums[:, :n_features] / count
    variance = sums[:, n_features : 2 * n_features] - sums[:, :n_features] * moved
    variance /= count
    stddev = np.sqrt(np.maximum(variance, 0.0, out=variance), out=variance)
    shift_of_event += moved
    return shift_of_event, stddev, count, events
