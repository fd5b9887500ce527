"""Brokers for the tests of this folder, the mark `live` that they all have, and what a skip means."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.embedded import EmbeddedBroker, EmbeddedBrokerError, find_binary
from tests.live.brokers import KafkaBroker
from tests.live.jars import KafkaMissingError, fetch_jars, find_java

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def embedded_binary() -> str:
    """Give the embedded broker's binary; the tests that need it are skipped where there is none."""
    try:
        return find_binary()
    except EmbeddedBrokerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def embedded_broker(embedded_binary: str) -> Iterator[EmbeddedBroker]:
    """Give an embedded broker that all tests of the run share: name topics and groups apart."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def own_embedded_broker(embedded_binary: str) -> Iterator[EmbeddedBroker]:
    """Give an embedded broker that the test may stop; what it was told is gone then."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """Give Apache Kafka's jars; the tests that need them are skipped on a machine that cannot have them."""
    try:
        find_java()
        return fetch_jars()
    except KafkaMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka_broker(kafka_jars: Path) -> Iterator[KafkaBroker]:
    """Give an Apache Kafka broker that all tests of the run share: name topics and groups apart."""
    with KafkaBroker() as broker:
        yield broker


@pytest.fixture
def own_kafka_broker(kafka_jars: Path) -> Iterator[KafkaBroker]:
    """Give an Apache Kafka broker that the test may stop, kill and start."""
    with KafkaBroker() as broker:
        yield broker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands in this folder; `make test-fast` leaves it out."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Turn a skip into a failure in CI: a promise that nobody checked is not kept."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped where CI=true, which must not be: {report.longrepr}"
    return report
