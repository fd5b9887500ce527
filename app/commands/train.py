"""`faust -A app train [SOURCE]`: choose, fit, check and publish a model.

Owns what people type and read. It is a process of its own, which goes behind whatever scores on the same
machine. The libraries that train are loaded when it runs: a worker, which has this command too, does without
them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import click
from faust.cli.base import argument, option
from tqdm import tqdm

from app.commands.one_shot import OneShot, iso_time, stop_on_signals
from app.commands.replay import source_options
from app.sources.options import TIME_UNITS
from app.topics import StartError, ensure_topics
from app.training.parent import end_with_parent
from app.training.request import Request, read_request
from compute.artefact import ArtefactError, load_artefact
from compute.training.fault import TrainingError
from tables.artefact_records import publish
from tables.keys import KeyFileError
from tables.model_topic import TopicError
from tables.model_writing import ModelWriter
from tables.priority import go_second

_POSITIVE = click.IntRange(min=1)

OPTIONS = [
    argument("source", required=False),
    option(
        "--target", default="label", help="What to predict: label (default), a label's column or a feature."
    ),
    option("--task", type=click.Choice(["classification", "regression"])),
    option("--name", help="Name of the model; default: NOWCAST_TRAIN_NAME."),
    option(
        "--positive", help="Class that alerts are about; default: NOWCAST_POSITIVE_CLASS, or the last one."
    ),
    option("--features", help="Features, a,b,c; default: all that most events have, but for the target."),
    option(
        "--normaliser",
        type=click.Choice(["window", "none"]),
        default="window",
        help="Input: z-scores by the entity's window (default), or raw values, standardised in the model.",
    ),
    option(
        "--missing",
        type=click.Choice(["mean", "reject"]),
        default="mean",
        help="A missing feature: its entity's mean (default), or the event is left out and not scored.",
    ),
    option("--candidates", help="Of linear,svm,tree,forest,boosting,neighbours; default: all."),
    option("--metric", default="", help="Decides; default: log_loss, or mae for a regression."),
    option("--folds", type=int, default=5, help="Of the cross-validation (5)."),
    option("--trials", type=int, default=5, help="Sets of parameters tried of each candidate (5)."),
    option("--gap", type=click.IntRange(min=0), help="Events left out before what judges; default: 1%."),
    option(
        "--held-out", type=float, default=0.2, help="Share of the events, the last ones, for the end (0.2)."
    ),
    option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Of all that is drawn at random."),
    option("--max-events", type=_POSITIVE, help="Newest labelled events; default: NOWCAST_TRAIN_EVENTS."),
    option("--from", "from_", help="First event time, or offset:N, or offset:PARTITION=N,..."),
    option("--to", help="Event time to stop before, or offsets in the same form."),
    option("--champion", "role", flag_value="champion", help="Let it serve at once."),
    option("--challenger", "role", flag_value="challenger", help="Let it challenge, whatever it beats."),
    option("--no-publish", "role", flag_value="none", help="Publish nothing."),
    option(
        "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for table, plot and model."
    ),
    option("--by", default="", help="Who trains, for the audit trail; default: the user."),
    option("--reason", default="", help="Why, for the audit trail."),
    option("--jobs", type=_POSITIVE, default=1, help="Threads (1)."),
    option("--supervised", is_flag=True, hidden=True, help="End as soon as standard input does."),
    option("--limit", type=_POSITIVE, help="SOURCE: stop after this many events."),
    option("--key-column", help="SOURCE: column of the entity."),
    option("--time-column", help="SOURCE: column of the event time."),
    option("--time-unit", type=click.Choice(list(TIME_UNITS)), default="s", help="SOURCE: of numeric times."),
    option("--start", help="SOURCE: first event time where it has none."),
    option("--interval", type=float, help="SOURCE: seconds between events where it has no times (1)."),
    option("--entities", type=int, help="SOURCE: entities of what is simulated, or rows are dealt out to."),
    option("--change-after", type=int, help="SOURCE: events of the payments before their world changes."),
]


class Train(OneShot):
    """Base of the command."""

    abstract: ClassVar[bool] = True

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command; whatever ends it without a model is one line."""
        try:
            super().__call__(*args, **kwargs)
        except (TrainingError, ArtefactError, KeyFileError, TopicError) as error:
            self._fail(str(error))


def register(app: Any) -> None:
    """Add `train` to the application's commands."""
    app.command(*OPTIONS, base=Train)(train)


