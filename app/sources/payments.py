"""The simulated payments as a source: `compute.payments` makes the arrays, here they get keys and names."""

from __future__ import annotations

from collections.abc import Iterator

from app.sources.options import SourceOptions
from app.sources.source import Event, Source
from compute.payments import FEATURE_NAMES, simulate
from compute.simulation import DEFAULT_START_SECONDS

DEFAULT_ENTITIES = 50
DEFAULT_INTERVAL_SECONDS = 1.0


def open_payments(options: SourceOptions) -> Source:
    """Open the simulated payments: events without end, labelled 1 where a payment is fraud."""
    n_entities = options.entities or DEFAULT_ENTITIES
    interval_seconds = options.interval_seconds or DEFAULT_INTERVAL_SECONDS
    start_seconds = DEFAULT_START_SECONDS if options.start_seconds is None else options.start_seconds

    def read() -> Iterator[Event]:
        keys = [b"card-%04d" % number for number in range(n_entities)]
        blocks = simulate(
            n_entities,
            options.seed,
            start_seconds=start_seconds,
            interval_seconds=interval_seconds,
            change_after=options.change_after,
        )
        for block in blocks:
            rows = zip(
                block.entities.tolist(),
                block.timestamps.tolist(),
                block.features.tolist(),
                block.labels.tolist(),
                strict=True,
            )
            for entity, timestamp, values, label in rows:
                yield Event(keys[entity], timestamp, dict(zip(FEATURE_NAMES, values, strict=True)), label)

    change = f"changed after {options.change_after:,} events, " if options.change_after is not None else ""
    description = (
        f"{n_entities} simulated cards, each every {interval_seconds:g} s or so, seed {options.seed}, "
        f"{change}features: {', '.join(FEATURE_NAMES)}"
    )
    return Source("payments", description, None, read)
