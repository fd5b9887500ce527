"""Checkpoints: the order in which things become durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from faust.types import TP

from agents.checkpoint import Checkpoint
from agents.outbox import CutOffError
from app.settings import Settings
from compute.state_codec import decode_entity
from tables.owner import Owner
from tables.partition import PARTITION_KEY
from tables.reserved import read_alerts_begin
from tests.agents.recording import DictStore, Worker, batch, event, record
from tests.agents.test_score import T0, stream


def checkpoint_of(worker: Worker, rejoin: Callable[[], None] = lambda: None) -> Checkpoint:
    return Checkpoint(worker.scorer, worker.table, worker.outbox, worker.metrics, rejoin)  # type: ignore[arg-type]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_offsets_are_given_only_after_predictions_then_changelog_then_store() -> None:
    async def run() -> None:
        worker = Worker(Settings())
        worker.producer.answer = False
        await worker.scorer.score(batch(stream(10)))
        taking = asyncio.ensure_future(checkpoint_of(worker).take())
        await settle()
        assert worker.producer.of("changelog") == []  # predictions are not acknowledged yet
        worker.producer.acknowledge()
        await settle()
        assert b"sensor-0" in {sent.key for sent in worker.producer.of("changelog")}
        assert PARTITION_KEY not in {sent.key for sent in worker.producer.of("changelog")}
        worker.producer.acknowledge()
        await settle()
        # It says where the partition is, so it must not be there without its entities.
        assert worker.producer.of("changelog")[-1].key == PARTITION_KEY
        assert not worker.table.store.values
        assert not taking.done()
        worker.producer.acknowledge()
        assert await asyncio.wait_for(taking, 1) == {TP("events", 0): 10}
        changelog = {sent.key: sent.value for sent in worker.producer.of("changelog")}
        assert worker.table.store.values == changelog
        assert worker.table.store.offset == len(changelog) - 1

    asyncio.run(run())


def test_offset_and_state_are_of_one_moment_though_scoring_goes_on() -> None:
    async def run() -> None:
        worker = Worker(Settings())
        worker.producer.answer = False
        records = stream(20, n_entities=1)
        await worker.scorer.score(batch(records[:10]))
        taking = asyncio.ensure_future(checkpoint_of(worker).take())
        await settle()
        await worker.scorer.score(batch(records[10:]))
        worker.producer.answer = True
        worker.producer.acknowledge()
        assert (await asyncio.wait_for(taking, 1))[TP("events", 0)] == 10
        assert decode_entity(worker.table.store.values[b"sensor-0"]).last_offset == 9
        assert (await checkpoint_of(worker).take())[TP("events", 0)] == 20
        assert decode_entity(worker.table.store.values[b"sensor-0"]).last_offset == 19

    asyncio.run(run())


@pytest.mark.parametrize("n_after", [0, 5, 13])
def test_a_crash_after_a_checkpoint_and_a_replay_end_in_the_state_of_a_clean_run(n_after: int) -> None:
    async def run() -> None:
        records = stream(30)
        clean = Worker(Settings())
        await clean.scorer.score(batch(records))
        await checkpoint_of(clean).take()

        store = DictStore()
        crashed = Worker(Settings(), store)
        await crashed.scorer.score(batch(records[:10]))
        await checkpoint_of(crashed).take()
        if n_after:
            await crashed.scorer.score(batch(records[10 : 10 + n_after]))
        # The state reached the store, the offset did not: the worst moment to die.
        await checkpoint_of(crashed).take()

        again = Worker(Settings(), store)
        await again.scorer.score(batch(records[10:]))
        await checkpoint_of(again).take()
        for key, value in clean.table.store.values.items():
            if key.startswith(b"sensor"):
                assert state(store.values[key]) == pytest.approx(state(value), rel=1e-12)
        expected = {p["id"]: p for p in clean.predictions()}
        # Those up to the state were answered before it was written.
        assert {p["id"] for p in again.predictions()} == {f"events-0-{i}" for i in range(10 + n_after, 30)}
        assert expected.keys() == {p["id"] for w in (crashed, again) for p in w.predictions()}

    asyncio.run(run())


def state(stored: bytes) -> list[float]:
    entity = decode_entity(stored)
    numbers = [entity.last_offset, entity.newest, *entity.n_events, *entity.moments.count.ravel()]
    return [float(n) for n in [*numbers, *entity.moments.mean.ravel(), *entity.moments.m2.ravel()]]


def test_an_alert_is_acknowledged_before_the_state_that_remembers_it_goes_out() -> None:
    async def run() -> None:
        worker = Worker(Settings(alert_min_support=3, warmup_events=3))
        worker.producer.answer = False
        records = [record(i, b"a", event(T0 + i, heat=float(i % 3))) for i in range(30)]
        records.append(record(30, b"a", event(T0 + 30, heat=900.0)))
        await worker.scorer.score(batch(records))
        assert worker.alerts()
        taking = asyncio.ensure_future(checkpoint_of(worker).take())
        await settle()
        assert worker.producer.of("changelog") == []
        worker.producer.answer = True
        worker.producer.acknowledge()
        await asyncio.wait_for(taking, 1)

    asyncio.run(run())


def test_nothing_new_writes_nothing() -> None:
    async def run() -> None:
        worker = Worker(Settings())
        await worker.scorer.score(batch(stream(10)))
        await checkpoint_of(worker).take()
        n_batches = worker.producer.n_batches
        await checkpoint_of(worker).take()
        assert worker.producer.n_batches == n_batches

    asyncio.run(run())


def test_a_failed_delivery_gives_no_offsets() -> None:
    async def run() -> None:
        worker = Worker(Settings())
        worker.producer.answer = False
        await worker.scorer.score(batch(stream(10)))
        taking: Any = asyncio.ensure_future(checkpoint_of(worker).take())
        await settle()
        worker.producer.refuse(OSError("disk full"))
        with pytest.raises(OSError, match="disk full"):
            await taking
        assert not worker.table.store.values

    asyncio.run(run())


@pytest.mark.parametrize("where", ["first flush", "second flush", "store"])
def test_after_a_checkpoint_that_failed_none_gives_offsets(where: str) -> None:
    async def run() -> None:
        worker = Worker(Settings())
        checkpoint = checkpoint_of(worker)
        await worker.scorer.score(batch(stream(10)))
        send_batch, n_calls = worker.producer.send_batch, 0

        async def fail_once(*args: Any, **kwargs: Any) -> Any:
            nonlocal n_calls
            n_calls += 1
            if n_calls == 1:
                raise OSError("not now")
            return await send_batch(*args, **kwargs)

        if where == "store":
            worker.table.store.write = lambda *args: 1 / 0  # type: ignore[assignment,method-assign]
        else:
            if where == "second flush":
                await worker.outbox.flush()
            else:
                await worker.scorer.score(batch(stream(5, first_offset=10)))
                worker.outbox.pack("predictions", 0, [b"k"], [b"v"])
            worker.producer.send_batch = fail_once  # type: ignore[method-assign]
        with pytest.raises((OSError, ZeroDivisionError)):
            await checkpoint.take()
        # Faust takes one more on its way out; it would commit what no state has.
        with pytest.raises(RuntimeError, match="earlier checkpoint failed"):
            await checkpoint.take()

    asyncio.run(run())


class CutOff:
    """A worker whose lease ends when told to."""

    def __init__(self) -> None:
        self.holds_lease = True
        self.n_rejoins = 0
        self.worker = Worker(Settings(), holds_lease=lambda: self.holds_lease)
        self.checkpoint = checkpoint_of(self.worker, self._rejoin)

    def _rejoin(self) -> None:
        self.n_rejoins += 1


def test_without_a_lease_neither_changelog_nor_store_nor_offsets_are_touched() -> None:
    async def run() -> None:
        cut = CutOff()
        worker = cut.worker
        await worker.scorer.score(batch(stream(10)))
        assert await cut.checkpoint.take() == {TP("events", 0): 10}
        before = dict(worker.table.store.values)
        n_written = len(worker.producer.of("changelog"))
        await worker.scorer.score(batch(stream(10, first_offset=10)))
        cut.holds_lease = False
        assert await cut.checkpoint.take() == {}
        assert cut.n_rejoins == 1
        assert worker.table.store.values == before
        assert len(worker.producer.of("changelog")) == n_written

    asyncio.run(run())


def test_who_was_cut_off_scores_nothing_until_it_has_a_new_assignment() -> None:
    async def run() -> None:
        cut = CutOff()
        worker = cut.worker
        await worker.scorer.score(batch(stream(10)))
        cut.checkpoint.cut_off(CutOffError("asleep"))
        cut.checkpoint.cut_off(CutOffError("told twice"))
        assert cut.n_rejoins == 1
        n_predictions = len(worker.predictions())
        await worker.scorer.score(batch(stream(10, first_offset=10)))
        assert len(worker.predictions()) == n_predictions
        assert await cut.checkpoint.take() == {}
        await cut.checkpoint.begin([0])
        await worker.scorer.score(batch(stream(20)))
        assert len(worker.predictions()) == n_predictions + 20
        assert await cut.checkpoint.take() == {TP("events", 0): 20}

    asyncio.run(run())


def test_where_alerts_begin_is_durable_before_the_first_event() -> None:
    async def run() -> None:
        worker = Worker(Settings())
        worker.table.partition(0).owner = Owner(1_700, 0)
        worker.producer.answer = False
        taking = asyncio.ensure_future(checkpoint_of(worker).take_first({0: 7}))
        await settle()
        assert not worker.table.store.values
        assert not taking.done()
        worker.producer.acknowledge()
        await asyncio.wait_for(taking, 1)
        assert read_alerts_begin(worker.table.store.values[PARTITION_KEY]) == 7
        assert [sent.key for sent in worker.producer.of("changelog")] == [PARTITION_KEY]
        await checkpoint_of(worker).take_first({})  # known already
        assert len(worker.producer.of("changelog")) == 1

    asyncio.run(run())


def test_who_is_cut_off_before_the_first_checkpoint_scores_nothing_and_joins_anew() -> None:
    async def run() -> None:
        worker = Worker(Settings())
        worker.outbox._holds_lease = lambda: False
        rejoined: list[bool] = []
        await checkpoint_of(worker, lambda: rejoined.append(True)).take_first({0: 7})
        assert rejoined == [True]
        assert worker.scorer.suspended
        assert worker.producer.sent == []

    asyncio.run(run())
