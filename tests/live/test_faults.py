"""Faults amid a stream of 50,000 events: what comes of it is what comes of a run that nothing disturbs.

Nothing lost, in exactly_once nothing twice, every prediction, alert, dead letter and state the same. The
stream and the choices are made from a seed, which is printed: FAULT_SEED=n repeats them.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.brokers import KafkaBroker
from tests.live.faults import (
    BEYOND_SESSION_SECONDS,
    Trial,
    ask_to_stop,
    await_end,
    await_in_log,
    awaken,
    delete_data,
    fill_disk,
    freeze,
    log_size,
    run_clean,
    set_topic,
)
from tests.live.seeded import Stream, choose_seed, ever_slower, make_stream
from tests.live.verdict import Outcome, judge
from tests.live.workers import Worker, wait_for

SEED = choose_seed()
DELIVERIES = ["at_least_once", "exactly_once"]
HALF_SECONDS = 12.0
"""In this time the feed sends half of the events."""

HEARTBEAT_SECONDS = 0.6

pytestmark = pytest.mark.parametrize("delivery", DELIVERIES)

CleanRuns = dict[str, tuple[Stream, Outcome]]


@pytest.fixture(scope="module")
def clean_runs(kafka_broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> CleanRuns:
    """Give each stream with what an undisturbed worker makes of it."""
    folder = tmp_path_factory.mktemp("clean")
    streams = [make_stream(name, SEED) for name in ("holding", "sliding")]
    return {
        stream.name: (stream, run_clean(folder / stream.name, kafka_broker, stream)) for stream in streams
    }


@contextmanager
def trial(
    folder: Path,
    broker: KafkaBroker,
    clean_runs: CleanRuns,
    delivery: str,
    workers: list[str],
    name: str = "holding",
    alerts_once: bool = False,
    **settings: object,
) -> Iterator[Trial]:
    """Start workers and the stream; judge what came of it after what was done to them inside.

    `alerts_once`: no alert may be there twice in `at_least_once` either. That is promised over crashes, but
    not where a worker sleeps through its session, nor where a broker that fails is sent records again.
    """
    stream, clean = clean_runs[name]
    print(f"FAULT_SEED={SEED}: stream {name}, {delivery}")
    with Trial(folder, broker, stream, delivery, **settings) as group:
        group.start(*workers)
        group.settle()
        group.feed_at(ever_slower(HALF_SECONDS))
        group.go_on()
        yield group
        assert not group.feed.is_over, "the faults must happen amid the stream"
        group.await_all_committed()
        verdict = judge(group.outcome(), clean)
        print(verdict)
        assert not verdict.faults(exactly_once=delivery == "exactly_once"), f"FAULT_SEED={SEED}: {verdict}"
        assert not (alerts_once and verdict.duplicates["alert"]), f"FAULT_SEED={SEED}: {verdict}"
        assert len(clean.alerts) > 100
        assert len(clean.dead_letters) > 30


def last_line(worker: Worker, since: int) -> str:
    """Return what a worker printed last, behind so many characters."""
    return worker.read_log()[since:].rstrip("\n").splitlines()[-1]


def test_workers_killed_with_their_data_directory_kept_or_deleted(
    kafka_broker: KafkaBroker, tmp_path: Path, clean_runs: CleanRuns, delivery: str
) -> None:
    rng = random.Random(SEED)
    with trial(
        tmp_path, kafka_broker, clean_runs, delivery, ["one", "two"], "sliding", alerts_once=True
    ) as group:
        one, two = group.workers["one"], group.workers["two"]
        one.kill()  # back before its session is over
        group.start("one")
        time.sleep(rng.uniform(0, 3))
        two.kill()  # also while the group still waits for the other one
        delete_data(two)
        group.start("two")
        group.settle()
        group.go_on()
        two.kill()  # for good, so that the other takes over
        group.settle()
        group.go_on()
        one.kill()  # nobody is left
        delete_data(rng.choice([one, two]))
        group.start("one", "two")
        group.settle()
        group.go_on(100)


def test_workers_join_leave_and_are_stopped_amid_a_rebalance(
    kafka_broker: KafkaBroker, tmp_path: Path, clean_runs: CleanRuns, delivery: str
) -> None:
    rng = random.Random(SEED)
    with trial(tmp_path, kafka_broker, clean_runs, delivery, ["one"]) as group:
        one = group.workers["one"]
        two, three = group.start("two", "three")
        group.settle()
        group.go_on()
        assert two.stop() == 0
        group.settle()
        for joining, leaving in (("four", three), ("two", one), ("three", two)):
            new = group.workers.get(joining)
            since = log_size(new) if new else 0
            (new,) = group.start(joining)
            await_in_log(new, "(Re-)joining", since)
            # The others learn of it by a heartbeat, give up what they have and get partitions anew.
            time.sleep(rng.uniform(0, 1.5 * HEARTBEAT_SECONDS))
            ask_to_stop(leaving)
            assert await_end(leaving) == 0
            group.settle()
        group.go_on(100)


def test_a_worker_frozen_for_longer_than_its_session_does_no_harm_when_it_wakes(
    kafka_broker: KafkaBroker, tmp_path: Path, clean_runs: CleanRuns, delivery: str
) -> None:
    with trial(tmp_path, kafka_broker, clean_runs, delivery, ["one", "two"]) as group:
        one, two = group.workers["one"], group.workers["two"]
        freeze(one)
        frozen = time.monotonic()
        # The other one takes over and goes on; what it may not read is behind the frozen one's transaction.
        wait_for(
            lambda: len(held := two.get("/api/workers")[1]["workers"]) == 1 and held, "the other alone", [two]
        )
        group.go_on(100)
        time.sleep(max(0.0, frozen + BEYOND_SESSION_SECONDS - time.monotonic()))
        awaken(one)
        group.go_on(100)
        # It may end by itself, since it was fenced off; its operator then starts it again.
        wait_for(lambda: not one.is_running or one.get("/health/ready")[0] == 200, "it is back, or ended")
        if not one.is_running:
            group.start("one")
        group.settle()
        group.go_on(100)


def test_a_broker_that_is_stopped_or_killed_and_comes_back(
    own_kafka_broker: KafkaBroker,
    tmp_path: Path,
    clean_runs: CleanRuns,
    delivery: str,
) -> None:
    rng = random.Random(SEED)
    with trial(tmp_path, own_kafka_broker, clean_runs, delivery, ["one", "two"]) as group:
        for end in (own_kafka_broker.stop, own_kafka_broker.kill):
            end()
            time.sleep(rng.uniform(0, 4))
            own_kafka_broker.start()
            group.settle()
            group.go_on(100)


def test_a_worker_whose_records_are_refused_stops_and_nothing_of_them_is_committed(
    kafka_broker: KafkaBroker, tmp_path: Path, clean_runs: CleanRuns, delivery: str
) -> None:
    with trial(tmp_path, kafka_broker, clean_runs, delivery, ["one"]) as group:
        worker = group.workers["one"]
        for name in ("predictions", "changelog"):
            topic, since = group.topic_of(name), log_size(worker)
            set_topic(kafka_broker.bootstrap, topic, max_message_bytes="150")
            assert await_end(worker) != 0
            assert re.fullmatch(
                rf"nowcast: the worker stopped: Kafka at {re.escape(kafka_broker.url)} refused records for "
                rf"topic '{re.escape(topic)}', partition \d \(\[Error 10\] MessageSizeTooLargeError\): raise "
                r"the topic's max\.message\.bytes .* and start it again; nothing is lost",
                last_line(worker, since),
            )
            assert group.n_committed() < group.feed.n_sent
            set_topic(kafka_broker.bootstrap, topic, max_message_bytes=group.limit_of(topic))
            group.start("one")
            group.settle()
            group.go_on(100)


def test_a_full_disk_stops_the_worker_before_anything_is_committed_that_the_disk_has_not(
    kafka_broker: KafkaBroker, tmp_path: Path, clean_runs: CleanRuns, delivery: str
) -> None:
    with trial(tmp_path, kafka_broker, clean_runs, delivery, ["one"]) as group:
        worker = group.workers["one"]
        since = log_size(worker)
        fill_disk(worker)
        assert await_end(worker) != 0
        assert last_line(worker, since) == (
            f"nowcast: the worker stopped: the store in {worker.data_dir} could not be written (File too "
            "large): make room and start it again; nothing is lost"
        )
        committed = group.n_committed()
        assert committed < group.feed.n_sent
        group.start("one")  # there is room again
        group.settle()
        group.go_on(100)
