"""An alert that was sent before a crash is not sent again (`at_least_once`)."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from agents.sent_alerts import FIRST_SPAN, SentAlerts
from app.settings import Settings
from tests.live.brokers import KafkaBroker
from tests.live.streams import START, Event, Reader, make_events, produce
from tests.live.test_recovery import N_PARTITIONS, wait_until_all_predicted
from tests.live.workers import Workers, wait_for

N_ENTITIES = 200


def outliers() -> list[Event]:
    """Make an event of each entity that is far from all before."""
    return [
        (
            b"sensor-%d" % number,
            json.dumps(
                {"timestamp": START + 100 + number / 100, "features": {"temperature": 1e6, "pressure": 1e9}}
            ).encode(),
        )
        for number in range(N_ENTITIES)
    ]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_alerts_that_a_killed_worker_sent_after_its_last_checkpoint_are_not_sent_again(
    kafka_broker: KafkaBroker, tmp_path: Path, delivery: str
) -> None:
    with (
        Workers(tmp_path, kafka_broker.url) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        events, alerts = (str(workers.settings[f"topic_{name}"]) for name in ("events", "alerts"))
        worker = workers.new("only").start().wait_until_ready()
        produce(kafka_broker.bootstrap, events, make_events(40 * N_ENTITIES, N_ENTITIES))
        wait_until_all_predicted(reader, workers.settings, [worker])
        worker.stop()
        n_before = reader.n_records(alerts)
        # From here on no checkpoint is taken before the worker is killed.
        hasty = workers.new("hasty", data_dir=worker.data_dir, checkpoint_seconds=600)
        hasty.start().wait_until_ready()
        produce(kafka_broker.bootstrap, events, outliers())
        wait_for(lambda: reader.n_records(alerts) == n_before + N_ENTITIES, "the alerts", [hasty])
        hasty.kill()
        shutil.rmtree(worker.data_dir)
        worker = workers.new("after", delivery=delivery).start().wait_until_ready()
        wait_until_all_predicted(reader, workers.settings, [worker])
        produce(kafka_broker.bootstrap, events, make_events(N_ENTITIES, N_ENTITIES, seed=2))
        wait_until_all_predicted(reader, workers.settings, [worker])
        found = Counter(json.loads(message.value())["id"] for message in reader.read(alerts))
        assert set(found.values()) == {1}
        assert sum(name.endswith("firing") for name in found) >= N_ENTITIES
        assert "200 alerts of events that are scored again were sent already" in worker.read_log()


def test_a_crash_before_the_first_checkpoint_sends_no_alert_twice_and_another_group_sends_its_own(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    with (
        Workers(tmp_path, kafka_broker.url) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        events, alerts, predictions = (
            str(workers.settings[f"topic_{name}"]) for name in ("events", "alerts", "predictions")
        )
        n_events = 41 * N_ENTITIES
        hasty = workers.new("hasty", checkpoint_seconds=600).start().wait_until_ready()
        produce(kafka_broker.bootstrap, events, make_events(40 * N_ENTITIES, N_ENTITIES) + outliers())
        wait_for(lambda: reader.n_records(predictions) == n_events, "predictions", [hasty])
        wait_for(lambda: reader.n_records(alerts) >= N_ENTITIES, "alerts", [hasty])
        hasty.kill()
        shutil.rmtree(hasty.data_dir)
        name = str(workers.settings["group"])
        for n_groups, group in enumerate((name, f"{name}-2"), 1):
            worker = workers.new(f"of-{group}", group=group).start().wait_until_ready()
            n_wanted = (1 + n_groups) * n_events
            wait_for(lambda n=n_wanted: reader.n_records(predictions) == n, "its predictions", [worker])  # type: ignore[misc]
            assert worker.stop() == 0
            found = Counter(json.loads(message.value())["id"] for message in reader.read(alerts))
            assert len(found) >= N_ENTITIES
            assert set(found.values()) == {n_groups}
            assert ("of events that are scored again were sent already" in worker.read_log()) == (
                n_groups == 1
            )


def test_the_topic_is_read_back_to_the_newest_alert_that_a_checkpoint_has_behind_it(
    kafka_broker: KafkaBroker,
) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    settings = Settings(broker=kafka_broker.url, topic_alerts=f"{name}-alerts", group="ours")
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
    admin.create_topics([NewTopic(settings.topic_alerts, 6)])[settings.topic_alerts].result()
    n_sent, n_seen = 3 * FIRST_SPAN, FIRST_SPAN // 2

    def ids(number: int, first: int, end: int) -> list[str]:
        return [f"events-{number}-{offset}-score-firing" for offset in range(first, end)]

    def values(found: list[str]) -> list[bytes]:
        return [json.dumps({"id": alert}).encode() for alert in found]

    def about(next_offset: int, alerts_begin: int) -> bytes:
        return b"5 %d 300.0 0 1700 0 %d" % (next_offset, alerts_begin)

    by_label = "events-1-3-error-drift-firing"  # of an event that was scored long ago
    odd = ["events-1-x-score-firing", f"events-1-{'7' * 5_000}-score-firing", "others-1-2-score-firing"]
    foreign = [b"", b"{", b"7", b'{"id": 7}', *values(odd)]
    theirs = values(ids(1, 0, 3))  # of another group that scores history meanwhile
    sent_of_1 = [*ids(1, 0, n_sent - 9), by_label, *ids(1, n_sent - 9, n_sent)]
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap, "enable.idempotence": True})
    for number, group, written in (
        (0, "ours", values(ids(0, 0, 20))),
        (1, "ours", [*values(sent_of_1), *foreign]),
        (1, "theirs", theirs),
        (3, "ours", values(ids(3, 0, 20))),  # the last nine are of this life of the group
        (4, "ours", values(ids(4, 0, 20))),  # of a topic that was made anew
        (5, "theirs", values(ids(5, 0, 20))),
    ):
        for value in written:
            producer.produce(settings.topic_alerts, value, partition=number, headers={"group": group})
    producer.produce(settings.topic_alerts, values(ids(5, 7, 8))[0], partition=5)  # of whom it does not say
    assert producer.flush(60) == 0
    no_begin = about(3, 0).rpartition(b" ")[0]
    abouts = {0: no_begin, 1: about(n_seen, 0), 2: None, 3: about(5, 11), 4: about(5, 1_000), 5: about(5, 0)}
    sent = SentAlerts(settings, abouts.__getitem__)
    assert asyncio.run(asyncio.wait_for(sent.recall(list(abouts)), 60)) == {0: 20, 2: 0}

    def left(number: int, alerts: list[str]) -> list[str]:
        keys, kept = sent.leave_out(number, [b"k"] * len(alerts), values(alerts))
        assert len(keys) == len(kept)
        return [json.loads(value)["id"] for value in kept]

    assert left(1, [*ids(1, n_seen - 1, n_sent + 10), by_label]) == [
        *ids(1, n_seen - 1, n_seen),
        *ids(1, n_sent, n_sent + 10),
    ]
    for number, n_left in ((0, 20), (2, 20), (3, 11), (4, 5), (5, 20)):
        assert left(number, ids(number, 0, 20)) == ids(number, 0, n_left)
    # A partition that went elsewhere is forgotten.
    assert asyncio.run(asyncio.wait_for(sent.recall([3]), 60)) == {}
    assert left(1, ids(1, n_seen, n_sent)) == ids(1, n_seen, n_sent)
