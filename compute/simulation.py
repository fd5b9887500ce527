"""What the simulated streams share: when a run begins, and the bounds of what may be asked of them."""

from __future__ import annotations

DEFAULT_START_SECONDS = 1_767_225_600.0
"""A run that names no start begins at 2026-01-01T00:00:00Z, so that the same seed gives the same bytes."""

MAX_ENTITIES = 10_000_000


def check_bounds(n_entities: int, seed: int, interval_seconds: float, n_events: int | None) -> None:
    """Check what every simulated stream is asked for.

    Raises
    ------
    ValueError
        An argument is out of its bounds.

    Examples
    --------
    >>> check_bounds(0, 0, 1.0, None)
    Traceback (most recent call last):
    ValueError: n_entities must be from 1 to 10,000,000, received 0
    """
    if not 1 <= n_entities <= MAX_ENTITIES:
        raise ValueError(f"n_entities must be from 1 to {MAX_ENTITIES:,}, received {n_entities}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, received {seed}")
    if not interval_seconds > 0:
        raise ValueError(f"interval_seconds must be above 0, received {interval_seconds}")
    if n_events is not None and n_events < 0:
        raise ValueError(f"n_events must be 0 or more, received {n_events}")
