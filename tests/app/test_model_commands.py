"""What people read of decisions; that commands do what they say is tested in tests/live/test_promotion.py."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from app.commands.models import describe_score
from app.commands.promotion import compare, make_keys
from app.topics import StartError
from compute.signatures import read_signer, read_verifier

VERSIONS = {"champion": "a" * 16, "challenger": "b" * 16}

EVALUATIONS = {
    "evaluations": [
        {
            "model": "pump",
            "version": "a" * 16,
            "group": "",
            "task": "classification",
            "since_start": {"accuracy": 0.5},
        },
        {
            "model": "pump",
            "version": "a" * 16,
            "group": "x",
            "task": "classification",
            "since_start": {"accuracy": 0.1},
        },
        {
            "model": "pump",
            "version": "b" * 16,
            "group": "",
            "task": "classification",
            "since_start": {"accuracy": 0.75},
        },
    ],
    "comparisons": [
        {
            "model": "pump",
            **VERSIONS,
            "n_labels": 400,
            "difference": 0.25,
            "p_value": 0.00012345,
            "e_value": 1234.5,
            "e_value_needed": 600.0,
            "better": True,
        }
    ],
}


class Command:
    """Stands in for the command that a function is part of."""

    def __init__(self, as_json: bool = False, **settings: Any) -> None:
        self.settings = SimpleNamespace(
            **{"web_host": "127.0.0.1", "web_port": 1, "token": SecretStr(""), **settings}
        )
        self.json = as_json
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def tabulate(self, rows: list[list[Any]], headers: tuple[str, ...], wrap_last_row: bool) -> str:
        return json.dumps([dict(zip(headers, row, strict=True)) for row in rows])


def asked(answer: Callable[[web.Request], web.Response], command: Command, url: str | None = None) -> None:
    """Run `compare` against a worker that answers so."""

    async def whole() -> None:
        app = web.Application()

        async def evaluations(request: web.Request) -> web.Response:
            return answer(request)

        app.router.add_get("/api/evaluations", evaluations)
        async with TestServer(app) as server:
            if url is None:
                command.settings.web_host, command.settings.web_port = server.host, server.port
            await compare(command, str(server.make_url("")) if url is None else url)  # type: ignore[arg-type]

    asyncio.run(whole())


def test_champion_and_challenger_are_compared_in_one_row() -> None:
    command = Command()
    asked(lambda request: web.json_response(EVALUATIONS), command)
    (row,) = json.loads(command.said[0])
    assert row == {
        **VERSIONS,
        "labels": 400,
        "metric": "accuracy",
        "champion's": "0.5",
        "challenger's": "0.75",
        "difference": "0.25",
        "p-value": "0.0001234",
        "e-value": "1234",
        "needed": "600",
        "better": "yes",
    }


def test_of_numbers_the_error_is_compared() -> None:
    found = json.loads(
        json.dumps(EVALUATIONS).replace("classification", "regression").replace("accuracy", "rmse")
    )
    found["comparisons"][0]["better"] = False
    del found["comparisons"][0]["e_value"], found["evaluations"][2]
    command = Command()
    asked(lambda request: web.json_response(found), command)
    (row,) = json.loads(command.said[0])
    assert (row["metric"], row["champion's"], row["challenger's"]) == ("rmse", "0.5", "")
    assert (row["e-value"], row["better"]) == ("", "")


def test_nothing_to_compare_is_said() -> None:
    for as_json, expected in ((False, "nothing to compare yet"), (True, "[]")):
        command = Command(as_json)
        asked(lambda request: web.json_response({"evaluations": [], "comparisons": []}), command)
        assert command.said[0].startswith(expected)


def test_the_token_is_sent() -> None:
    command = Command(token=SecretStr("s3cret"))
    received = []

    def answer(request: web.Request) -> web.Response:
        received.append(request.headers.get("Authorization"))
        return web.json_response(EVALUATIONS)

    asked(answer, command)
    assert received == ["Bearer s3cret"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            lambda request: web.json_response({"error": "a token is needed"}, status=401),
            "401 a token is needed",
        ),
        (lambda request: web.Response(text="hello"), "answered 200"),
        (
            lambda request: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
            "answered 302",
        ),
    ],
)
def test_an_answer_that_is_none_is_one_line(
    answer: Callable[[web.Request], web.Response], reason: str
) -> None:
    with pytest.raises(StartError) as caught:
        asked(answer, Command())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://nobody.invalid", "nonsense", "http://127.0.0.1:x"]
)
def test_nobody_there_is_one_line(url: str) -> None:
    with pytest.raises(StartError, match="no worker answers at"):
        asked(lambda request: web.Response(), Command(), url)


def test_a_key_pair_is_made_once_and_only_its_owner_reads_the_private_one(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    command = Command()
    asyncio.run(make_keys(command, folder))  # type: ignore[arg-type]
    private, public = folder / "signing-key.pem", folder / "trusted-keys.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    signer = read_signer(private.read_bytes())
    read_verifier(public.read_bytes()).check(signer.sign("a", b"b", []), "a", b"b", [])
    assert command.said == [f"NOWCAST_SIGNING_KEY={private}\nNOWCAST_TRUSTED_KEYS={public}"]

    before = private.read_bytes()
    with pytest.raises(StartError, match=r"signing-key.pem cannot be written: File exists"):
        asyncio.run(make_keys(command, folder))  # type: ignore[arg-type]
    assert private.read_bytes() == before
    asyncio.run(make_keys(command, tmp_path / "others"))  # type: ignore[arg-type]
    assert (tmp_path / "others" / "signing-key.pem").read_bytes() != before


@pytest.mark.parametrize(
    ("classes", "positive", "told"),
    [(("faulty", "ok"), None, "'ok'"), (("faulty", "ok"), "faulty", "'faulty'"), ((0, 1), 0, "0")],
)
def test_publishing_says_which_class_the_score_is_about(
    classes: tuple[Any, ...], positive: Any, told: str
) -> None:
    metadata = SimpleNamespace(output=SimpleNamespace(positive=positive))
    model: Any = SimpleNamespace(classes=classes, metadata=metadata)
    assert describe_score(model) == f"; its score is the probability of {told}"
    model.classes = ()  # of a regression
    assert describe_score(model) == ""
