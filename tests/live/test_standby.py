"""Standby replicas: whoever takes over has nearly all of the state already."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.live.brokers import KafkaBroker
from tests.live.streams import Reader, make_events, produce
from tests.live.test_long_recovery import restored
from tests.live.test_recovery import (
    N_PARTITIONS,
    check_predictions,
    check_state,
    is_settled,
    stream_of_events,
    wait_until_all_predicted,
)
from tests.live.workers import Worker, Workers, wait_for

N_ENTITIES = 1_000


def n_standbys(worker: Worker) -> int:
    """Return for how many partitions the worker said, since its last assignment, that it is a standby."""
    since = worker.read_log().rpartition("Executing _on_partitions_assigned")[2]
    return sum(map(int, re.findall(r"standby for (\d+) partitions", since)))


def n_held(worker: Worker) -> int:
    """Return how many partitions of events the worker holds."""
    (row,) = worker.get("/api/workers?local=1")[1]["workers"]
    return len(row["partitions"])


@pytest.mark.parametrize("store", ["rocksdb://", "memory://"])
def test_a_standby_takes_over_amid_a_stream_and_reads_only_the_rest(
    kafka_broker: KafkaBroker, tmp_path: Path, store: str
) -> None:
    # A copy with each of the others: with fewer, the balance may give a partition to a worker without one.
    with (
        Workers(tmp_path, kafka_broker.url, store=store, standby_replicas=2) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        topic, predictions = (str(workers.settings[f"topic_{name}"]) for name in ("events", "predictions"))
        changelog = f"{workers.settings['group']}-statistics-changelog"
        group = [workers.new(name).start() for name in ("one", "two", "three")]
        wait_for(lambda: is_settled(group), "three workers", group)
        produce(kafka_broker.bootstrap, topic, make_events(20_000, N_ENTITIES))
        wait_until_all_predicted(reader, workers.settings, group)
        wait_for(lambda: sum(map(n_standbys, group)) == 2 * N_PARTITIONS, "two standbys of each", group)
        n_records = reader.n_records(changelog)
        assert n_records > N_ENTITIES
        # Four partitions over three workers can be two, two and none: who dies is one that holds some.
        victim = next(worker for worker in group if n_held(worker))
        left = [worker for worker in group if worker is not victim]
        before = {worker.name: len(restored(worker)) for worker in left}
        with stream_of_events(kafka_broker.bootstrap, topic, per_second=500):
            victim.kill()
            wait_for(lambda: is_settled(left), "two left", left)
        n_restored = sum(n for worker in left for n, _ in restored(worker)[before[worker.name] :])
        assert n_restored < n_records / 10
        wait_until_all_predicted(reader, workers.settings, left)
        events = reader.read(topic)
        check_predictions(events, reader.read(predictions))
        check_state(left[0], events)
