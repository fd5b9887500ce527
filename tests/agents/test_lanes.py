"""The way out in exactly_once: what belongs to which transaction, and what a fence leads to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import OutOfOrderSequenceNumber, ProducerFenced
from aiokafka.structs import TopicPartition
from faust.types import TP

from agents.lanes import MAX_WAITING, Lanes
from agents.outbox import CutOffError
from tests.agents.recording import RecordingProducer

EVENTS = TP("events", 0)
WRITTEN = ["predictions", "changelog"]
STATE = [(b"sensor", b"state"), (b"\x00partition", b"7 3")]


class TransactionalProducer(RecordingProducer):
    """The client's producer up to the network, with its rules about what may come when."""

    def __init__(self, name: str, log: list[Any]) -> None:
        super().__init__()
        self.name = name
        self.log = log
        self.open = False
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.fails: dict[str, Exception] = {}
        self._txn_manager = SimpleNamespace(is_fatal_error=lambda: False)

    async def _step(self, name: str, *what: Any) -> None:
        await asyncio.sleep(0)
        if name in self.fails:
            raise self.fails[name]
        self.log.append((self.name, name, *what))

    async def start(self) -> None:
        await self._step("start")

    async def stop(self) -> None:
        await self._step("stop")

    async def begin_transaction(self) -> None:
        assert not self.open
        await self._step("begin")
        self.open = True

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        assert self.open
        n_sent = len(self.sent)
        future = await super().send_batch(batch, topic, partition=partition)
        self.log.extend((self.name, topic, sent.value) for sent in self.sent[n_sent:])
        return future

    async def send_offsets_to_transaction(self, offsets: Any, group: str) -> None:
        assert self.open
        await self._step("offsets", {tp: item.offset for tp, item in offsets.items()}, group)

    async def commit_transaction(self) -> None:
        assert self.open
        await self.may_commit.wait()
        await self._step("commit")
        self.open = False

    async def abort_transaction(self) -> None:
        await self._step("abort")
        self.open = False


