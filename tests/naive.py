"""Slow, obvious versions of running computations: the oracles of the tests.

Everything keeps the raw events and starts from them each time; nothing here is clever.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field


@dataclass
class Event:
    slot: int
    offset: int
    pane: int
    values: tuple[float, ...]


@dataclass
class Entity:
    newest: int | None = None
    seen: int | None = None
    last_offset: int = -1
    events: list[Event] = field(default_factory=list)


@dataclass
class Met:
    """What one event met."""

    late: bool
    replayed: bool
    n_events: int = 0
    count: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    stddev: tuple[float, ...] = ()


def describe(values: list[float]) -> tuple[int, float, float]:
    """Count, mean and population standard deviation; the standard library computes them with fractions."""
    present = [value for value in values if not math.isnan(value)]
    if not present:
        return 0, math.nan, math.nan
    return len(present), statistics.mean(present), math.sqrt(statistics.pvariance(present))


class NaivePartition:
    """Raw events of all entities of a partition, one event at a time."""

    def __init__(self, n_panes: int, n_features: int):
        self.n_panes, self.n_features = n_panes, n_features
        self.watermark: int | None = None
        self.entities: dict[int, Entity] = {}

    def window(self, slot: int) -> list[Event]:
        entity = self.entities.get(slot, Entity())
        return [event for event in entity.events if event.pane > entity.newest - self.n_panes]

    def take(self, event: Event) -> Met:
        entity = self.entities.setdefault(event.slot, Entity())
        self.watermark = event.pane if self.watermark is None else max(self.watermark, event.pane)
        replayed = event.offset <= entity.last_offset
        entity.last_offset = max(entity.last_offset, event.offset)
        if not replayed and entity.seen is not None and self.watermark - entity.seen >= self.n_panes:
            entity.newest, entity.events = None, []
        if entity.newest is not None and event.pane <= entity.newest - self.n_panes:
            return Met(late=True, replayed=replayed)
        if not replayed:
            entity.newest = event.pane if entity.newest is None else max(entity.newest, event.pane)
        met = self.meet(event, replayed)
        if not replayed:
            entity.events.append(event)
            entity.seen = self.watermark
        return met

    def meet(self, event: Event, replayed: bool) -> Met:
        before = self.window(event.slot)
        columns = [describe([e.values[i] for e in before]) for i in range(self.n_features)]
        count, mean, stddev = zip(*columns, strict=True) if columns else ((), (), ())
        return Met(False, replayed, len(before), count, mean, stddev)
