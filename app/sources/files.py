"""Files as sources: which reader a suffix asks for, in chunks, and what can be wrong with a file.

CSV and JSON lines may be compressed by gzip. No format is ever held in memory as a whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.sources import json_lines
from app.sources.cells import read_labels
from app.sources.options import KEY_NAMES, LABEL_NAMES, SourceOptions, choose_columns, guess_column
from app.sources.source import Event, Source, SourceError
from app.sources.tables import read_events

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ROWS = 20_000

MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""What stands in a CSV file where there is no number, as in pandas. Entities and classes may be called so."""

SUFFIXES = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def open_file(path: Path, options: SourceOptions, *, name: str = "", entity: str = "") -> Source:
    """Open a file as a source; its columns are chosen from the first chunk.

    Parameters
    ----------
    path : Path
        A file whose suffix is one of `SUFFIXES`, followed by `.gz` or not.
    options : SourceOptions
        Columns and times.
    name : str
        For messages; the path if empty.
    entity : str
        Key of the events of a file without keys; the file's name without suffixes if empty.

    Raises
    ------
    SourceError
        No such file, unknown format, an empty file or a column that does not exist.
    """
    source = name or str(path)
    entity = entity or path.name.split(".")[0]
    file_format = find_format(path)
    if file_format is None:
        raise SourceError(f"{source}: unknown format; known are {', '.join(SUFFIXES)} (and .gz after it)")
    if not path.is_file():
        raise SourceError(f"no such file: {source}")
    if file_format == "jsonl" and next(_guarded(_first_is_event, path, source)):
        read = partial(_guarded, partial(json_lines.read_contract_events, entity=entity), path, source)
        return Source(source, "events as they are", None, read)
    chunks = partial(_guarded, _READERS[file_format](options), path, source)
    first = next(iter(chunks()), None)
    if first is None or not len(first):
        raise SourceError(f"{source}: the file has no rows")
    columns = choose_columns(options, [str(column) for column in first.columns], _numeric(first), source)

    def read_table() -> Iterator[Event]:
        return read_events(chunks(), columns, options, source=source, entity=entity)

    n_rows = next(_guarded(_parquet_rows, path, source)) if file_format == "parquet" else None
    return Source(source, str(columns), n_rows, read_table)


def find_format(path: Path) -> str | None:
    """Return the format that a path's suffix names.

    Examples
    --------
    >>> find_format(Path("a/readings.csv.gz")), find_format(Path("readings.pq")), find_format(Path("fleet"))
    ('csv', 'parquet', None)
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"] and SUFFIXES.get("".join(suffixes[-2:-1])) != "parquet":
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def _first_is_event(path: Path, source: str) -> Iterator[bool]:
    yield json_lines.holds_events(path, source)


def _csv_chunks(path: Path, source: str, options: SourceOptions) -> Iterator[pd.DataFrame]:
    import pandas as pd

    names = [str(name) for name in pd.read_csv(path, nrows=0).columns]
    key = options.key_column or guess_column(names, KEY_NAMES)
    label = options.label_column or guess_column(names, LABEL_NAMES)
    has_labels = label in names and label != key and label not in options.feature_columns
    # A key such as 007 is text, whatever it looks like; what a label is, is told by its cell alone.
    texts = [name for name in (key, label if has_labels else None) if name in names]
    dtype: Any = dict.fromkeys(texts, str)
    missing: Any = {name: [""] if name in texts else MISSING for name in names}
    with pd.read_csv(
        path, chunksize=CHUNK_ROWS, dtype=dtype, low_memory=False, keep_default_na=False, na_values=missing
    ) as reader:
        for chunk in reader:
            if has_labels:
                chunk[label] = pd.Series(read_labels(chunk[label].tolist()), chunk.index, object)
            yield chunk


def _parquet_chunks(path: Path, source: str) -> Iterator[pd.DataFrame]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=CHUNK_ROWS):
            yield batch.to_pandas()


def _parquet_rows(path: Path, source: str) -> Iterator[int]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        yield file.metadata.num_rows


_READERS: dict[str, Callable[[SourceOptions], Callable[[Path, str], Iterator[Any]]]] = {
    "csv": lambda options: partial(_csv_chunks, options=options),
    "jsonl": lambda options: partial(json_lines.read_chunks, n_rows=CHUNK_ROWS),
    "parquet": lambda options: _parquet_chunks,
}


def _guarded(reader: Callable[[Path, str], Iterator[Any]], path: Path, source: str) -> Iterator[Any]:
    """Run a reader; what the libraries below raise becomes one line that names the file."""
    import pandas as pd

    try:
        yield from reader(path, source)
    except SourceError:
        raise
    except pd.errors.EmptyDataError:
        raise SourceError(f"{source}: the file is empty") from None
    # Arrow's errors and pandas' ParserError are ValueErrors too.
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise SourceError(f"{source}: cannot be read: {reason}") from None


def _numeric(frame: pd.DataFrame) -> set[str]:
    import pandas as pd

    return {str(name) for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])}
