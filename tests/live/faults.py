"""A group of workers on a seeded stream, what can be done to them, and the run that nothing was done to.

Owns the actions and waiting for their effects. What came of it is judged in `verdict.py`.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from app.settings import Settings
from app.topics import required_topics
from tests.live.brokers import KafkaBroker
from tests.live.seeded import N_PARTITIONS, DueLabel, Feed, Pace, Stream, send_all
from tests.live.streams import Reader
from tests.live.verdict import Outcome, judge, read_outcome, read_topic
from tests.live.workers import Worker, Workers, wait_for

SESSION_SECONDS = 6
BEYOND_SESSION_SECONDS = SESSION_SECONDS + 4.0
SETTLE_SECONDS = 90.0
FINISH_SECONDS = 120.0
TIMEOUT_SECONDS = 30.0
LITTLE_ROOM_BYTES = 50_000
NO_LIMIT = resource.RLIM_INFINITY

T = TypeVar("T")


class Trial:
    """Workers of one group, the stream they score, and its feed.

    Parameters
    ----------
    folder : pathlib.Path
        Takes logs and data directories.
    broker : KafkaBroker
    stream : Stream
    delivery : {"at_least_once", "exactly_once"}
    settings
        Further settings.

    Attributes
    ----------
    workers : dict of str to Worker
        Those that were ever started, by name.
    """

    def __init__(
        self, folder: Path, broker: KafkaBroker, stream: Stream, delivery: str, **settings: object
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.broker = broker
        self.stream = stream
        own: dict[str, Any] = {"delivery": delivery, "session_timeout_seconds": SESSION_SECONDS}
        self.group = Workers(folder, broker.url, **{**stream.settings, **own, **settings})
        self.workers: dict[str, Worker] = {}
        self.reader = Reader(broker.bootstrap, str(self.settings["group"]), N_PARTITIONS)
        self.topic = self.topic_of("events")
        self._feed: Feed | None = None

    @property
    def settings(self) -> dict[str, object]:
        """What the workers are started with."""
        return self.group.settings

    @property
    def feed(self) -> Feed:
        """The feed, once `feed_at` was called."""
        assert self._feed is not None
        return self._feed

    @property
    def running(self) -> list[Worker]:
        """Workers that have not ended."""
        return [worker for worker in self.workers.values() if worker.is_running]

    def topic_of(self, name: str) -> str:
        """Return a topic's name."""
        own = f"{self.settings['group']}-statistics-changelog"
        return own if name == "changelog" else str(self.settings[f"topic_{name}"])

    def start(self, *names: str) -> list[Worker]:
        """Start workers, new or ended ones; they are not ready yet."""
        for name in names:
            if name not in self.workers:
                self.workers[name] = self.group.new(name)
        return [self.workers[name].start() for name in names]

    def second_on(self, worker: Worker) -> str:
        """Start another worker on the data directory of this one; return what it printed on its way out."""
        second = self.group.new(f"second-{uuid.uuid4().hex[:6]}", data_dir=worker.data_dir).start()
        if not until(lambda: not second.is_running, TIMEOUT_SECONDS):
            second.stop()
        return second.read_log()

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until the running workers are the group: each ready, each partition held once."""
        names = [worker.name for worker in self.running]
        wait_for(
            lambda: is_settled(self.running), f"workers {names} share the partitions", self.running, seconds
        )

    def feed_at(self, pace: Pace, labels: Sequence[DueLabel] = ()) -> Feed:
        """Begin to send the stream, and labels between its events."""
        topics = {"topic": self.topic, "labels_topic": self.topic_of("labels")}
        self._feed = Feed(
            self.broker.bootstrap, stream=self.stream, pace=pace, labels=labels, **topics
        ).start()
        return self._feed

    def limit_of(self, topic: str) -> str | None:
        """Return the `max.message.bytes` that a topic was created with, None where it has the broker's."""
        specs = {spec.name: spec for spec in required_topics(Settings(**self.settings))}  # type: ignore[arg-type]
        return specs[topic].creation_config.get("max.message.bytes")

    def n_answered(self) -> int:
        """Return how far predictions have come; markers of transactions count as well."""
        return insist(lambda: self.reader.n_records(self.topic_of("predictions")))

    def n_committed(self) -> int:
        """Return how many events the group has committed."""
        committed = insist(lambda: self.reader.committed(self.topic))
        return sum(max(offset, 0) for offset in committed.values())

    def go_on(self, n_more: int = 500) -> None:
        """Wait until so many more predictions were written."""
        wanted = self.n_answered() + n_more
        wait_for(lambda: self.n_answered() >= wanted, f"{n_more} more predictions", self.running)

    def await_all_committed(self, seconds: float = FINISH_SECONDS) -> None:
        """Send the rest of the stream and wait until the group has committed all of it."""
        self.feed.finish()
        n_events = len(self.stream.records)
        assert insist(lambda: self.reader.n_records(self.topic)) == n_events
        wait_for(
            lambda: self.n_committed() == n_events, f"all {n_events} events committed", self.running, seconds
        )

    def await_all_joined(self, seconds: float = FINISH_SECONDS) -> None:
        """Wait until the group has committed all labels, those that it sent on itself among them."""
        topic = self.topic_of("labels")

        def have_all() -> bool:
            committed = insist(lambda: self.reader.committed(topic))
            if sum(max(offset, 0) for offset in committed.values()) < self.feed.n_labels_sent:
                return False
            # What was sent on was so before its source was committed: it is there by now.
            last = {message.partition(): message.offset() for message in self.read("labels")}
            return all(committed[partition] > offset for partition, offset in last.items())

        wait_for(have_all, "all labels committed", self.running, seconds)

    def read(self, name: str) -> list[Any]:
        """Return what is committed in a topic, by partition in order."""
        messages = read_topic(self.broker.bootstrap, self.topic_of(name))
        return sorted(messages, key=lambda message: (message.partition(), message.offset()))

    def outcome(self) -> Outcome:
        """Read what the group made of the stream, its views asked while it is still there."""
        self.settle()
        views = {}
        for key in self.stream.keys:
            ask = partial(self._ask_statistics, key)
            status, body = wait_for(ask, f"an answer about {key}", self.running)
            if status == 200:
                views[key] = body
        return read_outcome(self.broker.bootstrap, self.settings, views)

    def _ask_statistics(self, key: str) -> tuple[int, Any] | None:
        status, body = self.running[0].get(f"/api/statistics/{key}")
        return (status, body) if status in (200, 404) else None  # 503 is no answer yet

    def __enter__(self) -> Trial:
        self.group.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.running:
            awaken(worker)
        if self._feed is not None:
            self._feed.__exit__(kind, error, trace)
        try:
            self.group.__exit__(kind, error, trace)
        finally:
            self.reader.close()


