"""Events from tables: chunks of rows in, events out. Which file the chunks come from is left to `files`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from app.sources.options import Columns, SourceOptions
from app.sources.source import Event, Label, Number, SourceError
from app.sources.times import to_epoch_seconds
from compute.simulation import DEFAULT_START_SECONDS

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_INTERVAL_SECONDS = 1.0


def read_events(
    chunks: Iterable[pd.DataFrame], columns: Columns, options: SourceOptions, *, source: str, entity: str
) -> Iterator[Event]:
    """Turn chunks of rows into events, in the order of the rows.

    Parameters
    ----------
    chunks : iterable of pandas.DataFrame
        Consecutive parts of one table.
    columns : Columns
        Which column means what.
    options : SourceOptions
        Times and entities where the table has none.
    source : str
        For messages.
    entity : str
        Key of the events where the table has none; with `options.entities` rows are dealt out in turn to
        `<entity>-0`, `<entity>-1`, ...

    Raises
    ------
    SourceError
        A cell cannot be read; names the column and the row, the first row of data being 1.
    """
    n_rows = 0
    for chunk in chunks:
        keys = _keys(chunk, columns, options, source, entity, n_rows)
        times = _times(chunk, columns, options, source, n_rows)
        labels = _labels(chunk[columns.label], source, n_rows) if columns.label else repeat(None)
        names = columns.features
        values = [_numbers(chunk[name], name, source, n_rows) for name in names]
        for key, time, label, row in zip(keys, times, labels, zip(*values, strict=True), strict=False):
            yield Event(key, time, dict(zip(names, row, strict=True)), label)
        n_rows += len(chunk)


def _keys(
    chunk: pd.DataFrame, columns: Columns, options: SourceOptions, source: str, entity: str, n_before: int
) -> Iterable[bytes]:
    if columns.key is None:
        if options.entities is None:
            return repeat(entity.encode())
        keys = [f"{entity}-{number}".encode() for number in range(options.entities)]
        return (keys[(n_before + row) % len(keys)] for row in range(len(chunk)))
    column = chunk[columns.key]
    empty = np.flatnonzero((column.isna() | (column == "")).to_numpy(dtype=bool))
    if len(empty):
        raise SourceError(f"{source}: column {columns.key!r}, row {n_before + int(empty[0]) + 1}: no key")
    return [str(value).encode() for value in column.tolist()]


def _times(
    chunk: pd.DataFrame, columns: Columns, options: SourceOptions, source: str, n_before: int
) -> Iterable[float]:
    if columns.time is not None:
        times = to_epoch_seconds(
            chunk[columns.time], options.time_unit, source=source, first_row=n_before + 1
        )
    else:
        start = DEFAULT_START_SECONDS if options.start_seconds is None else options.start_seconds
        interval = options.interval_seconds or DEFAULT_INTERVAL_SECONDS
        rows = np.arange(n_before, n_before + len(chunk))
        n_dealt = options.entities if columns.key is None and options.entities else 1
        times = np.round(start + rows * (interval / n_dealt), 6)
    return times.tolist()  # type: ignore[no-any-return]


def _numbers(column: pd.Series, name: str, source: str, n_before: int) -> list[Number | None]:
    """Return Python numbers, None for empty cells."""
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column):
        numbers = pd.to_numeric(column, errors="coerce")
        wrong = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
        if len(wrong):
            row = int(wrong[0])
            raise SourceError(
                f"{source}: column {name!r}, row {n_before + row + 1}: {str(column.iloc[row])!r} is no number"
            )
        column = numbers
    if pd.api.types.is_bool_dtype(column):
        column = column.astype("Int64")  # which some of them may lack
    if pd.api.types.is_integer_dtype(column) and not column.hasnans:
        return list(column.tolist())
    values = column.to_numpy(dtype=np.float64, na_value=math.nan)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        row = int(infinite[0])
        raise SourceError(f"{source}: column {name!r}, row {n_before + row + 1}: {values[row]} is not finite")
    if np.isnan(values).any():
        return [None if value != value else value for value in values.tolist()]
    return list(values.tolist())


def _labels(column: pd.Series, source: str, n_before: int) -> list[Label]:
    """Return text, numbers and booleans, None for empty cells."""
    labels: list[Label] = []
    for row, (value, is_empty) in enumerate(
        zip(column.astype(object).tolist(), column.isna().tolist(), strict=True)
    ):
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, Decimal):
            plain = float(plain)
        if not is_empty and not isinstance(plain, str | int | float):
            where = f"{source}: column {str(column.name)!r}, row {n_before + row + 1}"
            raise SourceError(f"{where}: {str(value)[:50]!r} is no label: text, number or boolean needed")
        labels.append(None if is_empty else plain)
    return labels
