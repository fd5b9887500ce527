"""The record-batch transport's promises, on Apache Kafka."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from tests.live.brokers import KafkaBroker
from tests.live.streams import (
    Reader,
    make_events,
    produce,
)
from tests.live.watched import Watch
from tests.live.workers import Worker, Workers, wait_for

WATCHED = "tests.live.watched"


@dataclass
class Setup:
    """One watched worker with one partition, ready."""

    workers: Workers
    worker: Worker
    watch: Watch
    reader: Reader
    bootstrap: str

    @property
    def events(self) -> str:
        return str(self.workers.settings["topic_events"])

    @property
    def predictions(self) -> str:
        return str(self.workers.settings["topic_predictions"])

    def committed(self) -> int:
        return self.reader.committed(self.events)[0]

    def wait_for_predictions(self, n: int) -> list[str]:
        wait_for(lambda: self.reader.n_records(self.predictions) >= n, f"{n} predictions", [self.worker])
        return [json.loads(message.value())["id"] for message in self.reader.read(self.predictions)]

    def wait_for_commit(self, offset: int) -> None:
        wait_for(lambda: self.committed() >= offset, f"offset {offset} committed", [self.worker])
        assert self.committed() == offset


@pytest.fixture
def setup(kafka_broker: KafkaBroker, tmp_path: Path) -> Iterator[Setup]:
    watch = Watch(tmp_path / "watch")
    settings = {"partitions": 1, "batch_events": 100, "batch_bytes": 20_000, "checkpoint_seconds": 0.1}
    with (
        Workers(tmp_path, kafka_broker.url, WATCHED, **settings) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), 1) as reader,
    ):
        worker = workers.new("only", watch.environment)
        yield Setup(workers, worker, watch, reader, kafka_broker.bootstrap)


def test_record_batches_are_bounded_in_bytes_and_one_larger_event_still_passes(setup: Setup) -> None:
    small = make_events(60, 3, n_bytes=1_500)
    large = make_events(2, 3, n_bytes=50_000)
    events = small[:30] + large[:1] + small[30:] + large[1:]
    setup.worker.start().wait_until_ready()
    produce(setup.bootstrap, setup.events, events)
    assert len(setup.wait_for_predictions(len(events))) == len(events)
    batches = setup.watch.scored()
    assert [offset for batch in batches for offset in batch["offsets"]] == list(range(len(events)))
    for batch in batches:
        assert batch["n_bytes"] <= 20_000 or len(batch["offsets"]) == 1
    assert {30, 61} <= {batch["offsets"][0] for batch in batches if batch["n_bytes"] > 20_000}


def test_no_offset_is_committed_past_a_batch_that_is_not_done(setup: Setup) -> None:
    events = make_events(1_000, 7)
    setup.worker.start().wait_until_ready()
    produce(setup.bootstrap, setup.events, events[:100])
    setup.wait_for_commit(100)

    # In hand: taken up and not scored.
    setup.watch.hold()
    produce(setup.bootstrap, setup.events, events[100:500])
    wait_for(lambda: not setup.watch.batches()[-1]["scored"], "a batch held", [setup.worker])
    sample = "nowcast_checkpoint_seconds_count"
    n_checkpoints = setup.worker.metric(sample)
    wait_for(lambda: setup.worker.metric(sample) >= n_checkpoints + 3, "three checkpoints", [setup.worker])
    assert setup.committed() == 100
    setup.watch.release()
    setup.wait_for_commit(500)

    # Scored, and the broker has not yet acknowledged its predictions.
    setup.watch.hold("answers")
    produce(setup.bootstrap, setup.events, events[500:])
    wait_for(lambda: setup.worker.metric("nowcast_events_total") == len(events), "all scored", [setup.worker])
    for _ in range(10):  # a checkpoint is due each 0.1 s
        assert setup.committed() == 500
        time.sleep(0.05)
    # A crash here must not lose them: that they are sent again under their ids is what makes up for it.
    setup.worker.kill()
    setup.watch.release("answers")
    setup.worker.start()
    setup.wait_for_commit(len(events))
    ids = Counter(setup.wait_for_predictions(len(events)))
    assert set(ids) == {f"{setup.events}-0-{offset}" for offset in range(len(events))}
    assert all(ids[f"{setup.events}-0-{offset}"] == 1 for offset in range(500))


def test_a_stop_amid_a_stream_commits_what_was_scored_and_nothing_else(setup: Setup) -> None:
    setup.watch.hold("slow", "0.02")
    setup.worker.start().wait_until_ready()
    produce(setup.bootstrap, setup.events, make_events(10_000, 7))
    wait_for(lambda: len(setup.watch.scored()) >= 10, "ten batches scored", [setup.worker])
    assert setup.worker.stop() == 0
    last = setup.watch.scored()[-1]["offsets"][-1]
    assert last < 9_999  # it was amid the stream
    assert setup.committed() == last + 1
    assert setup.reader.n_records(setup.predictions) == last + 1
    setup.watch.release("slow")
    setup.worker.start()
    assert len(setup.wait_for_predictions(10_000)) == 10_000  # no event twice
    setup.wait_for_commit(10_000)


def transact(bootstrap: str, topic: str, events: list[tuple[bytes, bytes]], commit: bool) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"id-{topic}"})
    producer.init_transactions(60)
    producer.begin_transaction()
    for key, value in events:
        producer.produce(topic, value, key)
    producer.flush(60)
    producer.commit_transaction(60) if commit else producer.abort_transaction(60)


def test_aborted_events_are_not_scored_and_markers_do_not_move_the_commit(setup: Setup) -> None:
    events = make_events(18, 3)
    setup.worker.start().wait_until_ready()
    # Offsets: 0-4, marker 5, aborted 6-10, marker 11, 12-16, marker 17.
    for i, commit in enumerate([True, False, True]):
        transact(setup.bootstrap, setup.events, events[i * 5 : i * 5 + 5], commit)
    expected = [f"{setup.events}-0-{i}" for i in (*range(5), *range(12, 17))]
    assert setup.wait_for_predictions(10) == expected
    assert setup.worker.stop() == 0
    assert setup.reader.end_offsets(setup.events) == {0: 18}
    assert setup.committed() == 17  # the next to read after the last that was; 18 would be one too many

    # An aborted transaction at the start of what is read next.
    transact(setup.bootstrap, setup.events, events[:2], commit=False)  # 18-19, marker 20
    transact(setup.bootstrap, setup.events, events[15:], commit=True)  # 21-23, marker 24
    setup.worker.start()
    assert setup.wait_for_predictions(13) == [*expected, *(f"{setup.events}-0-{i}" for i in (21, 22, 23))]
    setup.wait_for_commit(24)
    statistics = setup.worker.get("/api/statistics/sensor-0")[1]
    assert statistics["n_events"] == len([i for i in (*range(5), *range(10, 18)) if i % 3 == 0])


def test_a_gap_left_by_compaction_is_neither_skipped_over_nor_read_twice(setup: Setup) -> None:
    admin = AdminClient({"bootstrap.servers": setup.bootstrap})
    eager = ConfigResource(ResourceType.BROKER, "1")
    eager.add_incremental_config(
        ConfigEntry("log.cleaner.backoff.ms", "100", incremental_operation=AlterConfigOpType.SET)
    )
    for future in admin.incremental_alter_configs([eager]).values():
        future.result(60)
    config = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001"}
    admin.create_topics([NewTopic(setup.events, 1, 1, config=config)])[setup.events].result(60)

    def offsets() -> list[int]:
        return [message.offset() for message in setup.reader.read(setup.events)]

    def compact(start: int) -> list[int]:
        """Produce ten events of one entity and others until the ten are one, and return what is left."""
        produce(setup.bootstrap, setup.events, make_events(10, 1))
        for i in range(400):
            # The newest segment is never compacted, and a new one begins with an event.
            produce(setup.bootstrap, setup.events, [(b"other-%d" % (start + i), make_events(1, 1)[0][1])])
            left = [offset for offset in offsets() if offset >= start]
            if len([offset for offset in left if offset < start + 10]) <= 1:
                return left
            time.sleep(0.05)
        raise AssertionError("not compacted")

    left = compact(0)
    assert left[0] > 0  # begins with a gap
    setup.worker.start().wait_until_ready()
    expected = [f"{setup.events}-0-{offset}" for offset in left]
    assert setup.wait_for_predictions(len(left)) == expected
    assert setup.worker.stop() == 0
    end = left[-1] + 1
    assert setup.committed() == end
    more = compact(end)
    assert more[0] > end  # the committed offset itself is gone
    setup.worker.start()
    assert setup.wait_for_predictions(len(left) + len(more)) == [
        *expected,
        *(f"{setup.events}-0-{offset}" for offset in more),
    ]
    setup.wait_for_commit(more[-1] + 1)


def test_a_slow_model_neither_makes_memory_grow_nor_the_group_rebalance(setup: Setup) -> None:
    n_events, n_bytes, n_batches = 60_000, 2_000, 100
    setup.watch.hold("slow", "0.1")
    setup.worker.start().wait_until_ready()
    process = psutil.Process(setup.worker.process.pid)
    before = process.memory_info().rss
    produce(setup.bootstrap, setup.events, make_events(n_events, 10, n_bytes=n_bytes))  # 120 MB
    peak = before

    def scored() -> bool:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)
        return len(setup.watch.scored()) >= n_batches

    # At 0.1 s each longer than the session timeout of 6 s.
    wait_for(scored, f"{n_batches} batches scored", [setup.worker])
    assert peak - before < n_events * n_bytes / 3
    batches = setup.watch.batches()
    assert len({batch["generation"] for batch in batches}) == 1
    assert batches[-1]["offsets"][-1] < n_events / 2  # there was always more to read
