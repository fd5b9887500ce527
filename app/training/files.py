"""Records from a file or a named data set, as a replay of it would send them.

Owns the way from a source to records with partitions and offsets, and which of its columns is the target. So
a model can be trained on a file before there is a broker, and sees what it will see once the file is
replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import msgspec

from app.replay import Partitioner
from app.settings import Settings
from app.sources import DATA_SETS, Source, SourceError, SourceOptions, open_source
from app.sources.source import Label, Number
from app.training.request import OWN_LABEL, Request
from app.training.rows import Rows

CHUNK_EVENTS = 2_000


class Record(NamedTuple):
    """What the record of an event would hold; `timestamp` 0 is a time that is not known."""

    key: bytes
    value: bytes
    offset: int
    timestamp: int = 0


class _Value(msgspec.Struct, omit_defaults=True):
    timestamp: float
    features: dict[str, Number | None]
    label: Label = None


def open_training_source(
    name: str, options: SourceOptions, target: str, limit: int | None
) -> tuple[Source, str]:
    """Open a source, and find what the target is in it.

    Returns
    -------
    source : Source
    target : str
        `OWN_LABEL` where the target is the label, by that name or by its column's; else a feature.

    Raises
    ------
    SourceError
        There is no such source or column, or it has no end and no limit was given.
    """
    source = open_source(name, options)
    data_set = DATA_SETS.get(source.name)
    if limit is None and data_set is not None and data_set.simulate is not None:
        raise SourceError(f"{source.name} has no end: --limit needed")
    first = next(iter(source), None)
    if first is None:
        raise SourceError(f"{source.name}: there are no events")
    if target == OWN_LABEL or target in first.features:
        return source, target
    labelled = open_source(name, replace(options, label_column=target))
    # Where nothing changed the source has no columns; a feature that the first event lacks may come later.
    return (labelled, OWN_LABEL) if labelled.description != source.description else (source, target)


def read_source(
    source: Source,
    settings: Settings,
    wanted: Request,
    limit: int | None = None,
    on_read: Callable[[int], object] = lambda n_events: None,
) -> Rows:
    """Read a source to its end, or `limit` events of it.

    Parameters
    ----------
    source : Source
    settings : Settings
    wanted : Request
    limit : int or None
    on_read : callable
        Called with the number of events read since the last call; what it raises ends the reading.
    """
    rows = Rows(settings, wanted)
    for records in _chunks(source, settings.partitions, limit):
        for number, of_partition in records.items():
            rows.add(number, of_partition)
        on_read(sum(map(len, records.values())))
    rows.finish()
    return rows


def _chunks(source: Source, n_partitions: int, limit: int | None) -> Iterator[dict[int, list[Record]]]:
    partition_of = Partitioner(range(n_partitions))
    encode = msgspec.json.Encoder().encode
    next_offsets = [0] * n_partitions
    events = islice(source, limit)
    while chunk := list(islice(events, CHUNK_EVENTS)):
        records: dict[int, list[Record]] = {}
        for event in chunk:
            number = partition_of(event.key)
            value = encode(_Value(event.timestamp, event.features, event.label))
            records.setdefault(number, []).append(Record(event.key, value, next_offsets[number]))
            next_offsets[number] += 1
        yield records
