"""Event times of a column, as epoch seconds: from numbers, ISO 8601 text or a table's own date type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from app.sources.options import TIME_UNITS
from app.sources.source import SourceError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

LATEST_SECONDS = 1e11  # the year 5138: seconds stay below it, milliseconds of any date after 1973 are above


def to_epoch_seconds(
    column: pd.Series, time_unit: str = "s", *, source: str = "source", first_row: int = 1
) -> npt.NDArray[np.float64]:
    """Convert a column of times.

    Parameters
    ----------
    column : pandas.Series
        Numbers, ISO 8601 text (without a zone: UTC) or dates of pandas.
    time_unit : str
        Unit of numbers: one of `TIME_UNITS`.
    source, first_row
        For messages: the name, and the number of the column's first row.

    Returns
    -------
    ndarray of float64
        Epoch seconds, one for each row.

    Raises
    ------
    SourceError
        A time is missing or wrong; names the row and the value.

    Examples
    --------
    >>> import pandas as pd
    >>> to_epoch_seconds(pd.Series(["1970-01-01T00:00:01Z", "1970-01-01 00:01"])).tolist()
    [1.0, 60.0]
    >>> to_epoch_seconds(pd.Series([1500]), "ms").tolist()
    [1.5]
    """
    import pandas as pd

    where = f"{source}: column {str(column.name)!r}"
    if pd.api.types.is_datetime64_any_dtype(column):
        seconds = _seconds_of_dates(pd.to_datetime(column, utc=True))
    else:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        seconds = numbers * TIME_UNITS[time_unit]
        if not pd.api.types.is_numeric_dtype(column) and np.isnan(seconds).any():
            dates = _seconds_of_dates(pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce"))
            seconds = np.where(np.isnan(seconds), dates, seconds)
    missing = np.flatnonzero(~np.isfinite(seconds))
    if len(missing):
        row = int(missing[0])
        raise SourceError(
            f"{where}, row {first_row + row}: {_shown(column.iloc[row])} is no time; "
            "epoch seconds or ISO 8601 needed"
        )
    far = np.flatnonzero((seconds < 0) | (seconds >= LATEST_SECONDS))
    if len(far):
        row = int(far[0])
        raise SourceError(
            f"{where}, row {first_row + row}: {_shown(column.iloc[row])} is outside 0 to "
            f"{LATEST_SECONDS:.0e} seconds; for milliseconds say --time-unit ms"
        )
    return seconds


def _seconds_of_dates(dates: pd.Series) -> npt.NDArray[np.float64]:
    import pandas as pd

    since = dates - pd.Timestamp(0, tz="UTC")
    # The quotient alone is off by the last bit of a float; microseconds are exact.
    seconds: npt.NDArray[np.float64] = np.asarray(since / pd.Timedelta(seconds=1), dtype=np.float64)
    return seconds.round(6)


def _shown(value: Any) -> str:
    return "an empty cell" if value is None or value != value else repr(str(value))
