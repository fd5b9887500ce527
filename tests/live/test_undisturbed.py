"""What one worker makes of a stream that nothing disturbs, on Apache Kafka."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Message

from compute.state_codec import decode_entity
from tables.reserved import PREFIX
from tests.live.brokers import KafkaBroker
from tests.live.streams import (
    Reader,
    by_partition,
    check_statistics,
    event_id,
    expected_statistics,
    make_events,
    produce,
)
from tests.live.watched import Watch
from tests.live.workers import Workers, wait_for

WATCHED = "tests.live.watched"
N_PARTITIONS = 4
N_EVENTS = 12_000
N_ENTITIES = 60
BATCH_EVENTS = 250


@dataclass
class Run:
    """What one worker made of a stream that nothing disturbed."""

    events: list[Message]
    predictions: list[Message]
    changelog: list[Message]
    statistics: dict[str, dict[str, Any]]
    batches: list[dict[str, Any]]
    n_events_counted: float
    n_batches_counted: float
    exit_code: int
    committed: dict[int, int]
    end_offsets: dict[int, int]


@pytest.fixture(scope="module")
def undisturbed(kafka_broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("undisturbed")
    watch = Watch(folder / "watch")
    with (
        Workers(folder, kafka_broker.url, WATCHED, batch_events=BATCH_EVENTS) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), N_PARTITIONS) as reader,
    ):
        events, predictions = (
            str(workers.settings["topic_events"]),
            str(workers.settings["topic_predictions"]),
        )
        worker = workers.new("only", watch.environment).start().wait_until_ready()
        produce(kafka_broker.bootstrap, events, make_events(N_EVENTS, N_ENTITIES))
        wait_for(lambda: reader.n_records(predictions) >= N_EVENTS, "all events predicted", [worker])
        statistics = {f"sensor-{i}": worker.get(f"/api/statistics/sensor-{i}")[1] for i in range(N_ENTITIES)}
        counted = [worker.metric(f"nowcast_{name}") for name in ("events_total", "batch_events_count")]
        exit_code = worker.stop()
        return Run(
            reader.read(events),
            reader.read(predictions),
            reader.read(f"{workers.settings['group']}-statistics-changelog"),
            statistics,
            watch.scored(),
            *counted,
            exit_code,
            reader.committed(events),
            reader.end_offsets(events),
        )


def test_every_event_has_exactly_one_prediction_named_after_its_place(undisturbed: Run) -> None:
    ids = [json.loads(message.value())["id"] for message in undisturbed.predictions]
    assert len(undisturbed.events) == N_EVENTS
    assert sorted(ids) == sorted(map(event_id, undisturbed.events))


def test_predictions_stand_in_their_events_partition_in_the_order_of_the_events(undisturbed: Run) -> None:
    events = dict(by_partition(undisturbed.events))
    predictions = dict(by_partition(undisturbed.predictions))
    assert set(events) == set(predictions) == set(range(N_PARTITIONS))
    for partition in events:
        ids = [json.loads(message.value())["id"] for message in predictions[partition]]
        assert ids == list(map(event_id, events[partition]))
        assert [m.key() for m in predictions[partition]] == [m.key() for m in events[partition]]


def test_record_batches_are_bounded_in_events(undisturbed: Run) -> None:
    sizes = [len(batch["offsets"]) for batch in undisturbed.batches]
    assert sum(sizes) == N_EVENTS
    assert max(sizes) == BATCH_EVENTS  # reached, so that the bound is what held them


def test_metrics_count_events_and_not_batches(undisturbed: Run) -> None:
    assert undisturbed.n_events_counted == N_EVENTS
    assert undisturbed.n_batches_counted == len(undisturbed.batches) < N_EVENTS / 10


def test_statistics_are_those_of_all_events(undisturbed: Run) -> None:
    expected = expected_statistics(undisturbed.events)
    assert set(undisturbed.statistics) == set(expected)
    for key, found in undisturbed.statistics.items():
        check_statistics(found, expected[key])


def test_a_stopped_worker_has_committed_all_that_it_read(undisturbed: Run) -> None:
    assert undisturbed.exit_code == 0
    assert undisturbed.committed == undisturbed.end_offsets


def test_a_stopped_worker_leaves_the_whole_state_in_the_changelog(undisturbed: Run) -> None:
    expected = expected_statistics(undisturbed.events)
    stored = {m.key(): m.value() for _, part in by_partition(undisturbed.changelog) for m in part}
    stored = {key: value for key, value in stored.items() if not key.startswith(PREFIX)}
    assert {key.decode() for key in stored} == set(expected)
    for key, value in stored.items():
        state, of_key = decode_entity(value), expected[key.decode()]
        assert state.last_offset == of_key["last_offset"]
        assert state.n_events.sum() == len(of_key["values"])
