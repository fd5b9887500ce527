"""The world of a scenario that changes: simulated payments as they are, and from a moment on as they become.

Owns the moment. What changes is in `compute/payments.py`. The world waits for a model that has settled in, so
that the same happens on a fast machine and on a slow one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from app.sources import Event, Source, SourceOptions, open_source


class World:
    """Events of a source, of two worlds that are one until it changes.

    Parameters
    ----------
    source : str
        Name of a source that takes `change_after`.
    options : SourceOptions

    Attributes
    ----------
    has_changed : bool
        Set to True when it changes; events from then on show it.

    Examples
    --------
    >>> world = World("payments", SourceOptions(seed=3))
    >>> events = iter(world)
    >>> before = next(events).features["amount"]
    >>> world.has_changed = True
    >>> unchanged = iter(open_source("payments", SourceOptions(seed=3)))
    >>> before == next(unchanged).features["amount"], next(events) == next(unchanged)
    (True, False)
    """

    def __init__(self, source: str, options: SourceOptions) -> None:
        self._before: Source = open_source(source, options)
        self._after: Source = open_source(source, replace(options, change_after=0))
        self.has_changed = False

    def __iter__(self) -> Iterator[Event]:
        for before, after in zip(self._before, self._after, strict=True):
            yield after if self.has_changed else before
