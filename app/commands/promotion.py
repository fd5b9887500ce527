"""`faust -A app models promote`, `rollback`, `retire`, `split`, `compare`, `audit` and `keygen`.

Owns what people type and read when they decide about models. What a decision writes is in
`tables/promotion.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import click
import msgspec
from faust.cli.base import argument, option

from app.commands.model_command import AUTHOR_OPTIONS, ModelCommand, read_table
from app.commands.one_shot import OneShot, iso_time
from app.topics import StartError
from compute.signatures import key_pair_of
from tables.promotion import promote, retire, rollback, split

ASK_SECONDS = 10.0

_NAME = argument("name")
_VERSION = argument("version")
_VERSION_OR_NONE = argument("version", required=False, default="")

SPLIT_OPTIONS = [
    *(_NAME, _VERSION),
    option("--share", type=float, required=True, help="Of the entities, 0 to 1; 0 ends the split."),
    *AUTHOR_OPTIONS,
]

COMPARE_OPTIONS = [
    option("--url", default="", help="Of a worker's views; default: NOWCAST_WEB_HOST and _PORT.")
]

_COMPARED = (
    *("champion", "challenger", "labels", "metric", "champion's", "challenger's"),
    *("difference", "p-value", "e-value", "needed", "better"),
)
_AUDITED = ("time", "action", "model", "version", "previous", "by", "reason", "evidence")
_N_EVIDENCE = 200


def add_to(group: click.Group) -> None:
    """Add the commands to the group `models`."""
    ModelCommand.add_to(group, "promote", promote_version, [_NAME, _VERSION_OR_NONE, *AUTHOR_OPTIONS])
    ModelCommand.add_to(group, "rollback", roll_back, [_NAME, _VERSION_OR_NONE, *AUTHOR_OPTIONS])
    ModelCommand.add_to(group, "retire", retire_version, [_NAME, _VERSION, *AUTHOR_OPTIONS])
    ModelCommand.add_to(group, "split", split_entities, SPLIT_OPTIONS)
    ModelCommand.add_to(group, "compare", compare, COMPARE_OPTIONS)
    ModelCommand.add_to(group, "audit", audit, [argument("name", required=False, default="")])
    ModelCommand.add_to(
        group, "keygen", make_keys, [argument("directory", type=click.Path(file_okay=False, path_type=Path))]
    )


async def promote_version(command: OneShot, name: str, version: str, by: str, reason: str) -> None:
    """Make a published VERSION of NAME the champion (without one: its newest challenger)."""
    command.say((await promote(command.settings, name, version, by=by, reason=reason)).message)


async def roll_back(command: OneShot, name: str, version: str, by: str, reason: str) -> None:
    """Go back to the former champion of NAME, or to VERSION."""
    command.say((await rollback(command.settings, name, version, by=by, reason=reason)).message)


async def retire_version(command: OneShot, name: str, version: str, by: str, reason: str) -> None:
    """Let VERSION challenge no more, and remove its artefact from the topic."""
    command.say((await retire(command.settings, name, version, by=by, reason=reason)).message)


async def split_entities(
    command: OneShot, name: str, version: str, share: float, by: str, reason: str
) -> None:
    """Let the challenger VERSION answer for a share of the entities, always the same ones."""
    command.say((await split(command.settings, name, version, share, by=by, reason=reason)).message)


async def compare(command: OneShot, url: str) -> None:
    """Compare champion and challengers on the labels that both were judged by; asks a running worker."""
    settings = command.settings
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.web_host, settings.web_host)
    found = await _ask(url or f"http://{host}:{settings.web_port}", settings.token.get_secret_value())
    rows = [_compared_row(item, found.get("evaluations", ())) for item in found.get("comparisons", ())]
    if rows or command.json:
        command.say(command.tabulate(rows, headers=_COMPARED, wrap_last_row=False))
    else:
        command.say("nothing to compare yet: no challenger and champion were judged by the same labels")


async def audit(command: OneShot, name: str) -> None:
    """List the decisions about models, or about NAME, the newest first: who, when, why, on what evidence."""
    decisions = (await read_table(command.settings)).describe_decisions(name)
    if command.json:
        command.say(json.dumps(decisions))
    elif not decisions:
        command.say(f"no decision {f'about {name!r} ' if name else ''}on {command.settings.topic_models}")
    else:
        rows = [_audited_row(decision) for decision in decisions]
        command.say(command.tabulate(rows, headers=_AUDITED, wrap_last_row=False))


async def make_keys(command: OneShot, directory: Path) -> None:
    """Make a key pair in DIRECTORY: signing-key.pem is secret, trusted-keys.pem is for every worker."""
    private, public = key_pair_of(os.urandom(32))
    signing, trusted = directory / "signing-key.pem", directory / "trusted-keys.pem"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content, mode in ((signing, private, 0o600), (trusted, public, 0o644)):
            # Never over a key that is there: what it signed would be trusted no more.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
    except OSError as error:
        raise StartError(f"{error.filename or directory} cannot be written: {error.strerror}") from None
    command.say(f"NOWCAST_SIGNING_KEY={signing}\nNOWCAST_TRUSTED_KEYS={trusted}")


async def _ask(url: str, token: str) -> Mapping[str, Any]:
    address = f"{url.rstrip('/')}/api/evaluations"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.get(address, allow_redirects=False) as response,  # the token is for the worker alone
        ):
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise StartError(f"no worker answers at {address} ({str(error) or type(error).__name__})") from None
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if response.status != 200 or not isinstance(found, dict):
        said = found.get("error", "") if isinstance(found, dict) else ""
        raise StartError(f"{address} answered {response.status} {said}".rstrip())
    return found


def _compared_row(item: Mapping[str, Any], evaluations: Iterable[Mapping[str, Any]]) -> list[Any]:
    by_version = {one["version"]: one for one in evaluations if not one.get("group")}
    metric, values = _measures([by_version.get(item[role]) for role in ("champion", "challenger")])
    return [
        *(item["champion"], item["challenger"], item["n_labels"], metric),
        *map(_number, values),
        *(_number(item.get(field)) for field in ("difference", "p_value", "e_value", "e_value_needed")),
        "yes" if item.get("better") else "",
    ]


def _measures(evaluations: list[Mapping[str, Any] | None]) -> tuple[str, list[Any]]:
    """Return the metric that fits both, and its value since the start of each."""
    tasks = {one.get("task") for one in evaluations if one is not None}
    metric = "rmse" if tasks == {"regression"} else "accuracy"
    return metric, [one and one.get("since_start", {}).get(metric) for one in evaluations]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


def _audited_row(decision: Mapping[str, Any]) -> list[str]:
    share = f"share {decision['share']:g} " if "share" in decision else ""
    evidence = json.dumps(decision["evidence"]) if decision["evidence"] else ""
    return [
        iso_time(decision["at"]),
        *(decision[field] for field in ("action", "model", "version", "previous", "by")),
        share + decision["reason"],
        evidence if len(evidence) <= _N_EVIDENCE else evidence[:_N_EVIDENCE] + "…",
    ]