async def train(command: OneShot, source: str | None, **options: Any) -> None:
    """Train a model on the labelled events of SOURCE, or on what the topics hold.

    SOURCE is a CSV, JSON-lines or Parquet file (.gz too) or a named data set. Without it the newest labelled
    events are read back from Kafka. Candidates are compared by cross-validation that respects time; the best
    one that ONNX answers for faithfully is published: as a challenger, or as the champion where there is
    none.
    """
    if options["supervised"]:
        end_with_parent()
    go_second()
    from app.training.background import work_in_background
    from app.training.run import Trainer

    wanted = read_request(command.settings, options)
    trainer = Trainer(command.settings, wanted, _plan(wanted, options), time.perf_counter)
    telling, stopping = _Telling(command), stop_on_signals()
    with telling.bar(" events", "read", None) as bar:
        await _read(trainer, source, options, stopping, bar)
    telling.say(trainer.describe_sample())
    with telling.bar(" fits", wanted.task, trainer.n_steps) as bar:

        def work(check: Callable[[], None]) -> Any:
            def step(candidate: str) -> None:
                check()
                bar.set_postfix_str(candidate, refresh=False)
                bar.update()

            return trainer.train(step, lambda line: telling.say_unless(bar, line), options["jobs"])

        trained = await work_in_background(stopping, work)
    telling.say(command.tabulate(trained.table, headers=trained.headers, wrap_last_row=False))
    telling.say(trained.notes)
    if options["out"] is not None:
        files = trained.write(options["out"])
        telling.say(f"written: {', '.join(map(str, files))}")
    told = await _publish(command.settings, trained, options)
    telling.say(told.pop("message"))
    if command.json:
        command.say(json.dumps({**told, "report": trained.report}))


def _plan(wanted: Request, options: Mapping[str, Any]) -> Any:
    from compute.training.plan import Plan

    return Plan(
        task=wanted.task,
        metric=options["metric"],
        n_folds=options["folds"],
        n_trials=options["trials"],
        seed=options["seed"],
        n_jobs=options["jobs"],
        held_out=options["held_out"],
        gap=options["gap"],
    )


async def _read(
    trainer: Any, source: str | None, options: dict[str, Any], stopping: asyncio.Event, bar: Any
) -> None:
    from app.training.background import STOPPED, work_in_background

    if source is None:

        def note(n_events: int) -> None:
            if stopping.is_set():
                raise StartError(STOPPED)
            bar.update(n_events)

        await trainer.read_topics(note)
        return
    columns = source_options({**options, "label_column": None, "feature_columns": None})

    def work(check: Callable[[], None]) -> None:
        def step(n_events: int) -> None:
            check()
            bar.update(n_events)

        trainer.read_source(source, columns, options["limit"], step)

    await work_in_background(stopping, work)


async def _publish(settings: Any, trained: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Publish what was trained as the options say; return what came of it."""
    name, version, role = trained.name, trained.version, options["role"]
    told: dict[str, Any] = {"outcome": "not published", "name": name, "version": version}
    if role == "none":
        return {**told, "message": f"{name} version {version or '-'}: not published (--no-publish)"}
    if not version:
        raise TrainingError(f"nothing is published: {trained.why_none}")
    if role is None and not trained.beats_baseline:
        raise TrainingError(
            f"nothing is published: {trained.compared_with_baseline}; --challenger publishes it all the same"
        )
    # What a worker will do with it, on exactly what it will get.
    load_artefact(trained.onnx_bytes, trained.metadata_json, max_bytes=settings.max_artefact_bytes)
    await ensure_topics(settings)
    async with ModelWriter(settings) as writer:
        served = await writer.serving()
    if served == (name, version):
        return {**told, "message": f"{name} version {version} serves already: nothing is published"}
    as_champion = role == "champion" or (role is None and not served[1])
    _, offset = await publish(
        *(settings, name, trained.onnx_bytes, trained.metadata_json),
        role="champion" if as_champion else "challenger",
        by=options["by"],
        reason=options["reason"] or "trained",
        evidence=trained.evidence,
        plot=trained.plot,
        report=json.dumps({"created_at": iso_time(time.time()), **trained.report}).encode(),
    )
    role = "champion" if as_champion else "challenger"
    message = f"{name} version {version} published as {role} to {settings.topic_models} at offset {offset}"
    return {**told, "outcome": "published", "role": role, "offset": offset, "message": message}


@dataclass(frozen=True)
class _Telling:
    """Says things to people: nothing where the answer is JSON or nobody wants to hear."""

    command: OneShot

    def say(self, text: str) -> None:
        if text and not self.command.json:
            self.command.say(text)
            sys.stdout.flush()  # also where it is a pipe: a training takes minutes

    def say_unless(self, bar: Any, text: str) -> None:
        """Say it where no bar is shown: a terminal has the table soon."""
        if bar.disable:
            self.say(text)

    def bar(self, unit: str, what: str, total: int | None) -> Any:
        is_quiet = self.command.quiet or self.command.json
        return tqdm(total=total, unit=unit, desc=what, disable=True if is_quiet else None, leave=False)
