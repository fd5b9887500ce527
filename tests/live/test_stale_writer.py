"""Stale state behind the owner's, as a worker writes it that was stopped for longer than its session."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.live.brokers import KafkaBroker
from tests.live.streams import Reader, make_events, produce
from tests.live.test_recovery import N_ENTITIES, N_PARTITIONS, check_state, wait_until_all_predicted
from tests.live.workers import Workers

PARTITION_KEY = b"\x00nowcast-partition"


STALE = [("owner", b"1 0")]
"""Header of whoever had the partitions first."""


@pytest.mark.parametrize(("left", "is_finished"), [("kept", True), ("lost", True), ("lost", False)])
def test_stale_state_in_the_changelog_does_not_replace_newer_state_when_it_is_restored(
    kafka_broker: KafkaBroker, tmp_path: Path, left: str, is_finished: bool
) -> None:
    with (
        Workers(tmp_path, kafka_broker.url) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        topic = str(workers.settings["topic_events"])
        changelog = f"{workers.settings['group']}-statistics-changelog"
        events = make_events(6_000, N_ENTITIES)
        worker = workers.new("only").start().wait_until_ready()
        produce(kafka_broker.bootstrap, topic, events[:2_000])
        wait_until_all_predicted(reader, workers.settings, [worker])
        stale = reader.read(changelog)
        produce(kafka_broker.bootstrap, topic, events[2_000:4_000])
        wait_until_all_predicted(reader, workers.settings, [worker])
        # The whole of each partition as it was, its own record last, now behind what is newer.
        producer = Producer({"bootstrap.servers": kafka_broker.bootstrap})
        for message in stale:
            if is_finished or message.key() != PARTITION_KEY:
                producer.produce(
                    changelog, message.value(), message.key(), message.partition(), headers=STALE
                )
        assert producer.flush(60) == 0
        # Entities that are not written again: for them the stale record is the last one.
        again = [event for event in events[4_000:] if int(event[0].rpartition(b"-")[2]) % 2]
        produce(kafka_broker.bootstrap, topic, again)
        wait_until_all_predicted(reader, workers.settings, [worker])
        assert "another worker wrote" in worker.read_log()
        worker.kill()
        if left == "lost":
            shutil.rmtree(worker.data_dir)
        worker.start().wait_until_ready()
        assert "had lost it wrote there" in worker.read_log()
        check_state(worker, reader.read(topic))
        # What was restored is a state to go on from.
        produce(kafka_broker.bootstrap, topic, make_events(500, N_ENTITIES, seed=2))
        wait_until_all_predicted(reader, workers.settings, [worker])
        assert worker.stop() == 0
        worker.start().wait_until_ready()
        assert worker.get("/health/ready")[0] == 200
