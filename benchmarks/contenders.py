"""The contenders: what each is called, and the process that does the job.

All read the same topic of events and write to a topic of predictions of their own, under a group of their
own; so the same event has the same id for all.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.cluster import find_free_port
from benchmarks.kafka import broker
from benchmarks.processes import Child


@dataclass(frozen=True)
class Place:
    """Where a contender works: broker, topics, group, and a directory of its own."""

    bootstrap: str
    events: str
    predictions: str
    group: str
    n_partitions: int
    directory: Path
    models: str

    @property
    def log(self) -> Path:
        """File that takes what the process writes."""
        return self.directory / "log.txt"


@contextmanager
def own_place(
    purpose: str, broker_url: str | None, settings: Mapping[str, str] | None = None
) -> Iterator[Place]:
    """Give a place with topics and a group of its own, on a given broker or one that is started."""
    name = f"{purpose}-{time.time_ns() // 1_000_000:x}"
    with (
        broker(broker_url, settings) as bootstrap,
        tempfile.TemporaryDirectory(prefix=f"nowcast-{purpose}-") as directory,
    ):
        yield Place(
            bootstrap=bootstrap,
            events=f"{name}-events",
            predictions=f"{name}-predictions",
            group=name,
            n_partitions=4,
            directory=Path(directory),
            models=f"{name}-models",
        )


def nowcast_environment(place: Place) -> dict[str, str]:
    """Return Nowcast's settings: names and places; all else is as it ships."""
    return {
        "NOWCAST_BROKER": f"kafka://{place.bootstrap}",
        "NOWCAST_GROUP": place.group,
        "NOWCAST_PARTITIONS": str(place.n_partitions),
        "NOWCAST_TOPIC_EVENTS": place.events,
        "NOWCAST_TOPIC_PREDICTIONS": place.predictions,
        "NOWCAST_TOPIC_ALERTS": f"{place.group}-alerts",
        "NOWCAST_TOPIC_DEAD_LETTERS": f"{place.group}-dead-letters",
        "NOWCAST_TOPIC_MODELS": place.models,
        "NOWCAST_TOPIC_LABELS": f"{place.group}-labels",
        "NOWCAST_TOPIC_EVALUATIONS": f"{place.group}-evaluations",
        "NOWCAST_DATA_DIR": str(place.directory / "data"),
    }


def start_nowcast(place: Place, settings: Mapping[str, str] | None = None) -> Child:
    """Start Nowcast as it ships: RocksDB, checkpoints on; `settings` come on top."""
    port = str(find_free_port())
    command = [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "warn", "--web-port", port]
    return Child(command, place.log, {**nowcast_environment(place), **(settings or {})})


def start_faust(place: Place) -> Child:
    """Start plain Faust, an event at a time."""
    data = ["--data", str(place.directory / "data"), "--partitions", str(place.n_partitions)]
    return Child([*_script("contender_faust", place), *data], place.log)


def start_confluent(place: Place) -> Child:
    """Start the hand-written loop."""
    return Child(_script("contender_confluent", place), place.log)


def _script(name: str, place: Place) -> list[str]:
    return [
        *(sys.executable, "-m", f"benchmarks.{name}"),
        *("--bootstrap", place.bootstrap, "--group", place.group),
        *("--events", place.events, "--predictions", place.predictions),
    ]


CONTENDERS: dict[str, Callable[[Place], Child]] = {
    "nowcast": start_nowcast,
    "confluent": start_confluent,
    "faust": start_faust,
}

DESCRIPTIONS = {
    "nowcast": "Nowcast as it ships",
    "confluent": "confluent-kafka loop, nothing durable",
    "faust": "plain Faust, RocksDB table",
}
