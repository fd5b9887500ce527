from __future__ import annotations

from types import SimpleNamespace

import pytest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from app.client_thread import ConsumerThread


def test_changelogs_are_not_missed_for_not_being_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    monkeypatch.setattr(
        AIOKafkaConsumerThread, "verify_event_path", lambda thread, now, tp: looked_at.append(tp)
    )
    thread = ConsumerThread.__new__(ConsumerThread)
    thread.app = SimpleNamespace(tables=SimpleNamespace(changelog_topics={"changelog"}))
    for topic in ("events", "changelog", "labels"):
        thread.verify_event_path(1_000.0, TP(topic, 0))
    assert looked_at == [TP("events", 0), TP("labels", 0)]
