"""Streams of one feature, without and with a change, to try what watches for drift."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from compute.drift_watch import Comparison, Watch

N_PANES = 12
PER_PANE = 100
WINDOW = N_PANES * PER_PANE
REFERENCE_EVENTS = 2000
FIRST_COMPARED = REFERENCE_EVENTS // PER_PANE + N_PANES
"""Pane that finds reference and window complete."""

Floats = NDArray[np.float64]
Random = np.random.Generator
Draw = Callable[[Random, int], Floats]


def normal(random: Random, n: int) -> Floats:
    return random.normal(size=n)


def wandering(n_entities: int, memory: float) -> Draw:
    """Return entities that take turns, each an AR(1) process around 0."""

    def draw(random: Random, n: int) -> Floats:
        n_each = -(-n // n_entities)
        noise = random.normal(size=(n_each, n_entities)) * np.sqrt(1 - memory**2)
        noise[0] = random.normal(size=n_entities)
        return np.asarray(lfilter([1.0], [1.0, -memory], noise, axis=0).reshape(-1)[:n])

    return draw


def cycle(n_events: int, height: float) -> Draw:
    """Return noise on a sine; `height` is the sine's standard deviation."""

    def draw(random: Random, n: int) -> Floats:
        angle = 2 * np.pi * (np.arange(n) / n_events + random.random())
        return np.asarray(np.sqrt(2) * height * np.sin(angle) + random.normal(size=n))

    return draw


STEADY: dict[str, Draw] = {
    "normal": normal,
    "Cauchy": lambda random, n: random.standard_cauchy(n),
    "Poisson, mean 1": lambda random, n: random.poisson(1.0, n) * 1.0,
    "0 or 1, 2% are 1": lambda random, n: (random.random(n) < 0.02) * 1.0,
    "constant": lambda random, n: np.full(n, 7.0),
    "30% missing": lambda random, n: np.where(random.random(n) < 0.3, np.nan, random.normal(size=n)),
    "100 entities, AR(1) 0.9": wandering(100, 0.9),
    "100 entities, AR(1) 0.99": wandering(100, 0.99),
    "10 entities, AR(1) 0.9": wandering(10, 0.9),
    "1 entity, AR(1) 0.9": wandering(1, 0.9),
    "cycle as long as the window": cycle(WINDOW, 1.0),
    "cycle of a quarter of the window": cycle(WINDOW // 4, 1.0),
}

WANDERING: dict[str, Draw] = {
    "10 entities, AR(1) 0.99": wandering(10, 0.99),
    "1 entity, AR(1) 0.99": wandering(1, 0.99),
}
"""Few entities whose levels wander for as long as a window: it is true that they left the reference."""


def shifted(by: float, draw: Draw = normal) -> Callable[[Random, int, int], Floats]:
    def changed(random: Random, n: int, at: int) -> Floats:
        values = draw(random, n)
        values[at:] += by
        return values

    return changed


def gradual(random: Random, n: int, at: int) -> Floats:
    return random.normal(size=n) + np.clip((np.arange(n) - at) / (2 * WINDOW), 0.0, 1.0)


def wider(factor: float) -> Callable[[Random, int, int], Floats]:
    def changed(random: Random, n: int, at: int) -> Floats:
        values = random.normal(size=n)
        values[at:] *= factor
        return values

    return changed


def missing(share: float) -> Callable[[Random, int, int], Floats]:
    def changed(random: Random, n: int, at: int) -> Floats:
        values = random.normal(size=n)
        values[at:][random.random(n - at) < share] = np.nan
        return values

    return changed


def new_category(random: Random, n: int, at: int) -> Floats:
    values = random.integers(0, 3, n) * 1.0
    values[at:][random.random(n - at) < 0.1] = 3.0
    return values


CHANGES: dict[str, Callable[[Random, int, int], Floats]] = {
    "mean + 0.25 sd": shifted(0.25),
    "mean + 0.5 sd": shifted(0.5),
    "mean + 1 sd": shifted(1.0),
    "mean + 2 sd": shifted(2.0),
    "mean + 1 sd, over 2 windows": gradual,
    "mean + 1 sd, on a cycle as long as the window": shifted(1.0, cycle(WINDOW, 1.0)),
    "mean + 1 sd, 10 entities, AR(1) 0.9": shifted(1.0, wandering(10, 0.9)),
    "stddev x 1.5": wider(1.5),
    "stddev x 2": wider(2.0),
    "20% go missing": missing(0.2),
    "50% go missing": missing(0.5),
    "10% are of a new category": new_category,
}


def compared(columns: Floats, per_pane: int = PER_PANE) -> list[tuple[int, Comparison]]:
    """Return every comparison of window and reference, with its pane."""
    watch = Watch(N_PANES, REFERENCE_EVENTS, len(columns))
    starts = np.arange(0, columns.shape[1], per_pane)
    return watch.observe(columns, starts, np.arange(len(starts)))
