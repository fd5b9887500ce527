"""The score hop while it waits for a model: what may happen meanwhile, and what comes of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from faust.types import TP

from agents import model_calls
from agents.score import Scorer
from app.settings import Settings
from tables.partition import PARTITION_KEY
from tests.agents.recording import DictStore, Worker, batch, event, record
from tests.agents.test_score import T0, model

SECONDS = 20.0
EVENTS = TP("events", 0)


@pytest.fixture
def settings() -> Settings:
    return Settings(
        warmup_events=3, alert_min_support=3, model_timeout_seconds=SECONDS, label_delay_seconds=0
    )


def stream(n: int) -> list[Any]:
    return [record(i, b"sensor-%d" % (i % 3), event(T0 + i, heat=i % 7, flow=i % 5)) for i in range(n)]


class Gate:
    """A model that answers with the sum of its features when it is let."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.may_answer = threading.Semaphore(0)
        self.n_rows: list[int] = []

    def __call__(self, inputs: Any, options: Any) -> Any:
        self.n_rows.append(len(inputs))
        self.asked.release()
        while not self.may_answer.acquire(timeout=0.01):
            if options.terminate:
                raise RuntimeError("terminated")
        return SUM(inputs, options)

    async def wait_until_asked(self) -> None:
        assert await asyncio.to_thread(self.asked.acquire, timeout=SECONDS)

    def open(self) -> None:
        self.may_answer.release()


SUM = model().predict


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, SECONDS))


def take_checkpoint(worker: Worker) -> dict[bytes, bytes | None]:
    """Take changes and write them to the store, as a checkpoint does with waits between."""
    items = worker.table.take_changes().get(0, [])
    worker.table.write(0, items, 0)
    return dict(items)


def scored_in_pause(
    settings: Settings, pause: Callable[[Worker], None], records: list[Any], before: list[Any] | None = None
) -> Worker:
    """Score `before`, then one batch of one part during whose call `pause` has its turn."""
    worker, gate = Worker(settings, model=model()), Gate()

    async def test() -> None:
        if before:
            await worker.scorer.score(batch(before))
        worker.models.serving = model(predict=gate, version="gate")
        scoring = asyncio.ensure_future(worker.scorer.score(batch(records)))
        await gate.wait_until_asked()
        pause(worker)
        gate.open()
        await scoring

    run(test())
    return worker


def ids(worker: Worker) -> list[str]:
    return [p["id"] for p in worker.predictions()]


def test_rows_of_a_call_that_was_given_up_are_dead_letters_and_the_others_are_predicted() -> None:
    settings = Settings(model_timeout_seconds=0.1)

    def predict(inputs: Any, options: Any) -> Any:
        if (inputs[:, 0] == 13).any():
            while not options.terminate:
                threading.Event().wait(0.001)
            raise RuntimeError("terminated")
        return SUM(inputs, options)

    worker = Worker(settings, model=model(predict=predict))
    records = [record(i, b"a", event(T0 + i, heat=13.0 if i == 2 else 1.0, flow=2.0)) for i in range(5)]
    run(worker.scorer.score(batch(records)))
    letters = [dict(letter.headers) for letter in worker.dead_letters()]
    assert {letter["error"] for letter in letters} == {b"model-timeout"}
    assert {letter["stage"] for letter in letters} == {b"score"}
    assert all(b"model 'sum' version abc: no answer for" in letter["error-message"] for letter in letters)
    assert all(letter["error-message"].endswith(b"within 0.1 s") for letter in letters)
    lost = {int(letter["source-offset"]) for letter in letters}
    assert 2 in lost
    assert sorted(lost | {int(name.rpartition("-")[2]) for name in ids(worker)}) == list(range(5))
    assert worker.scorer.next_offsets == {EVENTS: 5}


def test_a_slow_model_is_asked_in_parts_that_it_can_answer_in_time() -> None:
    def predict(inputs: Any, options: Any) -> Any:
        threading.Event().wait(0.001 * len(inputs))
        assert not options.terminate
        return SUM(inputs, options)

    # All at once would take twice the timeout.
    worker = Worker(Settings(model_timeout_seconds=0.4), model=model(predict=predict))
    run(worker.scorer.score(batch(stream(800))))
    assert ids(worker) == [f"events-0-{i}" for i in range(800)]
    assert worker.dead_letters() == []


