"""`faust -A app models ...`: publish an artefact, list what is published, show one model.

Owns what people type and read about artefacts; decisions about them are in `app/commands/promotion.py`. The
name is that of a command of Faust's own, which lists the record classes of an application; Nowcast has none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from faust.cli.base import argument, cli, option

from app.commands import promotion
from app.commands.model_command import AUTHOR_OPTIONS, ModelCommand, read_table
from app.commands.one_shot import OneShot, iso_time
from app.topics import StartError, ensure_topics
from compute.artefact import ArtefactError, embedded_metadata, load_artefact
from compute.metadata import check_field_names, parse_metadata
from compute.scoring import Model
from tables.artefact_records import pack_metadata, publish

_HEADERS = ("name", "version", "kind", "features", "bytes", "published at", "serving", "role")

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

PUBLISH_OPTIONS = [
    argument("file", type=_FILE),
    option("--name", help="Name of the model; default: the file's name without .onnx."),
    option("--features", help="Features in the order of the model's input: a,b,c."),
    option("--kind", type=click.Choice(["anomaly", "classification", "regression"])),
    option("--normaliser", type=click.Choice(["window", "none"]), help="Input: z-scores (window), or raw."),
    option("--missing", type=click.Choice(["reject", "mean", "nan"]), help="What a missing feature does."),
    option("--threshold", type=float, help="Score at which an event is an alarm."),
    option("--metadata", type=_FILE, help="JSON with more fields; default: FILE with .json for .onnx."),
    option(
        "--challenger", is_flag=True, help="Score it in the shadow of what serves, instead of serving it."
    ),
    *AUTHOR_OPTIONS,
]

SHOW_OPTIONS = [
    argument("name"),
    option("--version", default="", help="Of --plot; default: the champion of that name."),
    option(
        "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write the training's plot (PNG)."
    ),
]


def register(app: Any) -> None:
    """Add the group `models` to the application's commands."""
    group = click.Group("models", help="Publish, compare, promote and roll back models.")
    ModelCommand.add_to(group, "publish", publish_file, PUBLISH_OPTIONS)
    ModelCommand.add_to(group, "list", list_models)
    ModelCommand.add_to(group, "show", show_model, SHOW_OPTIONS)
    promotion.add_to(group)
    cli.add_command(group)


async def publish_file(
    command: OneShot,
    file: Path,
    metadata: Path | None,
    challenger: bool,
    by: str,
    reason: str,
    **options: Any,
) -> None:
    """Check FILE (ONNX) and publish it; every worker serves it from its next record batch on.

    Its metadata comes from the options, over a JSON file beside it, over the property "nowcast" in it.
    """
    settings = command.settings
    size = file.stat().st_size
    if size > settings.max_artefact_bytes:
        raise ArtefactError(
            f"too large: at most {settings.max_artefact_bytes} bytes (NOWCAST_MAX_ARTEFACT_BYTES), "
            f"{file} has {size}"
        )
    onnx_bytes = file.read_bytes()
    fields = gather_metadata(file, onnx_bytes, metadata, options)
    packed = pack_metadata(onnx_bytes, fields)
    # What it says itself is held against the content; what the options changed has a new version.
    declared = json.dumps(fields).encode() if "version" in fields else packed
    model = load_artefact(onnx_bytes, declared, max_bytes=settings.max_artefact_bytes)
    await ensure_topics(settings)
    _, offset = await publish(
        settings,
        *(model.name, onnx_bytes, packed),
        role="challenger" if challenger else "champion",
        by=by,
        reason=reason,
    )
    command.say(
        f"{model.name} version {model.version} ({model.kind}, {len(model.features)} features, "
        f"{size:,} bytes) published to {settings.topic_models} at offset {offset}"
        f"{' as a challenger' if challenger else ''}{describe_score(model)}"
    )


def describe_score(model: Model) -> str:
    """Say which class alerts are about: a wrong order of classes is seen by nothing else."""
    if not model.classes:
        return ""
    positive = model.metadata.output.positive
    return f"; its score is the probability of {(model.classes[-1] if positive is None else positive)!r}"


def gather_metadata(
    file: Path, onnx_bytes: bytes, metadata: Path | None, options: dict[str, Any]
) -> dict[str, Any]:
    """Return the metadata of a file: options over the JSON beside it over what the ONNX carries."""
    with _naming(file):
        fields = embedded_metadata(onnx_bytes)
        check_field_names(fields)
    fields.pop("version", None)  # no content can hold its own hash
    beside = metadata or file.with_suffix(".json")
    if beside.is_file() and beside != file:
        with _naming(beside):
            found = parse_metadata(beside.read_bytes())
            check_field_names(found)
        fields.update(found)
    given = {name: value for name, value in options.items() if value is not None}
    if "features" in given:
        given["features"] = [name.strip() for name in given["features"].split(",")]
    if given:
        fields.pop("version", None)
    return {"name": file.stem, **fields, **given}


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Let an error say which file is wrong: there may be two with metadata."""
    try:
        yield
    except ArtefactError as error:
        raise ArtefactError(f"{file}: {error}") from None


async def list_models(command: OneShot) -> None:
    """List the published models, which one serves, and which challenge it."""
    table = await read_table(command.settings)
    rows = [
        [
            model["name"],
            model["version"],
            model["kind"],
            ", ".join(model["features"]),
            model["size_bytes"],
            iso_time(model["published_at"]),
            "yes" if model["serving"] else "",
            model["role"] + (f" ({model['share']:.0%} of the entities)" if model["share"] else ""),
        ]
        for model in table.describe()
    ]
    if rows or command.json:
        command.say(command.tabulate(rows, headers=_HEADERS, wrap_last_row=False))
    else:
        command.say("no model is published: the built-in detector serves")
    for refusal in table.history.refusals:
        reason = f"{refusal['name']} at offset {refusal['offset']}: {refusal['reason']}"
        print(f"refused: {reason}", file=sys.stderr)


async def show_model(command: OneShot, name: str, version: str, plot: Path | None) -> None:
    """Show all that is known of the model NAME, as JSON."""
    table = await read_table(command.settings)
    found = table.describe_one(name)
    if found is None:
        raise StartError(f"no model named {name!r} is published to {command.settings.topic_models}")
    if plot is not None:
        image = table.pictures(name, version).plot
        if not image:
            raise StartError(f"{name} {version or 'champion'} was published without a plot")
        try:
            plot.write_bytes(image)
        except OSError as error:
            raise StartError(f"{plot} cannot be written: {error.strerror}") from None
    command.say(json.dumps(found, indent=2))
