"""Sources by name: real streams that an installed package ships, and what is simulated: fleet and payments.

Owns what there is and how each is read. Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.sources.files import find_format, open_file
from app.sources.fleet import open_fleet
from app.sources.options import SourceOptions
from app.sources.payments import open_payments
from app.sources.source import Source, SourceError


@dataclass(frozen=True)
class DataSet:
    """A named source; `file` is inside the package river, what is simulated has `simulate` instead."""

    description: str
    file: str = ""
    n_events: int | None = None
    options: SourceOptions = field(default_factory=SourceOptions)
    simulate: Callable[[SourceOptions], Source] | None = None


DATA_SETS = {
    "shuttle": DataSet(
        "real: 49,097 readings of a space shuttle's nine sensors, 7% labelled anomalies (UCI, by river)",
        "shuttle.csv.gz",
        49_097,
        SourceOptions(label_column="anomaly"),
    ),
    "water-flow": DataSet(
        "real: 1,268 hourly values of a water main with four anomalous stretches (Tecnojest, by river)",
        "water-flow.csv",
        1_268,
        SourceOptions(time_column="Time", feature_columns=("Water flow [l/s]",)),
    ),
    "sp500": DataSet(
        "real: daily returns of ten shares since 2013, one event a day (by river)",
        "sp500.csv.gz",
        None,
        SourceOptions(time_column="date", label_column="next_day_return"),
    ),
    "fleet": DataSet(
        "simulated: machines with daily cycles, noise and labelled faults; --entities and --seed, "
        "without end",
        simulate=open_fleet,
    ),
    "payments": DataSet(
        "simulated: card payments, some of them fraud (the label), whose world changes once with "
        "--change-after; --entities and --seed, without end",
        simulate=open_payments,
    ),
}


def open_source(name: str, options: SourceOptions | None = None) -> Source:
    """Open a file or a named data set.

    Parameters
    ----------
    name : str
        Path of a file, or one of `DATA_SETS` (case, `_` and `-` do not matter).
    options : SourceOptions, optional
        What the user said; a data set's own choices stand behind it.

    Raises
    ------
    SourceError
        There is no such source, or it cannot be read.

    Examples
    --------
    >>> next(iter(open_source("fleet"))).key
    b'machine-0011'
    """
    options = options or SourceOptions()
    path = Path(name)
    known = {key.replace("-", ""): key for key in DATA_SETS}
    data_set_name = known.get(name.lower().replace("-", "").replace("_", ""))
    if data_set_name is None:
        if path.exists() or find_format(path):
            return open_file(path, options)
        raise SourceError(f"no such file or data set: {name}; data sets are {', '.join(DATA_SETS)}")
    data_set = DATA_SETS[data_set_name]
    if data_set.simulate is not None:
        return data_set.simulate(options)
    source = open_file(
        _shipped(data_set.file, data_set_name),
        _merge(options, data_set.options),
        name=data_set_name,
        entity=data_set_name,
    )
    return replace(source, n_events=data_set.n_events)


def _merge(chosen: SourceOptions, defaults: SourceOptions) -> SourceOptions:
    return replace(
        chosen,
        key_column=chosen.key_column or defaults.key_column,
        time_column=chosen.time_column or defaults.time_column,
        label_column=chosen.label_column or defaults.label_column,
        feature_columns=chosen.feature_columns or defaults.feature_columns,
    )


def is_available(name: str) -> bool:
    """Tell whether a named data set can be opened here: older versions of river ship fewer.

    Examples
    --------
    >>> is_available("fleet")
    True
    """
    try:
        return not DATA_SETS[name].file or _shipped(DATA_SETS[name].file, name).is_file()
    except SourceError:
        return False


def _shipped(file: str, name: str) -> Path:
    """Find a file inside river without importing it (which takes a second)."""
    spec = importlib.util.find_spec("river")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "datasets" / file
        if path.is_file():
            return path
    reason = "which is not installed" if spec is None else "but this version does not"
    raise SourceError(f"{name} is shipped by the package river, {reason}: pip install -U river")