def test_parts_of_a_batch_give_the_same_predictions_as_the_whole(settings: Settings) -> None:
    records = stream(300)
    parts, whole = (Worker(settings, model=model(normaliser="window")) for _ in range(2))
    run(parts.scorer.score(batch(records)))

    async def test() -> None:
        await whole.scorer.score(batch(records[:1]))
        caller = whole.scorer._panel._champion
        assert caller is not None
        caller.pace = type(caller.pace)(SECONDS, 1_000)
        await whole.scorer.score(batch(records))

    run(test())
    for one, other in zip(parts.predictions(), whole.predictions(), strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), rel=1e-9, abs=1e-12)
        assert one.pop("prediction") == pytest.approx(other.pop("prediction"), rel=1e-9, abs=1e-12)
        assert one == other


def test_a_checkpoint_during_a_call_has_nothing_of_the_batch_and_all_before_it(settings: Settings) -> None:
    taken: list[Any] = []

    def pause(worker: Worker) -> None:
        taken.append((dict(worker.scorer.next_offsets), take_checkpoint(worker)))

    before = [record(i, b"old", event(T0 + i, heat=1.0, flow=1.0)) for i in range(3)]
    batch_in_hand = [record(3, b"old", event(T0 + 3, heat=9.0, flow=1.0))]
    worker = scored_in_pause(settings, pause, batch_in_hand, before)
    offsets, items = taken[0]
    assert offsets == {EVENTS: 3}
    assert items.keys() == {b"old", PARTITION_KEY}
    reread = Worker(settings, worker.table.store)
    partition = reread.table.partition(0)
    slot = partition.find(b"old")
    assert partition.columns.last_offset[slot] == 2
    assert partition.columns.window_events[slot] == 3
    assert partition.next_offset == 3
    # What the batch changed is written by the next one.
    assert take_checkpoint(worker).keys() == {b"old", PARTITION_KEY}
    assert worker.table.partition(0).columns.window_events[0] == 4


def test_an_entity_made_for_the_batch_is_not_written_nor_shown_before_it_is_learnt(
    settings: Settings,
) -> None:
    seen: list[Any] = []

    def pause(worker: Worker) -> None:
        seen.append((take_checkpoint(worker), worker.scorer.recent_predictions(b"new")))
        seen.append(worker.table.partition(0).find(b"new"))

    worker = scored_in_pause(settings, pause, [record(0, b"new", event(T0, heat=1.0, flow=1.0))])
    assert seen == [({}, []), None]
    assert worker.table.partition(0).find(b"new") == 0
    assert take_checkpoint(worker).keys() == {b"new", PARTITION_KEY}


def test_entities_of_the_batch_leave_memory_neither_for_room_nor_for_silence() -> None:
    settings = Settings(
        window_seconds=12,
        panes=12,
        cached_entities=100,
        model_timeout_seconds=SECONDS,
        label_delay_seconds=0,
    )
    first = [record(i, b"%03d" % i, event(T0, heat=1.0, flow=1.0)) for i in range(200)]
    first.append(record(200, b"ahead", event(T0 + 1_000, heat=1.0, flow=1.0)))  # all others are silent now
    in_hand = [record(201 + i, b"%03d" % i, event(T0 + 1, heat=2.0, flow=1.0)) for i in range(0, 200, 20)]

    def pause(worker: Worker) -> None:
        partition = worker.table.partition(0)
        slot = partition.find(b"000")
        take_checkpoint(worker)
        assert len(partition) < 100
        for i in range(150):  # would have their slots
            worker.table.store.values[b"other-%d" % i] = worker.table.store.values[b"ahead"]
            partition.find(b"other-%d" % i)
        assert partition._slots[b"000"] == slot
        assert partition.find(b"001") is None

    worker = Worker(settings, model=model())
    gate = Gate()

    async def test() -> None:
        await worker.scorer.score(batch(first))
        caller = worker.scorer._panel._champion
        assert caller is not None
        model_of = worker.models.serving
        model_of.predict = gate
        scoring = asyncio.ensure_future(worker.scorer.score(batch(in_hand)))
        await gate.wait_until_asked()
        pause(worker)
        for _ in in_hand:
            gate.open()
        await scoring

    run(test())
    partition = worker.table.partition(0)
    for item in in_hand:
        slot = partition.find(item.key)
        assert partition.columns.last_offset[slot] == item.offset
        assert partition.columns.window.mean[slot].tolist() == [2.0, 1.0]
    assert take_checkpoint(worker).keys() == {item.key for item in in_hand} | {PARTITION_KEY}


