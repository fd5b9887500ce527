"""`faust -A app dead-letters ...`: what could not be processed, and sending it to its source topic again.

Owns what people type and read; the topic is the business of `app/dead_letters/`.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click
from faust.cli.base import cli, option
from tqdm import tqdm

from app.commands.one_shot import OneShot, Subcommand, iso_time, stop_on_signals
from app.dead_letters.records import Choice
from app.dead_letters.retrying import retry_letters
from app.dead_letters.survey import OfCode, Sample, Survey
from app.replay import open_producer
from app.settings import Settings
from app.topic_reading import TopicReading, open_topic
from app.topics import StartError
from compute.event_faults import EventError, shown
from compute.event_times import epoch_seconds, parse_iso_8601

CHOICE_OPTIONS = [
    option("--code", "codes", multiple=True, help="Only this code; may be given more than once."),
    option("--topic", help="Only events of this source topic."),
    option("--since", help="Dead letters from this time on (epoch seconds or ISO 8601, without a zone UTC)."),
    option("--until", help="Dead letters before this time."),
]

LIST_OPTIONS = [
    *CHOICE_OPTIONS,
    option("--samples", type=click.IntRange(min=0), default=3, help="Latest so many of each code."),
]

RETRY_OPTIONS = [
    *CHOICE_OPTIONS,
    option("--limit", type=click.IntRange(min=1), help="Stop after this many events."),
    option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing."),
]

_HEADERS = ("code", "events", "retried", "first", "last")


def register(app: Any) -> None:
    """Add the group `dead-letters` to the application's commands."""
    group = click.Group("dead-letters", help="List events that could not be processed; send them again.")
    Subcommand.add_to(group, "list", list_letters, LIST_OPTIONS)
    Subcommand.add_to(group, "retry", retry, RETRY_OPTIONS)
    cli.add_command(group)


async def list_letters(command: OneShot, samples: int, **options: Any) -> None:
    """List dead letters by code: how many, how many of them were retried, from when to when, samples."""
    choice = read_choice(**options)
    async with _open(command.settings) as reading:
        survey = await _survey(reading, choice, samples)
    found_by_code = survey.by_code()
    if command.json:
        described = [_describe_code(survey, code, found) for code, found in found_by_code.items()]
        command.say(json.dumps(described))
        return
    if not found_by_code:
        command.say(f"no dead letter in {command.settings.topic_dead_letters} fits")
    else:
        rows = [
            [
                shown(code),
                f"{found.n:,}",
                f"{survey.n_retried(code):,}",
                iso_time(found.first),
                iso_time(found.last),
            ]
            for code, found in found_by_code.items()
        ]
        command.say(command.tabulate(rows, headers=_HEADERS, wrap_last_row=False))
    for code, found in found_by_code.items():
        for sample in found.samples:
            _say_sample(command, code, _describe(survey, sample))
    if survey.n_foreign:
        command.say(f"{survey.n_foreign:,} records of another kind, left out")


async def retry(command: OneShot, limit: int | None, dry_run: bool, **options: Any) -> None:
    """Send dead letters to their source topic again: original bytes, key and headers, each once.

    An event that was sent once is not sent by a second retry; one that fails anew is a new dead letter.
    """
    choice = read_choice(**options)
    settings = command.settings
    dead_letters = settings.topic_dead_letters
    async with _open(settings) as reading:
        survey = await _survey(reading, choice)
        offsets = survey.open_offsets()
        topics = {topic for topic, _ in offsets}
        if missing := sorted(topics - reading.topics):
            raise StartError(
                f"source topic {shown(missing[0])!r} does not exist; create it, or choose with --topic"
            )
        if dead_letters in topics:
            raise StartError(f"dead letters that name {dead_letters!r} as their source cannot be sent back")
        n_open = sum(map(len, offsets.values()))
        n_found = sum(found.n for found in survey.by_code().values())
        already = f"; {n_found - n_open:,} were retried before" if n_found > n_open else ""
        total = n_open if limit is None else min(limit, n_open)
        to = f" to {', '.join(sorted(topics))}" if topics else ""
        if dry_run:
            command.say(f"would send {total:,} of {n_open:,} events{to}{already}")
            return
        stopping = stop_on_signals()
        bar = tqdm(
            total=total, unit=" events", desc="retry", disable=True if command.quiet else None, leave=False
        )
        async with open_producer(settings) as producer:
            with bar:
                done = await retry_letters(
                    reading,
                    producer,
                    offsets,
                    limit=limit,
                    stopping=stopping,
                    on_sent=bar.update,
                )
    ending = ", stopped" if stopping.is_set() else ""
    command.say(f"{done.n_sent:,} events sent{to}{already}{ending}")
    if done.n_refused:
        raise StartError(f"{done.n_refused:,} events cannot be sent, the first is {done.refusal}")


def read_choice(codes: tuple[str, ...], topic: str | None, since: str | None, until: str | None) -> Choice:
    """Return which dead letters the options choose.

    Raises
    ------
    StartError
        A time cannot be read, or `until` is not after `since`.
    """
    start = -math.inf if since is None else read_time("--since", since)
    end = math.inf if until is None else read_time("--until", until)
    if end <= start:
        raise StartError(f"--until: must be after --since ({since}), received {until}")
    return Choice(frozenset(codes), topic, start, end)


def read_time(name: str, text: str) -> float:
    """Return epoch seconds of a number or an ISO 8601 time (without a zone: UTC).

    Examples
    --------
    >>> read_time("--since", "1700000000.5"), read_time("--since", "2026-01-01")
    (1700000000.5, 1767225600.0)
    """
    try:
        seconds = float(text)
    except ValueError:
        try:
            return float(epoch_seconds([parse_iso_8601(text)])[0])
        except EventError:
            seconds = math.nan
    if not math.isfinite(seconds):
        raise StartError(f"{name}: epoch seconds or ISO 8601 needed, received {text!r}")
    return seconds


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[TopicReading]:
    topic = settings.topic_dead_letters
    async with open_topic(settings, topic) as reading:
        if reading is None:
            raise StartError(
                f"topic {topic!r} (NOWCAST_TOPIC_DEAD_LETTERS) does not exist at {settings.broker}; "
                "a worker creates it when it starts"
            )
        yield reading


async def _survey(reading: TopicReading, choice: Choice, n_samples: int = 0) -> Survey:
    survey = Survey(choice, n_samples)
    async for records in reading.read_all():
        survey.add(records)
    return survey


def _describe_code(survey: Survey, code: str, found: OfCode) -> dict[str, Any]:
    return {
        "code": code,
        "events": found.n,
        "retried": survey.n_retried(code),
        "first": iso_time(found.first),
        "last": iso_time(found.last),
        "samples": [_describe(survey, sample) for sample in found.samples],
    }


def _describe(survey: Survey, sample: Sample) -> dict[str, Any]:
    topic, partition = sample.place
    return {
        "key": sample.key,
        "topic": shown(topic),
        "partition": partition,
        "offset": sample.offset,
        "time": iso_time(sample.seconds),
        "retried": survey.is_retried(sample),
        "message": sample.message,
        "value": sample.value,
    }


def _say_sample(command: OneShot, code: str, sample: dict[str, Any]) -> None:
    event_id = f"{sample['topic']}-{sample['partition']}-{sample['offset']}"
    key = "no key" if sample["key"] is None else f"key {sample['key']}"
    retried = ", retried" if sample["retried"] else ""
    command.say(f"\n{shown(code)}  {event_id}, {key}, {sample['time']}{retried}")
    command.say(f"    {sample['message']}")
    command.say(f"    {'no value' if sample['value'] is None else sample['value']}")
