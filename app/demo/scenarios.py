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
    label_delay_seconds : float
        How much later than its event a label is sent; 0: with it.
    change_seconds : float
        How long after the last promotion the world changes; 0: it never does. The story of it is told.
    """

    title: str
    source: str
    rate: float
    options: SourceOptions = field(default_factory=SourceOptions)
    settings: dict[str, str] = field(default_factory=dict)
    label_delay_seconds: float = 0.0
    change_seconds: float = 0.0


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
    # Drift takes two windows of the model that serves: one to know what is usual, and one to compare with it.
    "learning": Scenario(
        "simulated payments of 50 cards whose labels come late: a model is trained and promoted, the world "
        "changes, and it learns again",
        "payments",
        500.0,
        SourceOptions(entities=50),
        {
            "NOWCAST_WINDOW_SECONDS": "10",
            "NOWCAST_PANES": "10",
            "NOWCAST_ALERT_COOLDOWN_SECONDS": "10",
            "NOWCAST_LABEL_DELAY_SECONDS": "30",
            "NOWCAST_EVALUATION_SECONDS": "2",
            "NOWCAST_TRAIN_TASK": "classification",
            "NOWCAST_TRAIN_AFTER_LABELS": "2500",
            "NOWCAST_WARMUP_EVENTS": "20",
            "NOWCAST_TRAIN_ON_DRIFT": "true",
            "NOWCAST_TRAIN_EVENTS": "2500",
            "NOWCAST_PROMOTION": "by_rule",
            "NOWCAST_ONLINE_TASK": "classification",
            "NOWCAST_DRIFT": "true",
            "NOWCAST_DRIFT_REFERENCE_EVENTS": "1000",
        },
        label_delay_seconds=2.5,
        change_seconds=25.0,
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
