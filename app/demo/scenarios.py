"""Scenarios of the demo: which stream, how fast, and the settings of the worker that suit it.

All of them run with the present as event time, so the window is short: what took hours when it was recorded
goes by in a minute here. What a user has set in the environment goes before what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from app.sources import SourceOptions
from app.sources.data_sets import is_available


@dataclass(frozen=True)
class Scenario:
    """A stream to show.

    Attributes
    ----------
    title : str
        What a person reads.
    source : str
        A name that `open_source` knows.
    rate : float
        Events per second.
    options : SourceOptions
        How the source is read.
    settings : dict
        Environment of the worker.
    """

    title: str
    source: str
    rate: float
    options: SourceOptions = field(default_factory=SourceOptions)
    settings: dict[str, str] = field(default_factory=dict)


SCENARIOS = {
    "shuttle": Scenario(
        "a space shuttle's nine sensors, 49,097 real readings dealt out to 8 entities",
        "shuttle",
        500.0,
        SourceOptions(entities=8),
        {"NOWCAST_WINDOW_SECONDS": "60", "NOWCAST_ALERT_COOLDOWN_SECONDS": "10"},
    ),
    "water-flow": Scenario(
        "two months of a real water main, hour by hour",
        "water-flow",
        20.0,
        settings={"NOWCAST_WINDOW_SECONDS": "30", "NOWCAST_ALERT_COOLDOWN_SECONDS": "5"},
    ),
    "fleet": Scenario(
        "20 simulated machines with faults, a minute between two readings of each",
        "fleet",
        500.0,
        SourceOptions(entities=20, interval_seconds=60.0),
        {"NOWCAST_WINDOW_SECONDS": "60", "NOWCAST_ALERT_COOLDOWN_SECONDS": "10"},
    ),
}


def default_scenario() -> str:
    """Return the name of the first scenario whose source is installed."""
    return next(name for name, scenario in SCENARIOS.items() if is_available(scenario.source))


def find_scenario(name: str) -> Scenario:
    """Return a scenario by name; case, `_` and `-` do not matter.

    Raises
    ------
    ValueError
        There is none of that name.

    Examples
    --------
    >>> find_scenario("waterflow").rate
    20.0
    """
    plain = {key.replace("-", ""): scenario for key, scenario in SCENARIOS.items()}
    try:
        return plain[name.lower().replace("-", "").replace("_", "")]
    except KeyError:
        raise ValueError(f"SCENARIO must be one of {', '.join(SCENARIOS)}, received {name!r}") from None
