"""The way out: order, bounds, and what a failure does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents.outbox import MAX_BATCH_BYTES, Outbox
from tests.agents.recording import RecordingProducer


def outbox(producer: RecordingProducer, **options: Any) -> tuple[Outbox, list[BaseException]]:
    failures: list[BaseException] = []
    return Outbox(lambda: producer, failures.append, **options), failures


def test_records_leave_in_the_order_in_which_they_were_packed() -> None:
    async def run() -> None:
        producer = RecordingProducer()
        box, _ = outbox(producer)
        box.pack("t", 0, [b"a", b"b"], [b"1", b"2"])
        box.pack("t", 0, [b"c"], [None])
        await box.flush()
        sent = [(record.key, record.value) for record in producer.sent]
        assert sent == [(b"a", b"1"), (b"b", b"2"), (b"c", None)]

    asyncio.run(run())


def test_records_beyond_a_batchs_bytes_go_into_further_batches_and_none_is_lost() -> None:
    async def run() -> None:
        producer = RecordingProducer()
        box, _ = outbox(producer)
        sizes = [100_000] * 25 + [MAX_BATCH_BYTES * 2] + [10]
        packed = box.pack("t", 0, [b"k"] * len(sizes), [bytes(size) for size in sizes])
        await box.flush()
        assert [len(sent.value or b"") for sent in producer.sent] == sizes
        assert sum(item.n_records for item in packed) == len(sizes)
        assert len(packed) >= 4
        assert packed[-1].last_offset == len(sizes) - 1

    asyncio.run(run())


def test_nothing_to_pack_makes_no_batch() -> None:
    producer = RecordingProducer()
    box, _ = outbox(producer)
    assert box.pack("t", 0, [], []) == []


def test_before_an_assignment_is_read_all_of_the_one_before_is_out() -> None:
    async def run() -> None:
        producer = RecordingProducer(answer=False)
        box, _ = outbox(producer)
        box.pack("t", 0, [b"k"], [b"v"])
        opening = asyncio.ensure_future(box.open([0, 1]))
        await asyncio.sleep(0.01)
        assert not opening.done()
        producer.acknowledge()
        await asyncio.wait_for(opening, 1)
        assert [record.key for record in producer.sent] == [b"k"]

    asyncio.run(run())


def test_sending_does_not_wait_for_the_broker_until_too_much_is_open() -> None:
    async def run() -> None:
        producer = RecordingProducer(answer=False)
        box, _ = outbox(producer, max_open=3)
        for _ in range(3):
            box.pack("t", 0, [b"k"], [b"v"])
            await asyncio.wait_for(box.send(), 1)
        box.pack("t", 0, [b"k"], [b"v"])
        waiting = asyncio.ensure_future(box.send())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        producer.acknowledge()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(run())


def test_a_flush_ends_when_all_before_it_is_acknowledged() -> None:
    async def run() -> None:
        producer = RecordingProducer(answer=False)
        box, _ = outbox(producer)
        box.pack("t", 0, [b"k"], [b"v"])
        flushing = asyncio.ensure_future(box.flush())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not flushing.done()
        producer.acknowledge()
        await asyncio.wait_for(flushing, 1)

    asyncio.run(run())


def test_a_batch_that_fails_is_reported_once_and_fails_every_later_flush() -> None:
    async def run() -> None:
        producer = RecordingProducer(answer=False)
        box, failures = outbox(producer)
        box.pack("t", 0, [b"k"], [b"v"])
        box.pack("t", 1, [b"k"], [b"v"])
        await box.send()
        producer.refuse(OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await box.flush()
        producer.answer = True
        box.pack("t", 0, [b"k"], [b"v"])
        with pytest.raises(OSError, match="gone"):
            await box.flush()
        await asyncio.sleep(0)
        assert len(failures) == 1

    asyncio.run(run())


def test_who_is_cancelled_while_sending_takes_no_batch_with_it() -> None:
    async def run() -> None:
        producer = RecordingProducer(answer=False)
        box, failures = outbox(producer, max_open=1)
        for _ in range(2):
            box.pack("t", 0, [b"k"], [b"v"])
        sending = asyncio.ensure_future(box.send())
        for _ in range(5):
            await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        flushing = asyncio.ensure_future(box.flush())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not flushing.done()  # both batches are still waited for
        producer.refuse(OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await flushing
        assert len(failures) == 1

    asyncio.run(run())
