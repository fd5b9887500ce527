"""Sources: where replay takes events from; files (CSV, JSON lines, Parquet), data sets, simulations.

`open_source(name, options)` is the door. The modules: `source` (the event and the error), `options` (what
a user may choose, and guesses), `times` and `tables` (columns to events), `files` and `json_lines`
(formats), `fleet`, `payments` (simulated) and `data_sets` (names).
"""

from app.sources.data_sets import DATA_SETS, open_source
from app.sources.options import SourceOptions
from app.sources.source import Event, Source, SourceError

__all__ = ["DATA_SETS", "Event", "Source", "SourceError", "SourceOptions", "open_source"]
