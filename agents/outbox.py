"""The way out: records go to Kafka as batches, and no answer is waited for until a checkpoint.

One `topic.send()` per event costs more than decoding, statistics and model together, and waiting for
the broker per batch loses to its round trip. So records are packed into the client's batches where
they were made, handed over in order, and their futures kept. A bound on open batches is the back
pressure; `flush` is the barrier before a commit. A batch that fails is fatal: the worker stops and
starts again from the last checkpoint, since what comes after must not be committed without it.

This is the way out of `at_least_once`, and one transaction's worth of `exactly_once` (agents/lanes.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

from tables.owner import owner_headers
from tables.stores import Item

log = logging.getLogger(__name__)

Headers = list[tuple[str, bytes]]


class CutOffError(RuntimeError):
    """The worker was away for too long: its partitions may be another's, and it must write nothing more."""


@dataclass(eq=False)
class Packed:
    """One batch of records of one partition, on its way."""

    topic: str
    partition: int
    batch: Any
    n_records: int
    delivered: asyncio.Future[Any] | None = None

    @property
    def last_offset(self) -> int:
        """Offset of the last record, once delivered."""
        assert self.delivered is not None
        return int(self.delivered.result().offset) + self.n_records - 1


MAX_BATCH_BYTES = 900_000
"""Below Kafka's default `message.max.bytes` (1,048,588), which bounds a batch, not a record."""


