"""What is asked of a training, read from a command's options and the settings, and checked at once.

Owns names and bounds. What `compute/training/` checks itself (metrics, numbers of folds) is left to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.settings import Settings
from app.topics import StartError
from compute.event_faults import EventError
from compute.event_times import epoch_seconds, parse_iso_8601

OWN_LABEL = "label"
"""Target that is no feature: what an event is labelled with."""

Offsets = Mapping["int | None", int]
"""Offsets by partition; under None that of every other partition."""


@dataclass(frozen=True)
class Request:
    """One training.

    Attributes
    ----------
    task : {"classification", "regression"}
    target : str
        `OWN_LABEL`, or a feature that is predicted from the others.
    name : str
        Name of the model.
    features : tuple of str
        Empty: all that most events have, but for the target.
    normaliser : {"window", "none"}
    missing : {"mean", "reject"}
    max_events : int
        Labelled events that are held.
    candidates : tuple of str
        Empty: all.
    positive : str
        Class whose probability is the score; empty: the last one in sorted order.
    from_seconds, to_seconds : float
        Event times of the rows, from the first and before the second.
    from_offsets, to_offsets : mapping
        Where reading a topic begins and ends; empty: where that is found out.
    """

    task: str
    target: str
    name: str
    features: tuple[str, ...] = ()
    normaliser: str = "window"
    missing: str = "mean"
    max_events: int = 20_000
    candidates: tuple[str, ...] = ()
    positive: str = ""
    from_seconds: float = -math.inf
    to_seconds: float = math.inf
    from_offsets: Offsets = field(default_factory=dict)
    to_offsets: Offsets = field(default_factory=dict)

    def predicting(self, target: str) -> Request:
        """Return the same with another target."""
        return replace(self, target=target)


def read_request(settings: Settings, options: Mapping[str, Any]) -> Request:
    """Return what the options of `train` ask for; the settings stand behind them.

    Raises
    ------
    StartError
        An option is missing or wrong.
    """
    task = options["task"] or settings.train_task
    if not task:
        raise StartError("--task: classification or regression needed (or NOWCAST_TRAIN_TASK)")
    target, features = options["target"], names_of(options["features"])
    name = options["name"] or settings.train_name
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,200}", name):
        raise StartError(f"--name: 1 to 200 letters, digits, dots, dashes and underscores, received {name!r}")
    if target in features:
        raise StartError(f"--features: must not name the target {target!r}")
    if len(set(features)) < len(features):
        raise StartError(f"--features: names must differ, received {', '.join(features)}")
    if options["positive"] and task == "regression":
        raise StartError(f"--positive: a regression has no classes, received {options['positive']!r}")
    from_seconds, from_offsets = read_bound("--from", options["from_"])
    to_seconds, to_offsets = read_bound("--to", options["to"])
    if from_seconds is not None and to_seconds is not None and to_seconds <= from_seconds:
        raise StartError(f"--to: must be after --from ({options['from_']}), received {options['to']}")
    return Request(
        task=task,
        target=target,
        name=name,
        features=features,
        normaliser=options["normaliser"],
        missing=options["missing"],
        max_events=options["max_events"] or settings.train_events,
        candidates=names_of(options["candidates"]),
        positive=options["positive"] or settings.positive_class,
        from_seconds=-math.inf if from_seconds is None else from_seconds,
        to_seconds=math.inf if to_seconds is None else to_seconds,
        from_offsets=from_offsets,
        to_offsets=to_offsets,
    )


def names_of(text: str | None) -> tuple[str, ...]:
    """Return names that are separated by commas.

    Examples
    --------
    >>> names_of("heat, flow,"), names_of(None)
    (('heat', 'flow'), ())
    """
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def read_bound(option: str, text: str | None) -> tuple[float | None, Offsets]:
    """Return a bound as a time, or as offsets by partition.

    Examples
    --------
    >>> read_bound("--from", "2026-01-01"), read_bound("--from", "offset:1200")
    ((1767225600.0, {}), (None, {None: 1200}))
    >>> read_bound("--to", "offset:0=1200,3=900")
    (None, {0: 1200, 3: 900})
    """
    if text is None:
        return None, {}
    if text.startswith("offset:"):
        return None, _read_offsets(option, text)
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = float(epoch_seconds([parse_iso_8601(text)])[0])
        except EventError:
            seconds = math.nan
    if not math.isfinite(seconds):
        raise StartError(
            f"{option}: epoch seconds, ISO 8601, offset:N or offset:PARTITION=N,... needed, received {text!r}"
        )
    return seconds, {}


def _read_offsets(option: str, text: str) -> Offsets:
    offsets: dict[int | None, int] = {}
    for part in text.removeprefix("offset:").split(","):
        match = re.fullmatch(r"(?:([0-9]{1,5})=)?([0-9]{1,18})", part.strip())
        if match is None:
            raise StartError(f"{option}: offset:N or offset:PARTITION=N,... needed, received {text!r}")
        offsets[int(match[1]) if match[1] else None] = int(match[2])
    return offsets