def is_settled(workers: list[Worker]) -> bool:
    """Tell whether these are the group: all ready, each partition held once."""
    if not workers:
        return False
    status, body = workers[0].get("/api/workers")
    rows = body["workers"] if status == 200 else []
    return (
        len(rows) == len(workers)
        and not body["unanswered"]
        and all(row["state"] == "ready" for row in rows)
        and sorted(p for row in rows for p in row["partitions"]) == list(range(N_PARTITIONS))
    )


def run_clean(folder: Path, broker: KafkaBroker, stream: Stream, topic: str = "") -> Outcome:
    """Let one worker that nothing disturbs score a stream, sent anew or in the topic where it is already."""
    own = {"topic_events": topic} if topic else {}
    with Trial(folder, broker, stream, "at_least_once", **own) as trial:
        (worker,) = trial.start("clean")
        worker.wait_until_ready()
        if not topic:
            send_all(broker.bootstrap, trial.topic, stream)
        wait_for(
            lambda: (
                trial.reader.n_records(trial.topic) >= len(stream.records)
                and trial.reader.committed(trial.topic) == trial.reader.end_offsets(trial.topic)
            ),
            "all events committed",
            [worker],
            FINISH_SECONDS,
        )
        outcome = trial.outcome()
    repeated = judge(outcome, outcome).n_duplicates
    assert not repeated, f"{repeated} answers twice by a worker that nothing disturbed"
    return outcome


# ---- what can be done to workers


def freeze(worker: Worker) -> None:
    """Stop a worker's clock (SIGSTOP): to the others it is dead, itself it notices nothing."""
    os.kill(worker.process.pid, signal.SIGSTOP)


def awaken(worker: Worker) -> None:
    """Let a frozen worker go on where it was."""
    os.kill(worker.process.pid, signal.SIGCONT)


def ask_to_stop(worker: Worker) -> None:
    """Send SIGTERM and do not wait."""
    worker.process.send_signal(signal.SIGTERM)


def delete_data(worker: Worker) -> None:
    """Delete the data directory of a worker that has ended."""
    assert not worker.is_running
    shutil.rmtree(worker.data_dir, ignore_errors=True)


def fill_disk(worker: Worker) -> None:
    """Let no file of a worker grow any more, to speak of: writes fail in the middle as on a full disk.

    A limit of the process (EFBIG) stands for the full disk (ENOSPC): it needs neither root nor a mount. What
    the worker prints is below the limit, so that its last words can be read.
    """
    n_bytes = worker.log.stat().st_size + LITTLE_ROOM_BYTES
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (n_bytes, NO_LIMIT))


def await_end(worker: Worker, seconds: float = 60.0) -> int:
    """Wait until a worker has ended by itself; return its exit code."""
    wait_for(lambda: not worker.is_running, f"worker {worker.name} ended", seconds=seconds)
    code = worker.exit_code
    assert code is not None
    return code


def await_in_log(worker: Worker, text: str, since: int = 0, seconds: float = 30.0) -> None:
    """Wait until a worker has printed a text, behind so many characters."""
    wait_for(
        lambda: text in worker.read_log()[since:],
        f"{text!r} in the log of {worker.name}",
        seconds=seconds,
    )


def log_size(worker: Worker) -> int:
    """Return how many characters a worker has printed."""
    return len(worker.read_log())


# ---- what can be done to a topic


def set_topic(bootstrap: str, topic: str, **config: str | None) -> None:
    """Set, or with None put back, a topic's configuration."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    entries = [
        ConfigEntry(
            name.replace("_", "."),
            value or "",
            incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
        )
        for name, value in config.items()
    ]
    resource_ = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for answer in admin.incremental_alter_configs([resource_]).values():
        answer.result(TIMEOUT_SECONDS)


def insist(ask: Callable[[], T]) -> T:
    """Ask the broker until it answers: for a moment after its start it knows of no topic."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def until(condition: Callable[[], Any], seconds: float, workers: Iterable[Worker] = ()) -> bool:
    """Wait at most so long for something that may also not happen; tell whether it did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
