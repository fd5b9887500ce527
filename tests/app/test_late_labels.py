from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from agents.outbox import Outbox
from app.late_labels import LateLabels
from app.pacing import Pace
from app.replay import ReplaySummary, replay_events
from app.sources import Event
from tests.agents.recording import RecordingProducer


class Producer(RecordingProducer):
    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2}


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def outbox_of(producer: RecordingProducer) -> Outbox:
    return Outbox(lambda: producer, on_failure=lambda error: None)


def labels_of(producer: RecordingProducer) -> dict[str, Any]:
    values = [sent.json for sent in producer.sent if sent.topic == "labels"]
    assert len({value["id"] for value in values}) == len(values)
    return {value["id"]: value["label"] for value in values}


def expected_labels(producer: RecordingProducer, label_of: dict[str, Any]) -> dict[str, Any]:
    """What each event's label is, found by its place in what the broker was given."""
    ends = [0, 0, 0]
    expected = {}
    for sent in producer.sent:
        if sent.topic == "events":
            assert "label" not in sent.json
            expected[f"events-{sent.partition}-{ends[sent.partition]}"] = label_of[sent.json["id"]]
            ends[sent.partition] += 1
    return expected


def events(labels: Sequence[Any]) -> list[Event]:
    return [
        Event(b"card-%d" % (number % 7), 1.0 + number, {"amount": 1.5}, label, f"n-{number}")
        for number, label in enumerate(labels)
    ]


def replay(sent: list[Event], delay_seconds: float, **options: Any) -> tuple[Producer, ReplaySummary]:
    producer = Producer()
    late_labels = LateLabels("labels", delay_seconds)
    summary = run(replay_events(sent, producer, "events", late_labels=late_labels, **options))  # type: ignore[arg-type]
    return producer, summary


@pytest.mark.parametrize("pace", [Pace(), Pace(rate=2_000)])
def test_every_label_names_the_prediction_of_its_event(pace: Pace) -> None:
    sent = events([number % 3 == 0 for number in range(400)])
    producer, summary = replay(sent, 0.05, pace=pace)
    assert (summary.n_events, summary.n_labels) == (400, 400)
    assert labels_of(producer) == expected_labels(producer, {event.id: event.label for event in sent})  # type: ignore[misc]


def test_a_label_goes_to_the_partition_and_the_key_of_its_event() -> None:
    producer, _ = replay(events(range(100)), 0.0)
    places = {sent.key: sent.partition for sent in producer.sent if sent.topic == "events"}
    assert len(set(places.values())) > 1
    assert {sent.key: sent.partition for sent in producer.sent if sent.topic == "labels"} == places


def test_what_has_no_label_gets_none_later_either() -> None:
    sent = events([1, None, 0, None, "odd", 2.5, False])
    producer, summary = replay(sent, 0.0)
    assert summary.n_labels == 5
    expected = expected_labels(producer, {event.id: event.label for event in sent})  # type: ignore[misc]
    assert labels_of(producer) == {key: label for key, label in expected.items() if label is not None}


def test_labels_of_events_that_needed_several_batches_are_told_apart() -> None:
    # 30 events of 60 kB do not fit one batch of 900 kB.
    features = {f"feature-{number}": 1.0 for number in range(3_000)}
    sent = [Event(b"a", 1.0, features, number, f"n-{number}") for number in range(30)]
    producer, _ = replay(sent, 0.0)
    assert producer.n_batches > 2
    assert labels_of(producer) == expected_labels(producer, {event.id: event.label for event in sent})  # type: ignore[misc]


def test_no_label_is_sent_before_its_time_and_none_is_forgotten() -> None:
    async def test() -> None:
        producer = Producer()
        outbox, late_labels = outbox_of(producer), LateLabels("labels", 10.0)
        for moment in (100.0, 103.0):
            late_labels.keep(outbox.pack("events", 1, [b"a"], [b"{}"]), [b"a"], [moment], moment)
            await outbox.send()
        assert late_labels.seconds_left(104.0) == 6.0
        await late_labels.send(outbox, 109.9)
        assert labels_of(producer) == {}
        await late_labels.send(outbox, 110.0)
        assert labels_of(producer) == {"events-1-0": 100.0}
        assert late_labels.are_waiting
        await late_labels.send(outbox, 500.0)
        assert labels_of(producer) == {"events-1-0": 100.0, "events-1-1": 103.0}
        assert (late_labels.are_waiting, late_labels.seconds_left(500.0)) == (False, float("inf"))

    run(test())


def test_a_label_waits_for_the_broker_to_give_its_event_an_offset() -> None:
    async def test() -> None:
        producer = Producer(answer=False)
        outbox, late_labels = outbox_of(producer), LateLabels("labels", 0.0)
        late_labels.keep(outbox.pack("events", 0, [b"a"], [b"{}"]), [b"a"], [1], 0.0)
        await outbox.send()
        sending = asyncio.create_task(late_labels.send(outbox, 1.0))
        await asyncio.sleep(0)
        assert not sending.done()
        producer.acknowledge()
        await sending
        assert labels_of(producer) == {"events-0-0": 1}

    run(test())


def test_the_replay_of_a_source_that_ends_waits_for_its_last_labels() -> None:
    start = time.monotonic()
    _, summary = replay(events([1, 0, 1]), 0.3)
    assert summary.n_labels == 3
    assert time.monotonic() - start >= 0.3
    assert summary.seconds < 0.3  # the rate is that of the events


def test_labels_are_sent_while_the_replay_waits_for_its_next_event() -> None:
    seen: list[int] = []

    async def test() -> None:
        producer, stopping = Producer(), asyncio.Event()
        sent = [Event(b"a", 0.0, {}, 1), Event(b"a", 3_600.0, {}, 0)]
        replaying = asyncio.create_task(
            replay_events(
                sent,
                producer,  # type: ignore[arg-type]
                "events",
                pace=Pace(speed=1.0),
                stopping=stopping,
                late_labels=LateLabels("labels", 0.05),
            )
        )
        while not labels_of(producer):
            await asyncio.sleep(0.005)
        stopping.set()
        seen.append((await replaying).n_labels)

    run(test())
    assert seen == [1]


def test_a_replay_that_is_stopped_does_not_wait_for_labels() -> None:
    async def test() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, stopping.set)
        summary = await replay_events(
            events([1, 0]),
            Producer(),  # type: ignore[arg-type]
            "events",
            stopping=stopping,
            late_labels=LateLabels("labels", 3_600.0),
        )
        assert (summary.n_events, summary.n_labels) == (2, 0)

    run(test())


def test_without_a_delay_an_event_has_its_label_with_it() -> None:
    producer = Producer()
    run(replay_events(events([1]), producer, "events"))  # type: ignore[arg-type]
    assert [json.loads(sent.value or b"")["label"] for sent in producer.sent] == [1]
