"""The topic of events deleted and made anew under the same group, on Apache Kafka: said, not hidden."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.live.brokers import KafkaBroker
from tests.live.streams import TIMEOUT_SECONDS, Reader, make_events, produce
from tests.live.workers import Workers, wait_for


def make_anew(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(TIMEOUT_SECONDS)
    wait_for(lambda: topic not in admin.list_topics(timeout=TIMEOUT_SECONDS).topics, "the topic gone")

    def made() -> bool:
        try:  # for a moment the broker may still be deleting
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(TIMEOUT_SECONDS)
        except Exception:
            return False
        return True

    wait_for(made, "the topic made")


@pytest.mark.parametrize("amid", [False, True], ids=["while-stopped", "while-running"])
def test_a_worker_says_that_its_topic_was_made_anew_and_what_to_do(
    kafka_broker: KafkaBroker, tmp_path: Path, amid: bool
) -> None:
    bootstrap = kafka_broker.bootstrap
    with (
        Workers(tmp_path, kafka_broker.url, partitions=1) as workers,
        Reader(bootstrap, str(workers.settings["group"]), 1) as reader,
    ):
        topic = str(workers.settings["topic_events"])
        worker = workers.new("only").start().wait_until_ready()
        produce(bootstrap, topic, make_events(500, 5))
        wait_for(lambda: reader.committed(topic)[0] == 500, "all committed", [worker])
        if not amid:
            assert worker.stop() == 0
        make_anew(bootstrap, topic)
        produce(bootstrap, topic, make_events(20, 5))
        if not amid:
            worker.start()
        wait_for(lambda: not worker.is_running, "the worker's end")
        assert worker.exit_code != 0
        log = worker.read_log()
        (line,) = {line for line in log.splitlines() if "the worker stops" in line}
        assert "ends at offset 20, its state has the records up to offset 499" in line
        assert "NOWCAST_GROUP" in line

        group = f"{workers.settings['group']}-anew"
        other = workers.new("other", group=group).start().wait_until_ready()
        predictions = str(workers.settings["topic_predictions"])
        wait_for(lambda: reader.n_records(predictions) == 520, "the new events scored", [other])
