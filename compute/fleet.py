"""A simulated fleet: machines with daily cycles, noise, correlated sensors and labelled faults.

Owns the signals and the faults as arrays. Leaves keys, event form and pacing to `app.sources` and replay.

Everything is a function of the seed: time runs in blocks of whole steps, each block draws from a
generator seeded by its own number, and no state is carried from one to the next. So a longer run starts
with exactly the shorter one, and memory does not grow with the length of the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compute.simulation import DEFAULT_START_SECONDS, check_bounds

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FEATURE_NAMES = ("temperature", "vibration", "pressure", "current", "speed")
FEATURE_UNITS = ("degree Celsius", "mm/s", "bar", "ampere", "1/min")
FAULT_KINDS = ("none", "spike", "drift", "stuck", "level-shift", "noise-burst", "dropout")

DAY_SECONDS = 86_400.0
SLOT_STEPS = 512  # a machine has at most one fault in a slot of this many steps
QUIET_STEPS = 128  # the head of each slot is free of onsets: a detector sees normal behaviour first
BLOCK_EVENTS = 65_536

_SPIKE, _DRIFT, _STUCK, _LEVEL_SHIFT, _NOISE_BURST, _DROPOUT = range(1, 7)

# Value at rest, gain per unit of load, and standard deviation of the noise, per feature.
_REST = np.array([48.0, 1.4, 6.2, 9.0, 1_485.0])
_GAIN = np.array([18.0, 1.1, -0.9, 14.0, -25.0])
_NOISE = np.array([0.5, 0.08, 0.05, 0.4, 1.5])
# How far a fault of size 1 moves a feature: a little more than what load does within a day.
_FAULT_SCALE = np.array([20.0, 1.6, 1.2, 14.0, 40.0])


@dataclass(frozen=True)
class FleetBlock:
    """Consecutive events of the fleet, ordered by time; `n` is their number.

    Attributes
    ----------
    entities : ndarray of int64, shape (n,)
        Number of the machine, from 0.
    timestamps : ndarray of float64, shape (n,)
        Event times in epoch seconds, never decreasing.
    features : ndarray of float64, shape (n, 5)
        One column for each of `FEATURE_NAMES`, in `FEATURE_UNITS`; NaN where a sensor gave nothing.
    labels : ndarray of int64, shape (n,)
        1 while the machine has a fault, else 0.
    kinds : ndarray of int64, shape (n,)
        Which fault: an index into `FAULT_KINDS`.
    """

    entities: Integers
    timestamps: Floats
    features: Floats
    labels: Integers
    kinds: Integers


def simulate(
    n_entities: int = 100,
    seed: int = 0,
    *,
    start_seconds: float = DEFAULT_START_SECONDS,
    interval_seconds: float = 1.0,
    n_events: int | None = None,
    fault_probability: float = 0.15,
) -> Iterator[FleetBlock]:
    """Simulate the fleet, block by block.

    Parameters
    ----------
    n_entities : int
        Machines; each reports once per step, at a moment of its own within the step.
    seed : int
        Same seed, same events; 0 or more.
    start_seconds : float
        Epoch seconds of the first step.
    interval_seconds : float
        Length of a step: the time between two events of one machine.
    n_events : int, optional
        Events in total; without end if None.
    fault_probability : float
        Probability that a machine has a fault in a slot of `SLOT_STEPS` steps.

    Yields
    ------
    FleetBlock
        At most about 65,000 events, or one step of the fleet if that is more.

    Raises
    ------
    ValueError
        An argument is out of its bounds.

    Examples
    --------
    >>> block = next(simulate(n_entities=3, seed=7, n_events=6))
    >>> block.entities.tolist(), block.features.shape
    ([0, 2, 1, 0, 2, 1], (6, 5))
    >>> again = next(simulate(n_entities=3, seed=7, n_events=600))
    >>> bool((again.features[:6] == block.features).all())
    True
    """
    check_bounds(n_entities, seed, interval_seconds, n_events)
    if not 0 <= fault_probability <= 1:
        raise ValueError(f"fault_probability must be from 0 to 1, received {fault_probability}")
    machines = _Machines.draw(n_entities, seed)
    steps_per_block = _steps_per_block(n_entities)
    n_left = n_events
    step = 0
    while n_left is None or n_left > 0:
        block = _block(
            machines, seed, step, steps_per_block, start_seconds, interval_seconds, fault_probability
        )
        n = len(block.entities)
        if n_left is not None:
            block = block if n <= n_left else _head(block, n_left)
            n_left -= min(n, n_left)
        yield block
        step += steps_per_block


@dataclass(frozen=True)
class _Machines:
    """What stays the same for each machine; the arrays have shape (n_entities,) or (n_entities, 5)."""

    rest: Floats
    cycle_phase: Floats
    cycle_depth: Floats
    wander_periods: Floats  # (3, n_entities): slow loads of incommensurable periods look like a random walk
    wander_phases: Floats
    report_offset: Floats  # fraction of a step
    order: Integers  # machines by report_offset

    @classmethod
    def draw(cls, n_entities: int, seed: int) -> _Machines:
        rng = np.random.default_rng([seed, 0])
        offset = rng.random(n_entities)
        return cls(
            rest=_REST * (1.0 + 0.04 * rng.standard_normal((n_entities, len(_REST)))),
            cycle_phase=0.1 * rng.standard_normal(n_entities),
            cycle_depth=rng.uniform(0.2, 0.4, n_entities),
            wander_periods=rng.uniform(1_500.0, 12_000.0, (3, n_entities)),
            wander_phases=rng.uniform(0.0, 2 * np.pi, (3, n_entities)),
            report_offset=offset,
            order=np.argsort(offset, kind="stable"),
        )

    def clean(self, entities: Any, timestamps: Floats) -> Floats:
        """Return the features without noise or fault, shape `timestamps.shape + (5,)`."""
        day = 2 * np.pi * (timestamps / DAY_SECONDS + self.cycle_phase[entities])
        load = 0.5 - self.cycle_depth[entities] * np.cos(day)
        for periods, phases in zip(self.wander_periods, self.wander_phases, strict=True):
            load = load + 0.03 * np.sin(2 * np.pi * timestamps / periods[entities] + phases[entities])
        # One load behind all features is what makes them correlated, as in a real machine.
        features: Floats = self.rest[entities] + load[..., None] * _GAIN
        return features


@dataclass(frozen=True)
class _Faults:
    """The faults of one slot; the arrays have shape (n_entities,), steps count from the slot's start."""

    onset: Integers
    length: Integers
    kind: Integers
    feature: Integers
    size: Floats

    @classmethod
    def draw(cls, n_entities: int, seed: int, slot: int, probability: float) -> _Faults:
        rng = np.random.default_rng([seed, 1, slot])
        kind = rng.integers(_SPIKE, len(FAULT_KINDS), n_entities)
        length = np.where(kind == _SPIKE, rng.integers(1, 4, n_entities), rng.integers(30, 121, n_entities))
        latest = SLOT_STEPS - length
        onset = QUIET_STEPS + np.floor(rng.random(n_entities) * (latest - QUIET_STEPS)).astype(np.int64)
        return cls(
            onset=onset,
            length=np.where(rng.random(n_entities) < probability, length, 0),
            kind=kind,
            feature=rng.integers(0, len(FEATURE_NAMES), n_entities),
            size=rng.uniform(0.8, 1.6, n_entities) * rng.choice([-1.0, 1.0], n_entities),
        )


