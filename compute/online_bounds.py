"""How far a number may lie from what was guessed before it counts for less.

Owns the bound. One wild label, such as a sensor's error code, would rule sums of squares for thousands of
labels. So a number counts as if it lay at most `TYPICAL_ERRORS` typical errors from the best guess (bounded
residuals; Huber 1964, Robust estimation of a location parameter). Each one beyond lets the next one lie twice
as far away: what stays wild is no accident, and a new level soon counts nearly in full, wherever it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

TYPICAL_ERRORS = 20.0
"""Root mean squares of recent errors that a number may lie from the best guess."""

REACH_LABELS = 100.0
"""Labels after which what was gained in reach has faded to 1/e."""

MAX_REACH = 1e60
"""With this nothing is out of reach."""


def bound_targets(
    targets: Iterable[float], bare: Iterable[float], pace: float, offset: float, bound: float, reach: float
) -> tuple[list[float], float]:
    """Return numbers as they count, and the reach after the last one.

    Parameters
    ----------
    targets, bare : iterables of n float
        Numbers, and what was guessed of each before its offset.
    pace : float
        Share of an error by which the offset moves; 0 where it does not.
    offset : float
        Before the first one.
    bound : float
        Distance from the guess, above 0.
    reach : float
        How many times as far the first one may lie, at least 1.

    Examples
    --------
    >>> bounds = {"pace": 0.0, "offset": 0.0, "bound": 10.0, "reach": 1.0}
    >>> bounded, reach = bound_targets([0.5, 1e9, 0.0], [0.0] * 3, **bounds)
    >>> bounded, round(reach, 2)
    ([0.5, 10.0, 0.0], 1.98)
    >>> bounded, _ = bound_targets([200.0] * 7, [0.0] * 7, **bounds)
    >>> [round(number) for number in bounded]
    [10, 20, 40, 78, 155, 198, 198]
    """
    bounded = []
    for target, said in zip(targets, bare, strict=True):
        guess, limit = said + offset, bound * reach
        error = target - guess
        if abs(error) > limit:
            # Less where it is hardly exceeded: rounding at the bound must make no leap.
            reach = min(reach * min(abs(error) / limit, 2.0), MAX_REACH)
            error = math.copysign(limit, error)
            target = guess + error
        bounded.append(target)
        reach = faded(reach, 1)
        offset += pace * error
    return bounded, reach


def faded(reach: float, n_labels: int) -> float:
    """Return what is left of a reach after so many labels that were in bounds."""
    return 1.0 + (reach - 1.0) * math.exp(-n_labels / REACH_LABELS)
