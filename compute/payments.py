"""Simulated card payments of which some are fraud, in a world that changes once.

Owns amounts, places and labels as arrays. Leaves keys, event form and pacing to `app.sources` and replay.
Nothing here is real: the numbers are chosen so that fraud can be learnt from some thousand labels, never
quite, and so that what was learnt before the change is wrong after it.

Before the change fraud is stolen cards: large payments, far from home, at night. After it fraud is card
testing: many small payments in a row at risky merchants, and honest people spend and travel more, so that
they look like the fraud of before. Both what is typical and what it means move: drift of the features and
of the concept.

Everything is a function of the seed: each block draws from a generator seeded by its own number, and no
state is carried from one to the next. So a longer run starts with exactly the shorter one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.simulation import DEFAULT_START_SECONDS, check_bounds

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FEATURE_NAMES = ("amount", "distance", "hour", "n_recent", "merchant_risk")
FEATURE_UNITS = ("euro", "km from home", "h", "payments in the last hour", "0 to 1")

FRAUD_SHARE = 0.18
WRONG_LABEL_SHARE = 0.02  # fraud that nobody noticed, and payments that were disputed for no reason
BLOCK_EVENTS = 4_096


@dataclass(frozen=True)
class _Habits:
    """How some kind of payment is made: medians and spreads of logarithms, mean and spread of the hour."""

    amount: float
    amount_spread: float
    distance: float
    distance_spread: float
    hour: float
    hour_spread: float
    n_recent: float
    risk: tuple[float, float]  # of a beta distribution


# By world (before the change, after it) and label (honest, fraud).
_HABITS = (
    (
        _Habits(30.0, 0.6, 6.0, 0.9, 15.0, 4.0, 1.0, (2.0, 6.0)),
        _Habits(90.0, 0.6, 45.0, 1.0, 24.0, 4.0, 1.3, (2.5, 5.5)),
    ),
    (
        _Habits(52.0, 0.6, 22.0, 1.0, 17.0, 4.0, 1.2, (2.0, 6.0)),
        _Habits(20.0, 0.6, 9.0, 1.0, 16.0, 5.0, 5.0, (4.0, 4.0)),
    ),
)


@dataclass(frozen=True)
class PaymentBlock:
    """Consecutive payments, ordered by time; `n` is their number.

    Attributes
    ----------
    entities : ndarray of int64, shape (n,)
        Number of the card, from 0.
    timestamps : ndarray of float64, shape (n,)
        Event times in epoch seconds, never decreasing.
    features : ndarray of float64, shape (n, 5)
        One column for each of `FEATURE_NAMES`, in `FEATURE_UNITS`. The hour is drawn, not read off the event
        time: a minute of the stream shows all of a day.
    labels : ndarray of int64, shape (n,)
        1 for fraud, else 0.
    """

    entities: Integers
    timestamps: Floats
    features: Floats
    labels: Integers


def simulate(
    n_entities: int = 50,
    seed: int = 0,
    *,
    start_seconds: float = DEFAULT_START_SECONDS,
    interval_seconds: float = 1.0,
    n_events: int | None = None,
    change_after: int | None = None,
) -> Iterator[PaymentBlock]:
    """Simulate payments, block by block.

    Parameters
    ----------
    n_entities : int
        Cards; each payment is made with one of them at random.
    seed : int
        Same seed, same events; 0 or more.
    start_seconds : float
        Epoch seconds of the beginning.
    interval_seconds : float
        Mean time between two payments with the same card.
    n_events : int, optional
        Events in total; without end if None.
    change_after : int, optional
        Events before the world changes; it never does if None. Until then the events are the same.

    Yields
    ------
    PaymentBlock
        At most `BLOCK_EVENTS` events.

    Raises
    ------
    ValueError
        An argument is out of its bounds.

    Examples
    --------
    >>> block = next(simulate(n_entities=3, seed=7, n_events=6))
    >>> block.entities.tolist(), block.features.shape
    ([2, 2, 2, 0, 0, 0], (6, 5))
    """
    check_bounds(n_entities, seed, interval_seconds, n_events)
    if change_after is not None and change_after < 0:
        raise ValueError(f"change_after must be 0 or more, received {change_after}")
    rng = np.random.default_rng([seed, 0])
    # Every card has habits of its own, by which all its payments are larger or further away than others'.
    wealth = np.exp(0.2 * rng.standard_normal(n_entities))
    radius = np.exp(0.2 * rng.standard_normal(n_entities))
    first = 0
    while n_events is None or first < n_events:
        rng = np.random.default_rng([seed, 1, first // BLOCK_EVENTS])
        numbers = np.arange(first, first + BLOCK_EVENTS)
        entities = rng.integers(0, n_entities, BLOCK_EVENTS)
        moments = (numbers + rng.random(BLOCK_EVENTS)) * (interval_seconds / n_entities)
        is_fraud = rng.random(BLOCK_EVENTS) < FRAUD_SHARE
        is_wrong = rng.random(BLOCK_EVENTS) < WRONG_LABEL_SHARE
        has_changed = numbers >= (np.inf if change_after is None else change_after)
        features = _features(rng, is_fraud, has_changed, wealth[entities], radius[entities])
        n = BLOCK_EVENTS if n_events is None else min(BLOCK_EVENTS, n_events - first)
        yield PaymentBlock(
            entities[:n],
            np.round(start_seconds + moments[:n], 3),
            features[:n],
            (is_fraud ^ is_wrong)[:n].astype(np.int64),
        )
        first += BLOCK_EVENTS


def _features(
    rng: np.random.Generator, is_fraud: Flags, has_changed: Flags, wealth: Floats, radius: Floats
) -> Floats:
    n = len(is_fraud)
    normal = rng.standard_normal((3, n))
    features = np.empty((n, len(FEATURE_NAMES)))
    for world, habits_by_label in enumerate(_HABITS):
        for label, habits in enumerate(habits_by_label):
            # Drawn for all rows, whatever they are: a change must not move the generator of later rows.
            drawn = np.column_stack(
                [
                    np.round(habits.amount * wealth * np.exp(habits.amount_spread * normal[0]), 2),
                    np.round(habits.distance * radius * np.exp(habits.distance_spread * normal[1]), 1),
                    np.round((habits.hour + habits.hour_spread * normal[2]) % 24.0, 2) % 24.0,
                    rng.poisson(habits.n_recent, n),
                    np.round(rng.beta(*habits.risk, n), 3),
                ]
            )
            rows = (has_changed == bool(world)) & (is_fraud == bool(label))
            features[rows] = drawn[rows]
    return features