class Outbox:
    """Batches on their way to the broker.

    Parameters
    ----------
    producer : callable
        Gives the started `AIOKafkaProducer`; a callable since Faust makes it at start.
    on_failure : callable
        Called once with the exception of the first batch that could not be delivered.
    holds_lease : callable, optional
        Tells whether the group still takes this worker for the owner of its partitions.
    max_open : int
        Batches that may wait for the broker's answer before `send` waits too.

    Attributes
    ----------
    commits_offsets : bool
        Whether `make_durable` commits the offsets too.
    """

    commits_offsets = False

    def __init__(
        self,
        producer: Callable[[], Any],
        on_failure: Callable[[BaseException], None],
        holds_lease: Callable[[], bool] = lambda: True,
        max_open: int = 64,
    ) -> None:
        self._producer = producer
        self._on_failure = on_failure
        self._holds_lease = holds_lease
        self._max_open = max_open
        self._packed: deque[Packed] = deque()
        self._open: deque[Packed] = deque()
        self._sending = asyncio.Lock()
        self._failure: BaseException | None = None

    async def open(self, partitions: Collection[int]) -> None:
        """Wait for what was sent for an earlier assignment: what topics have is read next."""
        await self.flush()

    async def release(self, partitions: Collection[int]) -> None:
        """End transactions that nobody holds; there are none here."""

    async def close(self) -> None:
        """Let go of what `open` made."""

    @property
    def n_packed(self) -> int:
        """Batches that were not handed over yet."""
        return len(self._packed)

    def pack(
        self,
        topic: str,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Iterable[Headers] | None = None,
        source: int | None = None,
        timestamps: Iterable[int] | None = None,
    ) -> list[Packed]:
        """Pack records into batches of one partition, in order; nothing is sent before `send`.

        `source` is the partition they come of, where that is another one; `timestamps` are milliseconds, now
        where none are given.
        """
        if not values:
            return []
        now_ms = int(time.time() * 1000)  # one call for all: the records leave together
        every = repeat([]) if headers is None else headers
        moments = repeat(now_ms) if timestamps is None else timestamps
        packed: list[Packed] = []
        append = self._new_batch(topic, partition, packed)
        for key, value, header, moment in zip(keys, values, every, moments, strict=False):
            if append(timestamp=moment, key=key, value=value, headers=header) is None:
                append = self._new_batch(topic, partition, packed)
                append(timestamp=moment, key=key, value=value, headers=header)
        packed = [item for item in packed if item.batch.record_count()]
        for item in packed:
            item.batch.close()
            item.n_records = item.batch.record_count()
        self._packed.extend(packed)
        return packed

    def _new_batch(self, topic: str, partition: int, packed: list[Packed]) -> Callable[..., Any]:
        packed.append(Packed(topic, partition, self._producer().create_batch(), 0))
        append: Callable[..., Any] = packed[-1].batch.append
        return append

    async def send(self) -> None:
        """Hand over what is packed, in order; waits only while too many batches are open."""
        async with self._sending:
            while self._packed:
                item = self._packed[0]
                item.delivered = await self._producer().send_batch(
                    item.batch, item.topic, partition=item.partition
                )
                item.delivered.add_done_callback(partial(self._done, item))
                self._open.append(self._packed.popleft())
                while len(self._open) > self._max_open:
                    # It leaves only when delivered: should this wait be cancelled, `flush` still finds it.
                    await self._delivered(self._open[0])
                    self._drop_delivered()

    async def flush(self) -> None:
        """Wait until everything packed so far is acknowledged by the broker.

        Raises
        ------
        aiokafka.errors.KafkaError
            A batch, this or an earlier one, was not delivered.
        """
        await self.send()
        for item in list(self._open):
            await self._delivered(item)
        self._drop_delivered()
        if self._failure is not None:
            raise self._failure

    async def make_durable(
        self, topic: str, changes: Mapping[int, list[Item]], offsets: Mapping[Any, int]
    ) -> dict[int, int]:
        """Wait for everything packed so far, then write changed entities to the changelog and wait for that.

        Parameters
        ----------
        topic : str
            The changelog.
        changes : mapping of int to list
            By partition, changed entities with the partition's own record behind them.
        offsets : mapping of TP to int
            Not used here: the consumer commits them.

        Returns
        -------
        dict of int to int
            By partition, the offset of its last record in the changelog.

        Raises
        ------
        CutOffError
            The lease is over. What was packed is out, which repeats at worst what the next owner sends;
            the changelog was not touched.
        """
        await self.flush()
        if not changes:
            return {}
        self._check_lease()
        owners = {partition: repeat(owner_headers(items[-1][1])) for partition, items in changes.items()}
        for partition, items in changes.items():
            self.pack(topic, partition, *_columns(items[:-1]), headers=owners[partition])
        # The partition's record says that its entities are there: it must not arrive without them. It is
        # in a batch by itself: the embedded broker takes the base offset of the last batch for the end of a
        # topic, and recovery reads to the end.
        await self.flush()
        self._check_lease()
        records = [
            self.pack(topic, partition, *_columns(items[-1:]), headers=owners[partition])[0]
            for partition, items in changes.items()
        ]
        await self.flush()
        return {record.partition: record.last_offset for record in records}

    def _check_lease(self) -> None:
        # A worker that slept through its session would put stale state behind its successor's.
        if not self._holds_lease():
            raise CutOffError("no heartbeat was answered for as long as a session lasts")

    def _drop_delivered(self) -> None:
        while self._open and self._open[0].delivered.done():  # type: ignore[union-attr]
            self._open.popleft()

    @staticmethod
    async def _delivered(item: Packed) -> None:
        assert item.delivered is not None
        # Cancelling who waits must not cancel the client's answer: nobody would hear of a failure then.
        await asyncio.shield(item.delivered)

    def _done(self, item: Packed, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or self._failure is not None:
            return
        error = future.exception()
        if error is not None:
            self._failure = error
            # Its last words name them; `add_note` is of Python 3.11.
            error.__notes__ = [f"records for topic {item.topic!r}, partition {item.partition}"]
            log.error("records for topic %s, partition %d not taken: %r", item.topic, item.partition, error)
            self._on_failure(error)


def _columns(items: Sequence[Item]) -> tuple[list[bytes], list[bytes | None]]:
    return [key for key, _ in items], [value for _, value in items]
