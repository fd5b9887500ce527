"""The watcher: reads all topics of a run from Kafka, as any consumer could, and keeps the ledger.

It knows nothing of the worker: what it counts is what the broker hands out. The latency of an event is
the timestamp of its prediction's record minus that of its own record: from being sent by the replay to
being written by the worker.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.demo.ledger import Ledger
from app.demo.story import Story
from app.settings import Settings
from compute.decisions import read_key
from tables import fetched_records
from tables.model_records import METADATA_HEADER
from tables.reading_client import new_reading_client

SHOWN_ALERTS = 100


class _Prediction(msgspec.Struct):
    id: str


class Watcher:
    """Follows events, predictions, alerts and dead letters from now on.

    Parameters
    ----------
    settings : Settings
    story : Story, optional
        Told of events and alerts, and of labels, evaluations and models, which are followed for it.

    Attributes
    ----------
    ledger : Ledger
        Events and their answers.
    n_alerts : Counter
        Alerts by state.
    errors : Counter
        Dead letters by code.
    alerts : deque
        Latest alerts that fire, as decoded JSON; whoever shows them takes them out.
    """

    def __init__(self, settings: Settings, story: Story | None = None) -> None:
        self._settings = settings
        self.story = story
        fetched_records.install()
        self._consumer = new_reading_client(
            settings, "demo", isolation_level="read_uncommitted", fetch_max_wait_ms=100
        )
        self.ledger = Ledger({})
        self.n_alerts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.alerts: deque[dict[str, Any]] = deque(maxlen=SHOWN_ALERTS)
        self._decode = msgspec.json.Decoder(_Prediction).decode
        self._handlers = {
            settings.topic_events: self._on_event,
            settings.topic_predictions: self._on_prediction,
            settings.topic_alerts: self._on_alert,
            settings.topic_dead_letters: self._on_dead_letter,
        }
        if story is not None:
            self._handlers |= {
                settings.topic_labels: self._on_label,
                settings.topic_evaluations: self._on_evaluation,
                settings.topic_models: self._on_model,
            }

    async def start(self) -> None:
        """Place the watcher at the end of every topic; they must exist."""
        await self._consumer.start()
        n_partitions = await self._count_partitions()
        places = [
            TopicPartition(topic, partition)
            for topic in self._handlers
            for partition in range(n_partitions[topic])
        ]
        self._consumer.assign(places)
        await self._consumer.seek_to_end(*places)
        ends = {place: await self._catch_up(place) for place in places}
        events = self._settings.topic_events
        self.ledger = Ledger({place.partition: end for place, end in ends.items() if place.topic == events})

    async def _count_partitions(self) -> dict[str, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.bootstrap_servers)
        await admin.start()
        try:
            described = await admin.describe_topics(list(self._handlers))
        finally:
            await admin.close()
        return {item["topic"]: len(item["partitions"]) for item in described}

    async def _catch_up(self, place: TopicPartition) -> int:
        """Skip what is there already; the embedded broker's end is that of its last batch's first record."""
        end = await self._consumer.position(place)
        while end and ((known := self._consumer.highwater(place)) is None or end < known):
            await self._consumer.getmany(place, timeout_ms=50)
            end = await self._consumer.position(place)
        return int(end)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=200, max_records=5_000)
            for place, records in fetched.items():
                handle = self._handlers[place.topic]
                for record in records:
                    handle(record)

    async def stop(self) -> None:
        """Leave the broker."""
        with contextlib.suppress(KafkaError):
            await self._consumer.stop()

    def _on_event(self, record: Any) -> None:
        self.ledger.add_event(record.partition, record.offset, record.timestamp)
        if self.story is not None:
            self.story.add_event(record.partition, record.offset, record.timestamp / 1_000)

    def _on_prediction(self, record: Any) -> None:
        topic, partition, offset = self._decode(record.value).id.rsplit("-", 2)
        if topic == self._settings.topic_events:
            self.ledger.add_answer(int(partition), int(offset), record.timestamp)

    def _on_alert(self, record: Any) -> None:
        alert = msgspec.json.decode(record.value)
        self.n_alerts[alert["state"]] += 1
        if alert["state"] == "firing":
            self.alerts.append(alert)
        if self.story is not None:
            self.story.add_alert(alert, record.timestamp / 1_000)

    def _on_dead_letter(self, record: Any) -> None:
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        if headers.get("source-topic") == self._settings.topic_events:
            self.errors[headers.get("error", "unknown")] += 1
            self.ledger.add_answer(int(headers["source-partition"]), int(headers["source-offset"]), None)

    def _on_label(self, record: Any) -> None:
        assert self.story is not None
        self.story.add_label(self._decode(record.value).id, record.timestamp / 1_000)

    def _on_evaluation(self, record: Any) -> None:
        assert self.story is not None
        self.story.add_evaluation(msgspec.json.decode(record.value), record.timestamp / 1_000)

    def _on_model(self, record: Any) -> None:
        assert self.story is not None
        if read_key(record.key.decode()).is_decision:
            self.story.add_decision(msgspec.json.decode(record.value), record.timestamp / 1_000)
        elif metadata := dict(record.headers).get(METADATA_HEADER):
            self.story.add_artefact(msgspec.json.decode(metadata))