class Worker:
    """Lanes around producers that record."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.producers: list[TransactionalProducer] = []
        self.failures: list[BaseException] = []
        self.cuts: list[BaseException] = []
        self.lanes = Lanes("events", "group", WRITTEN, self._new, self.failures.append, self.cuts.append)

    def _new(self, name: str) -> TransactionalProducer:
        self.producers.append(TransactionalProducer(name, self.log))
        return self.producers[-1]

    def steps(self, name: str = "group-events-0") -> list[Any]:
        return [step[1] if len(step) == 2 else step[1:] for step in self.log if step[0] == name]


def test_a_transaction_holds_answers_state_and_offset() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0])
        worker.lanes.pack("predictions", 0, [b"sensor"], [b"p"])
        await worker.lanes.send()
        assert worker.steps() == ["start", "begin", ("predictions", b"p")]  # it leaves at once
        assert await worker.lanes.make_durable("changelog", {0: STATE}, {EVENTS: 3}) == {0: 1}
        assert worker.steps()[3:] == [
            ("changelog", b"state"),
            ("changelog", b"7 3"),
            ("offsets", {TopicPartition("events", 0): 3}, "group"),
            "commit",
        ]

    asyncio.run(run())


def test_each_partition_has_a_transaction_of_its_own() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0, 4])
        for partition in (0, 4):
            worker.lanes.pack("predictions", partition, [b"k"], [b"%d" % partition])
        await worker.lanes.send()
        await worker.lanes.make_durable("changelog", {}, {TP("events", 0): 5, TP("events", 4): 9})
        for partition, offset in ((0, 5), (4, 9)):
            assert worker.steps(f"group-events-{partition}") == [
                "start",
                "begin",
                ("predictions", b"%d" % partition),
                ("offsets", {TopicPartition("events", partition): offset}, "group"),
                "commit",
            ]

    asyncio.run(run())


def test_what_is_packed_during_a_commit_belongs_to_the_next_transaction() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0])
        (producer,) = worker.producers
        worker.lanes.pack("predictions", 0, [b"k"], [b"before"])
        await worker.lanes.send()
        worker.lanes.pack("predictions", 0, [b"k"], [b"packed"])
        producer.may_commit.clear()
        taking = asyncio.ensure_future(worker.lanes.make_durable("changelog", {0: STATE}, {EVENTS: 2}))
        await asyncio.sleep(0)
        worker.lanes.pack("predictions", 0, [b"k"], [b"after"])
        await asyncio.wait_for(worker.lanes.send(), 1)  # scoring goes on meanwhile
        producer.may_commit.set()
        await taking
        assert ("predictions", b"after") not in worker.steps()
        await worker.lanes.send()
        steps = worker.steps()
        assert steps.index(("predictions", b"packed")) < steps.index("commit")
        assert steps[-2:] == ["begin", ("predictions", b"after")]

    asyncio.run(run())


def test_scoring_waits_when_too_much_waits_for_a_commit() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0])
        (producer,) = worker.producers
        producer.may_commit.clear()
        taking = asyncio.ensure_future(worker.lanes.make_durable("changelog", {0: STATE}, {EVENTS: 2}))
        await asyncio.sleep(0)
        for _ in range(MAX_WAITING):
            worker.lanes.pack("predictions", 0, [b"k"], [b"v"])
        sending = asyncio.ensure_future(worker.lanes.send())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not sending.done()
        producer.may_commit.set()
        await taking
        await asyncio.wait_for(sending, 1)
        assert worker.steps().count(("predictions", b"v")) == MAX_WAITING

    asyncio.run(run())


def test_nothing_new_makes_no_transaction() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0])
        await worker.lanes.make_durable("changelog", {0: STATE}, {EVENTS: 2})
        n_steps = len(worker.log)
        await worker.lanes.make_durable("changelog", {}, {EVENTS: 2})
        await worker.lanes.make_durable("changelog", {}, {})
        assert len(worker.log) == n_steps

    asyncio.run(run())


def test_dead_letters_alone_are_committed_with_their_offset() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0])
        worker.lanes.pack("dead-letters", 0, [b"k"], [b"?"])
        await worker.lanes.send()
        assert await worker.lanes.make_durable("changelog", {}, {EVENTS: 1}) == {}
        assert worker.steps()[-2:] == [("offsets", {TopicPartition("events", 0): 1}, "group"), "commit"]

    asyncio.run(run())


@pytest.mark.parametrize("where", ["begin", "offsets", "commit"])
@pytest.mark.parametrize("error", [ProducerFenced(), OutOfOrderSequenceNumber()])
def test_a_fence_in_a_checkpoint_is_told_as_cut_off(where: str, error: Exception) -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0, 1])
        worker.producers[0].fails[where] = error
        offsets = {TP("events", 0): 1, TP("events", 1): 1}
        with pytest.raises(CutOffError):
            await worker.lanes.make_durable("changelog", {0: STATE, 1: STATE}, offsets)
        assert "commit" not in worker.steps("group-events-0")
        assert "commit" in worker.steps("group-events-1")

    asyncio.run(run())


def test_what_a_fenced_client_complains_of_later_is_told_as_cut_off_too() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0])
        (producer,) = worker.producers
        producer.answer = False
        worker.lanes.pack("predictions", 0, [b"k"], [b"v"])
        await worker.lanes.send()
        producer.refuse(ProducerFenced())
        await asyncio.sleep(0)
        producer.fails["offsets"] = OSError("not in a transaction")
        with pytest.raises(CutOffError):
            await worker.lanes.make_durable("changelog", {0: STATE}, {EVENTS: 1})

    asyncio.run(run())


def test_an_error_that_is_no_fence_is_told_as_it_is() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0, 1])
        worker.producers[0].fails["commit"] = ProducerFenced()
        worker.producers[1].fails["commit"] = OSError("broken")
        with pytest.raises(OSError, match="broken"):
            await worker.lanes.make_durable("changelog", {0: STATE, 1: STATE}, {EVENTS: 1})

    asyncio.run(run())


def test_a_batch_that_is_refused_tells_fence_from_failure() -> None:
    async def run(error: Exception) -> Worker:
        worker = Worker()
        await worker.lanes.open([0])
        (producer,) = worker.producers
        producer.answer = False
        worker.lanes.pack("predictions", 0, [b"k"], [b"v"])
        await worker.lanes.send()
        producer.refuse(error)
        await asyncio.sleep(0)
        return worker

    fenced = asyncio.run(run(ProducerFenced()))
    assert (len(fenced.cuts), len(fenced.failures)) == (1, 0)
    failed = asyncio.run(run(OSError("disk full")))
    assert (len(failed.cuts), len(failed.failures)) == (0, 1)


def test_opening_anew_lets_go_of_what_was_held_and_aborts_what_was_begun() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0, 1])
        worker.lanes.pack("predictions", 0, [b"k"], [b"v"])
        await worker.lanes.send()
        await worker.lanes.open([1, 2])
        assert worker.steps("group-events-0")[-2:] == ["abort", "stop"]
        assert worker.steps("group-events-1") == ["start", "stop", "start"]
        assert worker.steps("group-events-2") == ["start"]

    asyncio.run(run())


def test_one_id_that_cannot_be_taken_leaves_none_behind() -> None:
    async def run() -> None:
        worker = Worker()
        make = worker._new

        def new(name: str) -> TransactionalProducer:
            producer = make(name)
            if name.endswith("1"):
                producer.fails["start"] = OSError("not allowed")
            return producer

        lanes = Lanes("events", "group", WRITTEN, new, worker.failures.append, worker.cuts.append)
        with pytest.raises(OSError, match="not allowed"):
            await lanes.open([0, 1, 2])
        for producer in worker.producers:
            assert worker.steps(producer.name)[-1:] == ["stop"]

    asyncio.run(run())


def test_a_transaction_that_nobody_holds_is_ended_by_one_that_is_aborted() -> None:
    async def run() -> None:
        worker = Worker()
        await worker.lanes.open([0, 1])
        await worker.lanes.release([0])
        assert worker.steps() == ["start", "begin", ("predictions", None), ("changelog", None), "abort"]
        assert worker.steps("group-events-1") == ["start"]
        await worker.lanes.make_durable("changelog", {0: STATE}, {EVENTS: 2})
        assert worker.steps()[-1] == "commit"

    asyncio.run(run())
