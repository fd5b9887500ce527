"""JSON lines: events in the form of the contract pass through, flat objects become chunks of rows."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from app.sources.source import Event, Label, SourceError
from app.sources.times import LATEST_SECONDS

if TYPE_CHECKING:
    import pandas as pd


class _Line(msgspec.Struct):
    timestamp: float | datetime
    features: dict[str, int | float | None]
    key: str | int | None = None
    label: Label = None
    id: str | None = None


def holds_events(path: Path, source: str) -> bool:
    """Tell whether the first object of a file is an event as the contract has it."""
    for _, record in _records(path, source):
        return isinstance(record.get("features"), dict)
    raise SourceError(f"{source}: the file is empty")


def read_contract_events(path: Path, source: str, entity: str) -> Iterator[Event]:
    """Read events that are already in the form of the contract; `entity` is the key of those without one."""
    decode = msgspec.json.Decoder(_Line).decode
    for row, line in _lines(path, source):
        try:
            item = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceError(f"{source}: row {row}: {error}") from None
        if isinstance(item.timestamp, datetime):
            moment = item.timestamp
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
        else:
            seconds = item.timestamp
        if not 0 <= seconds < LATEST_SECONDS:
            raise SourceError(
                f"{source}: row {row}: timestamp {seconds} is outside 0 to {LATEST_SECONDS:.0e} seconds"
            )
        key = entity if item.key in (None, "") else str(item.key)
        yield Event(key.encode(), seconds, item.features, item.label, item.id)


def read_chunks(path: Path, source: str, n_rows: int) -> Iterator[pd.DataFrame]:
    """Read flat objects as chunks of at most `n_rows` rows."""
    import pandas as pd

    records = _records(path, source)
    while chunk := [record for _, record in islice(records, n_rows)]:
        yield pd.DataFrame.from_records(chunk)


def _records(path: Path, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for row, line in _lines(path, source):
        try:
            yield row, decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceError(f"{source}: row {row}: not a JSON object: {error}") from None


def _lines(path: Path, source: str) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for row, line in enumerate(file, 1):
            if not line.isspace():
                yield row, line
