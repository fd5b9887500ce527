"""The simulated fleet as a source: `compute.fleet` makes the arrays, here they get keys and names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.sources.options import SourceOptions
from app.sources.source import Event, Source
from compute.fleet import FEATURE_NAMES, FleetBlock, simulate
from compute.simulation import DEFAULT_START_SECONDS

DEFAULT_ENTITIES = 100
DEFAULT_INTERVAL_SECONDS = 1.0


def open_fleet(options: SourceOptions) -> Source:
    """Open the simulated fleet: events without end, labelled 1 while a machine has a fault."""
    n_entities = options.entities or DEFAULT_ENTITIES
    interval_seconds = options.interval_seconds or DEFAULT_INTERVAL_SECONDS
    start_seconds = DEFAULT_START_SECONDS if options.start_seconds is None else options.start_seconds

    def read() -> Iterator[Event]:
        keys = [b"machine-%04d" % number for number in range(n_entities)]
        blocks = simulate(
            n_entities, options.seed, start_seconds=start_seconds, interval_seconds=interval_seconds
        )
        for block in blocks:
            yield from events_of(block, keys)

    description = (
        f"{n_entities} machines, each every {interval_seconds:g} s, seed {options.seed}, "
        f"features: {', '.join(FEATURE_NAMES)}"
    )
    return Source("fleet", description, None, read)


def events_of(block: FleetBlock, keys: list[bytes]) -> Iterator[Event]:
    """Turn a block into events; `keys` are the machines' names in order of their numbers."""
    missing = np.isnan(block.features.sum(axis=1)).tolist()
    rows = zip(
        block.entities.tolist(),
        block.timestamps.tolist(),
        block.features.tolist(),
        block.labels.tolist(),
        missing,
        strict=True,
    )
    for entity, timestamp, values, label, has_missing in rows:
        if has_missing:
            values = [None if value != value else value for value in values]
        yield Event(keys[entity], timestamp, dict(zip(FEATURE_NAMES, values, strict=True)), label)
