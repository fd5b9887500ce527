"""A recovery that takes long: what it answers meanwhile, and what may happen in its midst."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from pathlib import Path

from confluent_kafka.admin import AdminClient

from app.settings import Settings
from app.topics import changelog_topic, ensure_topics
from tests.live.brokers import KafkaBroker
from tests.live.changelogs import EVENTS_A_PANE, N_HELD, fill_changelog, key_of
from tests.live.watched import Watch
from tests.live.workers import Worker, Workers, wait_for

WATCHED = "tests.live.watched"
N_PARTITIONS = 4
N_ENTITIES = 40_000
SLOW, SLOWER = "0.05", "0.3"
"""Seconds for each write of a recovery, of which there are more than 40."""


def fill(broker: KafkaBroker, workers: Workers) -> int:
    """Create the topics and write a changelog; return how many records it has."""
    settings = Settings(**workers.settings)  # type: ignore[arg-type]
    asyncio.run(ensure_topics(settings))
    fill_changelog(broker.bootstrap, changelog_topic(settings), N_PARTITIONS, N_ENTITIES)
    return N_ENTITIES + N_PARTITIONS


def restored(worker: Worker) -> list[tuple[int, int]]:
    """Return what the worker says it has restored: records and partitions, each time."""
    found = re.findall(r"restored (\d+) records of (\d+) partitions", worker.read_log())
    return [(int(n_records), int(n_partitions)) for n_records, n_partitions in found]


def check_entities(worker: Worker) -> None:
    for partition in range(N_PARTITIONS):
        for number in (0, N_ENTITIES // N_PARTITIONS - 1):
            key = key_of(partition, number).decode()
            status, found = worker.get(f"/api/statistics/{key}")
            assert (status, found["partition"]) == (200, partition)
            assert found["n_events"] == N_HELD * EVENTS_A_PANE


def is_recovering(worker: Worker) -> bool:
    status, body = worker.get("/health/ready")
    return status == 503 and "records, " in body["error"] and " 0 records" not in body["error"]


def test_a_worker_that_recovers_answers_503_at_once_and_is_ready_only_with_its_state(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    watch = Watch(tmp_path / "watch")
    with Workers(tmp_path, kafka_broker.url, WATCHED) as workers:
        n_records = fill(kafka_broker, workers)
        watch.hold("restoring", SLOW)
        worker = workers.new("only", watch.environment).start()
        wait_for(lambda: is_recovering(worker), "recovery", [worker])
        slowest, n_asked = 0.0, 0
        while not restored(worker):
            for path in ("/health/ready", "/api/statistics/machine-00-0000000"):
                asked = time.monotonic()
                status, body = worker.get(path)
                slowest = max(slowest, time.monotonic() - asked)
                n_asked += status == 503
                assert restored(worker) or (status, "recovering state" in body["error"]) == (503, True)
            assert worker.get("/health/live")[0] == 200
        assert n_asked > 10
        assert slowest < 1.0
        worker.wait_until_ready()
        assert restored(worker) == [(n_records, N_PARTITIONS)]
        check_entities(worker)


def test_a_rebalance_amid_a_recovery_loses_nothing_and_reads_nothing_twice(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    watch = Watch(tmp_path / "watch")
    with Workers(tmp_path, kafka_broker.url, WATCHED) as workers:
        n_records = fill(kafka_broker, workers)
        watch.hold("restoring", SLOWER)
        first = workers.new("first", watch.environment).start()
        wait_for(lambda: is_recovering(first), "recovery", [first])
        second = workers.new("second", watch.environment).start()
        wait_for(lambda: is_recovering(second), "recovery of the second", [first, second])
        watch.release("restoring")
        first.wait_until_ready()
        second.wait_until_ready()
        # What the first had restored before the rebalance is in no line, and is not read again.
        ((n_first, p_first),) = restored(first)
        ((n_second, p_second),) = restored(second)
        assert p_first == p_second == N_PARTITIONS // 2
        assert n_second == n_records // 2
        assert n_first < n_records // 2
        check_entities(first)
        check_entities(second)


def test_a_broker_that_goes_away_amid_a_recovery_is_waited_for(
    own_kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    watch = Watch(tmp_path / "watch")
    with Workers(tmp_path, own_kafka_broker.url, WATCHED) as workers:
        n_records = fill(own_kafka_broker, workers)
        watch.hold("restoring", SLOWER)
        worker = workers.new("only", watch.environment).start()
        wait_for(lambda: is_recovering(worker), "recovery", [worker])
        own_kafka_broker.kill()
        watch.release("restoring")
        time.sleep(2.0)  # what is fetched already gets written, then there is nothing to do but wait
        assert not restored(worker)
        size = worker.log.stat().st_size
        own_kafka_broker.start()
        worker.wait_until_ready()
        assert sum(n for n, _ in restored(worker)) <= n_records
        check_entities(worker)
        assert size < 100_000  # it did not fill its log meanwhile


def test_a_local_state_that_is_ahead_of_the_topic_ends_the_worker_with_one_line(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    with Workers(tmp_path, kafka_broker.url) as workers:
        fill(kafka_broker, workers)
        worker = workers.new("only").start().wait_until_ready()
        assert worker.stop() == 0
        topic = changelog_topic(Settings(**workers.settings))  # type: ignore[arg-type]
        delete_topic(kafka_broker.bootstrap, topic)
        worker.start()
        wait_for(lambda: not worker.is_running, "the end of the worker")
        assert worker.exit_code
        (line,) = [line for line in worker.read_log().splitlines() if "the worker stops" in line]
        for text in ("partition ", topic, "ends at 0", "delete", str(worker.data_dir)):
            assert text in line
        assert worker.data_dir.exists()
        shutil.rmtree(worker.data_dir)
        worker.start().wait_until_ready()


def delete_topic(bootstrap: str, topic: str) -> None:
    """Delete a topic and wait until it can be created anew."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_topics([topic]).values():
        future.result()
    wait_for(lambda: topic not in admin.list_topics(timeout=10).topics, f"{topic} is gone")