def _block(
    machines: _Machines,
    seed: int,
    first_step: int,
    n_steps: int,
    start_seconds: float,
    interval_seconds: float,
    probability: float,
) -> FleetBlock:
    n_entities = len(machines.order)
    steps = np.arange(first_step, first_step + n_steps)
    order = machines.order
    moments = steps[:, None] + machines.report_offset[order]
    timestamps = np.round(start_seconds + interval_seconds * moments, 3)
    rng = np.random.default_rng([seed, 2, first_step])
    noise = rng.standard_normal((n_steps, n_entities, len(_NOISE))) * _NOISE
    values = machines.clean(order, timestamps) + noise
    kinds = np.zeros((n_steps, n_entities), dtype=np.int64)
    faults = _Faults.draw(n_entities, seed, first_step // SLOT_STEPS, probability)
    age = (steps % SLOT_STEPS)[:, None] - faults.onset[order]
    rows, columns = np.nonzero((age >= 0) & (age < faults.length[order]))
    if len(rows):
        entity = order[columns]
        feature = faults.feature[entity]
        kinds[rows, columns] = faults.kind[entity]
        onset_seconds = timestamps[rows, columns] - age[rows, columns] * interval_seconds
        values[rows, columns, feature] = _faulty(
            kind=faults.kind[entity],
            value=values[rows, columns, feature],
            noise=noise[rows, columns, feature],
            at_onset=machines.clean(entity, onset_seconds)[np.arange(len(entity)), feature],
            scale=_FAULT_SCALE[feature] * faults.size[entity],
            progress=(age[rows, columns] + 1) / faults.length[entity],
        )
    # Real sensors have a resolution, and short numbers make small events.
    features = np.round(np.maximum(values, 0.0).reshape(-1, len(FEATURE_NAMES)), 3)
    flat = kinds.reshape(-1)
    return FleetBlock(
        entities=np.tile(order, n_steps),
        timestamps=timestamps.reshape(-1),
        features=features,
        labels=(flat > 0).astype(np.int64),
        kinds=flat,
    )


def _faulty(
    *, kind: Integers, value: Floats, noise: Floats, at_onset: Floats, scale: Floats, progress: Floats
) -> Floats:
    """Return what the failing sensor says instead of `value`; all arrays have one item per faulty row."""
    changed: Floats = np.select(
        [kind == _SPIKE, kind == _DRIFT, kind == _STUCK, kind == _LEVEL_SHIFT, kind == _NOISE_BURST],
        [value + 1.5 * scale, value + scale * progress, at_onset, value + scale, value + 9.0 * noise],
        default=np.nan,
    )
    return changed


def _steps_per_block(n_entities: int) -> int:
    """Return a power of two, so that a slot is a whole number of blocks."""
    n_steps = max(1, min(SLOT_STEPS, BLOCK_EVENTS // n_entities))
    return 1 << (n_steps.bit_length() - 1)


def _head(block: FleetBlock, n: int) -> FleetBlock:
    return FleetBlock(
        block.entities[:n], block.timestamps[:n], block.features[:n], block.labels[:n], block.kinds[:n]
    )
