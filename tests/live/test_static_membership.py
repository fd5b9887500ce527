"""Static membership: a worker that comes back within its session has its partitions at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.live.brokers import KafkaBroker
from tests.live.streams import Reader, make_events, produce
from tests.live.test_recovery import (
    N_ENTITIES,
    N_PARTITIONS,
    check_predictions,
    check_state,
    is_settled,
    wait_until_all_predicted,
)
from tests.live.workers import Worker, Workers, wait_for


def generation(worker: Worker) -> int:
    """Return the generation of the group that the worker joined last."""
    return int(re.findall(r"\(generation (\d+)\)", worker.read_log())[-1])


@pytest.mark.parametrize("address", ["same", "other"])
def test_a_static_member_that_comes_back_has_its_partitions_again(
    kafka_broker: KafkaBroker, tmp_path: Path, address: str
) -> None:
    with (
        Workers(tmp_path, kafka_broker.url, session_timeout_seconds=30) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        topic, predictions = (str(workers.settings[f"topic_{name}"]) for name in ("events", "predictions"))
        stays = workers.new("stays", {"NOWCAST_INSTANCE_ID": "a"}).start()
        leaves = workers.new("leaves", {"NOWCAST_INSTANCE_ID": "b"}).start()
        wait_for(lambda: is_settled([stays, leaves]), "two workers", [stays, leaves])
        produce(kafka_broker.bootstrap, topic, make_events(4_000, N_ENTITIES))
        wait_until_all_predicted(reader, workers.settings, [stays, leaves])
        before = generation(stays)
        leaves.kill()
        if address == "same":
            back = leaves.start().wait_until_ready()
            assert generation(stays) == before  # the others noticed nothing
        else:
            back = workers.new("back", {"NOWCAST_INSTANCE_ID": "b"}).start()
        wait_for(lambda: is_settled([stays, back]), "they share the partitions", [stays, back])
        produce(kafka_broker.bootstrap, topic, make_events(4_000, N_ENTITIES))
        wait_until_all_predicted(reader, workers.settings, [stays, back])
        events = reader.read(topic)
        check_predictions(events, reader.read(predictions))
        check_state(back, events)
