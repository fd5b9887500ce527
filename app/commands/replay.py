"""`faust -A app replay SOURCE`: send the events of a file or a data set to the events topic."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone
from itertools import islice
from typing import Any

import click
from faust.cli.base import argument, option
from tqdm import tqdm

from app.commands.one_shot import OneShot, stop_on_signals
from app.late_labels import LateLabels
from app.pacing import Pace, repeat
from app.replay import open_producer, replay_events
from app.sources import DATA_SETS, SourceError, SourceOptions, open_source
from app.sources.options import TIME_UNITS
from app.topics import ensure_topics

_NOT_NEGATIVE = click.FloatRange(min=0)

OPTIONS = [
    argument("source", required=False),
    option("--list", "list_only", is_flag=True, help="Print the named data sets and end."),
    option(
        "--rate", type=_NOT_NEGATIVE, default=0.0, help="Events per second; 0 (default): as fast as possible."
    ),
    option(
        "--speed",
        type=_NOT_NEGATIVE,
        default=0.0,
        help="Keep the recorded gaps, this many times faster (1: as recorded); with --rate as the limit.",
    ),
    option(
        "--now",
        is_flag=True,
        help="Events carry the time at which they are sent instead of the recorded one.",
    ),
    option(
        "--label-delay",
        type=_NOT_NEGATIVE,
        help="Events go without their labels; these follow on the labels topic, so many seconds later.",
    ),
    option("--topic", help="Topic to send to; default: the events topic of the settings."),
    option("--limit", type=click.IntRange(min=1), help="Stop after this many events."),
    # Not --loop: Faust searches the command line for that name and takes it as its event loop.
    option("--repeat", is_flag=True, help="Start again at the end, with times that go on."),
    option("--key-column", help="Column of the entity."),
    option("--time-column", help="Column of the event time (epoch seconds or ISO 8601)."),
    option("--time-unit", type=click.Choice(list(TIME_UNITS)), default="s", help="Unit of numeric times."),
    option("--label-column", help="Column of the label."),
    option("--feature-columns", help="Columns of the features, a,b,c; default: all other numeric ones."),
    option("--start", help="First event time where the source has none (epoch seconds or ISO 8601)."),
    option("--interval", type=float, help="Seconds between events where the source has no times (1)."),
    option(
        "--entities",
        type=int,
        help="Machines of the fleet (100), cards of the payments (50); elsewhere deal rows without a key out "
        "to so many entities.",
    ),
    option("--seed", type=int, default=0, help="Seed of what is simulated."),
    option("--change-after", type=int, help="Events of the payments before their world changes (never)."),
]


def register(app: Any) -> None:
    """Add `replay` to the application's commands."""
    app.command(*OPTIONS, base=OneShot)(replay)


async def replay(command: OneShot, source: str | None, **options: Any) -> None:
    """Send the events of SOURCE to Kafka.

    SOURCE is a CSV, JSON-lines or Parquet file (.gz too) or a named data set (--list). Columns not
    named are guessed and shown. Ctrl-C stops; what was sent until then is there.
    """
    if options["list_only"]:
        for name, data_set in DATA_SETS.items():
            print(f"{name:12} {data_set.description}")
        return
    if not source:
        raise SourceError(f"replay what? Name a file or one of {', '.join(DATA_SETS)}")
    opened = open_source(source, source_options(options))
    topic = options["topic"] or command.settings.topic_events
    limit, delay = options["limit"], options["label_delay"]
    late_labels = None if delay is None else LateLabels(command.settings.topic_labels, delay)
    command.say(f"{opened.name}: {opened.description}")
    await ensure_topics(command.settings.model_copy(update={"topic_events": topic}))
    stopping = stop_on_signals()
    events = islice(repeat(opened) if options["repeat"] else opened, limit)
    n_known = None if options["repeat"] else opened.n_events
    total = min((n for n in (limit, n_known) if n is not None), default=None)
    # None: no bar where nobody looks, in a pipe or a log.
    bar = tqdm(total=total, unit=" events", desc=topic, disable=True if command.quiet else None, leave=False)
    async with open_producer(command.settings) as producer:
        with bar:
            summary = await replay_events(
                events,
                producer,
                topic,
                pace=Pace(options["rate"], options["speed"], options["now"]),
                stopping=stopping,
                on_sent=bar.update,
                late_labels=late_labels,
            )
    ending = ", stopped" if stopping.is_set() else ""
    if late_labels is not None:
        ending = f", {summary.n_labels:,} labels to {command.settings.topic_labels}{ending}"
    command.say(
        f"{summary.n_events:,} events to {topic} in {summary.seconds:.2f} s "
        f"({summary.events_per_second:,.0f} events/s){ending}"
    )


def source_options(options: dict[str, Any]) -> SourceOptions:
    """Read what concerns the source from the command's options."""
    features = tuple(name.strip() for name in (options["feature_columns"] or "").split(",") if name.strip())
    return SourceOptions(
        key_column=options["key_column"],
        time_column=options["time_column"],
        label_column=options["label_column"],
        feature_columns=features,
        time_unit=options["time_unit"],
        start_seconds=None if options["start"] is None else read_start(options["start"]),
        interval_seconds=options["interval"],
        entities=options["entities"],
        seed=options["seed"],
        change_after=options["change_after"],
    )


def read_start(text: str) -> float:
    """Return epoch seconds of a number or an ISO 8601 time (without a zone: UTC).

    Examples
    --------
    >>> read_start("1700000000.5"), read_start("2026-01-01T00:00:00Z")
    (1700000000.5, 1767225600.0)
    """
    with contextlib.suppress(ValueError):
        return float(text)
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise SourceError(f"--start: epoch seconds or ISO 8601 needed, received {text!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