def test_a_view_that_brings_in_features_during_a_call_disturbs_nothing(settings: Settings) -> None:
    store = DictStore()
    other = Worker(settings, store)
    run(other.scorer.score(batch([record(0, b"stored", event(T0, heat=1.0, pressure=7.0))])))
    store.write(0, other.table.take_changes()[0], 0)
    worker, gate = Worker(settings, store, model=model(predict=(gate := Gate()))), gate

    async def test() -> None:
        scoring = asyncio.ensure_future(
            worker.scorer.score(batch([record(1, b"new", event(T0, heat=1.0, flow=2.0))]))
        )
        await gate.wait_until_asked()
        assert worker.table.locate(b"stored") is not None
        gate.open()
        await scoring

    run(test())
    assert [p["score"] for p in worker.predictions()] == [3.0]
    columns = worker.table.partition(0).columns
    assert columns.features == ("heat", "flow", "pressure")
    slot = worker.table.partition(0).find(b"new")
    assert columns.window.count[slot].tolist() == [1.0, 1.0, 0.0]


def forget(worker: Worker) -> None:
    worker.scorer.next_offsets.clear()
    worker.table.forget()


def suspend(worker: Worker) -> None:
    worker.scorer.suspend()


def cut_off_and_come_back(worker: Worker) -> None:
    worker.scorer.suspend()
    forget(worker)
    worker.scorer.resume()


@pytest.mark.parametrize("pause", [forget, suspend, cut_off_and_come_back])
def test_a_batch_whose_partition_is_let_go_during_the_call_comes_to_nothing(
    settings: Settings, pause: Callable[[Worker], None]
) -> None:
    records = [record(i, b"new", event(T0, heat=1.0, flow=2.0)) for i in range(5)]
    worker = scored_in_pause(settings, pause, records)
    assert worker.producer.sent == []
    assert worker.scorer.next_offsets == {}
    assert worker.table.take_changes() == {}
    assert worker.metrics.totals()["n_events"] == 0


def test_a_suspended_scorer_ignores_batches_until_it_is_resumed(settings: Settings) -> None:
    worker = Worker(settings)
    worker.scorer.suspend()
    run(worker.scorer.score(batch(stream(5))))
    assert worker.producer.sent == []
    assert worker.scorer.next_offsets == {}
    assert worker.table.take_changes() == {}
    worker.scorer.resume()
    run(worker.scorer.score(batch(stream(5))))
    assert len(worker.predictions()) == 5


def test_a_rebalance_finishes_the_part_in_hand_and_leaves_the_rest(settings: Settings) -> None:
    worker, gate, n_rebalances = Worker(settings, model=model(predict=(gate := Gate()))), gate, [0]
    worker.scorer = Scorer(
        *(settings, worker.table, worker.models, worker.outbox, worker.metrics),  # type: ignore[arg-type]
        session=lambda: n_rebalances[0],
    )

    async def test() -> None:
        scoring = asyncio.ensure_future(worker.scorer.score(batch(stream(10))))
        for _ in range(2):
            await gate.wait_until_asked()
            gate.open()
        await gate.wait_until_asked()
        n_rebalances[0] += 1
        gate.open()
        await scoring

    run(test())
    assert gate.n_rows == [1, 2, 4]
    assert ids(worker) == [f"events-0-{i}" for i in range(7)]
    assert worker.scorer.next_offsets == {EVENTS: 7}


def test_a_new_version_serves_from_the_next_part_on(settings: Settings) -> None:
    gate = Gate()
    worker = Worker(settings, model=model(predict=gate, version="slow"))

    async def test() -> None:
        scoring = asyncio.ensure_future(worker.scorer.score(batch(stream(10))))
        await gate.wait_until_asked()
        worker.models.serving = model(version="quick")
        gate.open()
        await scoring

    run(test())
    assert [p["version"] for p in worker.predictions()] == ["slow"] + ["quick"] * 9


def test_each_part_is_a_sign_of_life(settings: Settings) -> None:
    worker, n_signs = Worker(settings, model=model()), [0]

    def note() -> None:
        n_signs[0] += 1

    worker.scorer = Scorer(
        *(settings, worker.table, worker.models, worker.outbox, worker.metrics),  # type: ignore[arg-type]
        on_progress=note,
    )
    run(worker.scorer.score(batch(stream(7))))
    assert n_signs == [3]


def test_events_of_a_model_that_does_not_return_are_not_held_up_by_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_calls, "GRACE_SECONDS", 0.01)
    settings, released = Settings(model_timeout_seconds=0.1), threading.Event()

    def predict(inputs: Any, options: Any) -> Any:
        assert released.wait(SECONDS)
        return SUM(inputs, options)

    worker = Worker(settings, model=model(predict=predict))
    run(worker.scorer.score(batch(stream(1_000))))
    messages = [dict(letter.headers)["error-message"] for letter in worker.dead_letters()]
    assert len(messages) == 1_000
    assert sum(b"not called" in message for message in messages) == 1_000 - model_calls.MAX_ABANDONED
    np.testing.assert_equal(worker.scorer.next_offsets, {EVENTS: 1_000})
    released.set()
