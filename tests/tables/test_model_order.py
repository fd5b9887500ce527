"""Every worker comes to the same roles: who followed, who reads it later, who reads what compaction left.

What is written is written by the functions that write it, and by strangers.
"""

from __future__ import annotations

import asyncio
import json
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from compute.artefact import ArtefactError
from compute.signatures import key_pair_of
from tables import model_loading, model_writing
from tables.artefact_records import publish
from tables.models import ModelsTable
from tables.promotion import promote, retire, rollback, split
from tests.artefacts import artefact
from tests.tables.model_log import SECONDS, Log, install, settings_of, until

NAMES = ("pump", "valve")
ARTEFACTS = {(name, number): artefact([float(number)], name=name) for name in NAMES for number in range(3)}
VERSIONS = {key: json.loads(metadata)["version"][:16] for key, (_, metadata) in ARTEFACTS.items()}

DECISIONS = (
    "publish",
    "challenge",
    "promote",
    "promote-newest",
    "rollback",
    "rollback-to",
    "retire",
    "split",
)
STRANGERS = ("put", "remove", "spoil", "forget")
ATTACKS = ("put", "remove", "spoil", "replay", "replay", "replay", "move")

Step = tuple[str, str, int, int]

BEGINNING = [
    *(("publish", "pump", 0, 0), ("challenge", "pump", 1, 0), ("challenge", "pump", 2, 0)),
    *(("challenge", "valve", 0, 0), ("put", "valve", 1, 0), ("split", "pump", 1, 1)),
]


def steps_of(kinds: tuple[str, ...], chance: random.Random) -> list[Step]:
    some = [
        (chance.choice(kinds), chance.choice(NAMES), chance.randrange(3), chance.randrange(1_000_000))
        for _ in range(25)
    ]
    return BEGINNING[: chance.randint(0, len(BEGINNING))] + some


async def take(step: Step, log: Log, to: Any, table: ModelsTable) -> None:
    """Do one thing to the topic; what a function refuses to do is not done."""
    kind, name, number, chance = step
    version, champion = VERSIONS[name, number], table._champions.get(name)
    try:
        if kind == "publish":
            await publish(to, name, *ARTEFACTS[name, number])
        elif kind == "challenge":
            await publish(to, name, *ARTEFACTS[name, number], role="challenger")
        elif kind == "promote":
            await promote(to, name, version)
        elif kind == "promote-newest":
            await promote(to, name)
        elif kind == "rollback":
            await rollback(to, name)
        elif kind == "rollback-to":
            await rollback(to, name, version)
        elif kind == "retire":
            await retire(to, name, version)
        elif kind == "split":
            await split(to, name, version, (0.0, 0.3, 1.0)[chance % 3])
        elif kind == "put":
            log.append(name, *ARTEFACTS[name, number])
        elif kind == "remove":
            log.append(name, None)
        elif kind == "spoil":
            # What was put by hand and is overwritten is lost: there is no copy to fall back on.
            if champion is not None and champion[0].is_decided:
                log.append(name, b"spoilt", ARTEFACTS[name, number][1])
        elif kind == "forget":
            if champion is None or champion[1].version != version:
                log.append(f"{name}@{version}", None)
        elif log.records:
            record = log.records[chance % len(log.records)]
            key = record.key if kind == "replay" else f"{name}@{version}".encode()
            # An artefact that is overwritten is lost, and no signature brings it back.
            others = [other for other in log.records if other.key == key and other is not record]
            if not others or b"/" in key or (kind == "replay" and b"@" not in key):
                log.add(key, record.value, record.headers)
    except ArtefactError:
        pass


def state_of(table: ModelsTable) -> Any:
    serving = table.serving and (table.serving.name, table.serving.version)
    challengers = [(model.name, model.version) for model in table.challengers]
    roles = {version: table.role_of(version) for version in VERSIONS.values()}
    # Compaction may take the record that was the first of its version, a stranger the one that was the last.
    described = [{**item, "published_at": None, "offset": None} for item in table.describe()]
    numbers = {version: table.number_challengers(version) for version in VERSIONS.values()}
    return serving, challengers, table.split, roles, described, numbers


async def follow(test: Any, to: Any) -> Any:
    table = ModelsTable(to)
    await table.start()
    try:
        await table.catch_up(SECONDS)
        return await test(table)
    finally:
        await table.stop()


