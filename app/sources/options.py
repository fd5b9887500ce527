"""What a user may say about a source's columns and times, and what is guessed when they do not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.sources.source import SourceError

TIME_NAMES = ("timestamp", "time", "ts", "event_time", "datetime", "date")
KEY_NAMES = (
    "key",
    "entity",
    "sensor",
    "sensor_id",
    "device",
    "device_id",
    "machine",
    "machine_id",
    "host",
    "id",
)
LABEL_NAMES = ("label", "anomaly", "is_anomaly")

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class SourceOptions:
    """Choices of a user; None means: guess, or take the source's own default.

    Attributes
    ----------
    key_column, time_column, label_column : str or None
        Columns of the entity, the event time and the label.
    feature_columns : tuple of str
        The features; empty: every other numeric column.
    time_unit : str
        Unit of numeric times: one of `TIME_UNITS`.
    start_seconds : float or None
        Event time of the first event, epoch seconds, where the source has no times.
    interval_seconds : float or None
        Seconds between two events of an entity, where the source has no times.
    entities : int or None
        Machines of the fleet, cards of the payments; number of entities that a source without keys is dealt
        out to, row by row.
    seed : int
        Seed of what is simulated.
    change_after : int or None
        Events of the simulated payments before their world changes.
    """

    key_column: str | None = None
    time_column: str | None = None
    label_column: str | None = None
    feature_columns: tuple[str, ...] = ()
    time_unit: str = "s"
    start_seconds: float | None = None
    interval_seconds: float | None = None
    entities: int | None = None
    seed: int = 0
    change_after: int | None = None

    def __post_init__(self) -> None:
        if self.time_unit not in TIME_UNITS:
            raise SourceError(
                f"time unit must be one of {', '.join(TIME_UNITS)}, received {self.time_unit!r}"
            )
        if self.interval_seconds is not None and not self.interval_seconds > 0:
            raise SourceError(f"interval must be above 0 seconds, received {self.interval_seconds}")
        if self.entities is not None and not 1 <= self.entities <= 10_000_000:
            raise SourceError(f"entities must be from 1 to 10,000,000, received {self.entities}")
        if self.seed < 0:
            raise SourceError(f"seed must be 0 or more, received {self.seed}")
        if self.change_after is not None and self.change_after < 0:
            raise SourceError(f"change after must be 0 events or more, received {self.change_after}")


@dataclass(frozen=True)
class Columns:
    """Which column means what in one table; None where the table has no such column."""

    key: str | None
    time: str | None
    label: str | None
    features: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"key: {self.key or 'none'}, time: {self.time or 'none'}, label: {self.label or 'none'}, "
            f"features: {', '.join(self.features)}"
        )


def choose_columns(
    options: SourceOptions, names: Sequence[str], numeric: Collection[str], source: str
) -> Columns:
    """Choose the columns of a table.

    Parameters
    ----------
    options : SourceOptions
        What the user said.
    names : sequence of str
        Columns that exist.
    numeric : collection of str
        Those that hold numbers.
    source : str
        For messages.

    Raises
    ------
    SourceError
        A column that the user named does not exist, or no numeric column is left.

    Examples
    --------
    >>> names = ["Sensor", "time", "heat", "note", "anomaly"]
    >>> print(choose_columns(SourceOptions(), names, {"heat", "anomaly"}, "file.csv"))
    key: Sensor, time: time, label: anomaly, features: heat
    """
    for column in (options.key_column, options.time_column, options.label_column, *options.feature_columns):
        if column is not None and column not in names:
            raise SourceError(f"{source}: no column {column!r}; there are: {', '.join(names)}")
    key = options.key_column or guess_column(names, KEY_NAMES)
    time = options.time_column or guess_column(names, TIME_NAMES)
    label = options.label_column or guess_column(names, LABEL_NAMES)
    features = options.feature_columns or tuple(
        name
        for name in names
        # A nameless column is a row number that some tool left behind.
        if name in numeric and name not in (key, time, label) and not name.startswith("Unnamed:")
    )
    if not features:
        raise SourceError(f"{source}: no numeric column for the features; there are: {', '.join(names)}")
    return Columns(key, time, label, features)


def guess_column(names: Sequence[str], candidates: Sequence[str]) -> str | None:
    """Return the first column that has one of the candidates' names, whatever its case."""
    by_lower = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in reversed(names)}
    return next((by_lower[candidate] for candidate in candidates if candidate in by_lower), None)
