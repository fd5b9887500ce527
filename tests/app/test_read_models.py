"""How commands wait for the models topic, on a topic in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from app.commands import model_command
from app.commands.model_command import read_table
from app.topics import StartError
from tables import model_following
from tests.tables.model_log import Log, install, settings_of


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    monkeypatch.setattr(model_command, "LOOK_SECONDS", 0.01)
    logger = logging.getLogger("tables")
    level = logger.level
    yield install(monkeypatch)
    logger.setLevel(level)


def test_what_is_published_is_read_and_the_reading_ends(log: Log) -> None:
    log.publish(1.0)
    table = asyncio.run(read_table(settings_of()))
    assert table.serving is not None
    assert not table.is_following


def test_who_waited_in_vain_is_told_how_long(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(model_following.ModelFollower, "_read_on", never)
    monkeypatch.setattr(model_command, "CATCH_UP_SECONDS", 0.25)
    with pytest.raises(StartError, match=r"^topic 'models' is not read to its end: .* after 0\.25 s$"):
        asyncio.run(read_table(settings_of()))


def test_trouble_that_stays_ends_the_wait_and_is_told(log: Log) -> None:
    log.n_failures = 10**9
    with pytest.raises(StartError, match="cannot reach Kafka at kafka://broker:9092"):
        asyncio.run(read_table(settings_of()))


def test_trouble_that_is_over_soon_ends_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_command, "LOOK_SECONDS", 10.0)
    log.publish(1.0)
    log.n_failures = 3
    assert asyncio.run(read_table(settings_of())).serving is not None
