"""Labels wait in their topic where their events wait in theirs, in a backlog after an outage above all.

Owns which partitions of labels are not read on for the time being. A label whose event was not scored yet is
kept by its partition, which has room for some; labels are read faster than events are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from faust.types import TP

from tables.statistics import StatisticsTable

MANY_EARLY = 1_000
"""With so many labels kept no more are read. Some are on their way: five record batches at most."""


def labels_to_leave(
    settings: Any,
    table: StatisticsTable,
    processed: Iterable[TP],
    events_end: Callable[[int], int | None],
) -> set[TP]:
    """Return the partitions of labels that are to be left alone until their events were scored.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: topic_labels.
    table : StatisticsTable
    processed : iterable of TP
        Partitions of any topic of which something was processed: the state of others may not be there yet.
    events_end : callable
        Gives the offset of a partition of the events behind which there is nothing to score, None where it is
        not known.
    """
    left = set()
    for tp in processed:
        if tp.topic != settings.topic_labels:
            continue
        partition = table.partition(tp.partition)
        if partition.learning is None or partition.learning.pending.n_early < MANY_EARLY:
            continue
        end = events_end(tp.partition)
        if end is not None and partition.next_offset < end:
            left.add(tp)
    return left