async def read_late(log: Log, to: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        install(patch, log)

        async def test(table: ModelsTable) -> Any:
            return state_of(table)

        return await follow(test, to)


def naive_roles(log: Log, to: Any) -> Any:
    """Walk the topic from its beginning, record by record, as if nothing were ever lost."""
    champions: dict[str, tuple[int, str]] = {}
    challengers: list[tuple[str, str]] = []
    share: tuple[int, str, float] | None = None
    lost: set[str] = set()
    newest: dict[str, str] = {}
    for record in log.records:
        name, _, rest = record.key.decode().partition("@")
        if not rest:
            newest.pop(name, None)
        if not rest and record.value is None:
            champions.pop(name, None)
        elif not rest and record.value != b"spoilt":
            version = json.loads(dict(record.headers)["metadata"])["version"][:16]
            champions[name] = record.offset, version
            newest[name] = version
        elif "/" not in rest:
            forgotten = {rest} if record.value is None else set()
            lost = (lost | forgotten) - ({rest} - forgotten)
        else:
            decision = json.loads(record.value)
            if decision["action"] == "split":
                share = record.offset, decision["version"], decision["share"]
                continue
            gone = {decision["version"], decision["previous"]}
            challengers = [item for item in challengers if item[1] not in gone]
            if decision["action"] == "challenge":
                challengers.insert(0, (decision["model"], decision["version"]))
    possible = {name: champion for name, champion in champions.items() if to.model in ("", name)}
    name, (since, version) = max(possible.items(), key=lambda item: item[1], default=("", (-1, "")))
    missing = {version, *(lost - set(newest.values()))}
    fitting = [item for item in challengers if item[1] not in missing and to.model in ("", item[0])]
    held = fitting[: to.max_challengers]
    arm = next(
        (item for item in held if share and share[2] and share[0] > since and item[1] == share[1]), None
    )
    return (name, version) if name else None, held, (*arm, share[2]) if arm and share else None


@pytest.fixture
def patches(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    load = lru_cache(maxsize=None)(model_loading.load_artefact)  # the same bytes are tried hundreds of times
    monkeypatch.setattr(model_loading, "load_artefact", load)
    return monkeypatch


def play(steps: list[Step], to: Any, patches: pytest.MonkeyPatch, chance: random.Random) -> Any:
    """Follow the topic while things happen to it, then read it late in many ways; return the last state."""
    log = Log()

    async def live(table: ModelsTable) -> list[tuple[int, Any]]:
        states = [(0, state_of(table))]
        for step in steps:
            await take(step, log, to, table)
            await until(lambda: table._position == log.end_offset and not table._is_behind)
            states.append((log.end_offset, state_of(table)))
        return states

    async def whole() -> Any:
        with patches.context() as patch:
            install(patch, log)
            # Clocks are not to be relied on.
            patch.setattr(model_writing.time, "time", lambda: chance.uniform(1e9, 2e9))
            states = await follow(live, to)
        for end, expected in (states[-1], *chance.sample(states, min(3, len(states)))):
            seen = log.until(end)
            if to.trusted_keys is None:
                assert expected[:3] == naive_roles(seen, to)
            seen.records_a_fetch = chance.choice([1, 2, 100])
            assert await read_late(seen, to, patches) == expected
            for with_tombstones in (True, False):
                left = seen.compacted(chance.randint(0, end), with_tombstones)
                assert await read_late(left, to, patches) == expected
        return states[-1][1]

    return asyncio.run(whole())


@pytest.mark.parametrize("seed", range(25))
def test_who_reads_later_finds_what_who_followed_found(patches: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    to = settings_of(model=chance.choice(["", "", "pump"]), max_challengers=chance.randint(0, 3))
    play(steps_of(DECISIONS + STRANGERS, chance), to, patches, chance)


@pytest.mark.parametrize("seed", range(25))
def test_where_records_are_signed_strangers_change_nothing(
    patches: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    for path, content in zip((private, public), key_pair_of(bytes(32)), strict=True):
        path.write_bytes(content)
    to = settings_of(model=chance.choice(["", "", "pump"]), signing_key=private, trusted_keys=public)
    steps = steps_of(DECISIONS + ATTACKS, chance)
    disturbed = play(steps, to, patches, chance)
    assert disturbed == play([step for step in steps if step[0] not in ATTACKS], to, patches, chance)
