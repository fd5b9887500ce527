"""The thread in which the consumer's client lives: its settings, its place in the group, its end.

Owns what the group thinks of this worker: heartbeats and the lease that follows from them, signs of life
while nothing is fetched, the way out when it stops. Records and offsets are the transport's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from tables.calm import calm

FETCH_MIN_BYTES = 16_384
"""A fetch answers when it has so much, or when its wait is over."""

STOP_POLL_SECONDS = 0.2
ANSWER_SECONDS = 2.0
"""For what the main thread has begun when the consumer stops."""


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Sets what Faust hard-codes in the client, and knows until when the group counts on this worker.

    Attributes
    ----------
    lease_until : float
        Monotonic time up to which no other worker can have been given its partitions.
    """

    lease_until = 0.0

    async def on_start(self) -> None:
        """Watch the heartbeats of the client once it is there."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        if isinstance(coordinator, GroupCoordinator):
            self._watch_heartbeats(coordinator)

    def _watch_heartbeats(self, coordinator: GroupCoordinator) -> None:
        beat = coordinator._do_heartbeat

        async def beat_and_note() -> bool:
            sent_at = time.monotonic()
            answered: bool = await beat()
            if answered:
                self.renew_lease(sent_at)
            elif not coordinator.member_id:
                self.lease_until = 0.0  # the group does not know us any more
            return answered

        coordinator._do_heartbeat = beat_and_note

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Give partitions up, unless the worker stops, which does that too."""
        await self._unless_stopping(super().on_partitions_revoked, revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take an assignment, unless the worker stops.

        The client fetches nothing of changelogs: it would hold a fetch of each that nobody takes.
        """
        changelogs = [tp for tp in assigned if tp.topic in self.app.tables.changelog_topics]
        self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in changelogs))
        await self._unless_stopping(super().on_partitions_assigned, assigned, generation_id)

    async def _unless_stopping(self, call: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Let the main thread do it.

        Once the consumer stops nobody answers there, while its stop waits for the client, and that for this.
        """
        if self.app.should_stop:
            return
        answer = asyncio.ensure_future(call(*args))
        try:
            while not answer.done() and not self.consumer.should_stop:
                await asyncio.wait([answer], timeout=STOP_POLL_SECONDS)
            await asyncio.wait_for(answer, None if answer.done() else ANSWER_SECONDS)
        except asyncio.TimeoutError:
            pass
        finally:
            answer.cancel()

    def close(self) -> None:
        """Leave it to the end of the thread: closed by another one, the client never leaves its group."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Let Faust look whether a partition is fetched, but for changelogs, which never are."""
        if tp.topic not in self.app.tables.changelog_topics:
            super().verify_event_path(now, tp)

    def _log_slow_processing_commit(self, msg: str, *args: Any) -> None:
        """Keep quiet: offsets that a transaction commits pass Faust by."""

    def renew_lease(self, since: float) -> None:
        """Count the session anew from `since`, when the group last heard of this worker."""
        self.lease_until = since + self.app.conf.broker_session_timeout

    def note_progress(self) -> None:
        """Let the client take this for a fetch: it leaves the group when nothing is fetched for long.

        With its queue full the fetch loop waits for the batch in hand, which can take a slow model hours.
        """
        self._ensure_consumer()._subscription._last_fetch_ended = time.monotonic()

    def end_offset(self, tp: TP) -> int | None:
        """Return the end of a partition as the last fetch saw it; None where it is not known.

        A question of its own would be answered wrongly by the embedded broker.
        """
        assignment = self._ensure_consumer()._subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment is not None else None
        return None if state is None else state.highwater

    def fetched_to(self, tp: TP) -> int | None:
        """Return up to where a partition was fetched; None where it is not known."""
        assignment = self._ensure_consumer()._subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment is not None else None
        return None if state is None else state._position

    def rejoin(self) -> None:
        """Ask the group for a new assignment."""
        coordinator = self._ensure_consumer()._coordinator
        self.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        options = self.app.batch_options  # type: ignore[attr-defined]
        # All of these are read at start(). Faust fixes a wait of 1500 ms. aiokafka keeps one fetch a
        # broker in flight, and a partition drained meanwhile waits for it, so the wait bounds the latency
        # at low rates. A fetch that answered at the first byte would bring events one by one.
        consumer._fetch_max_wait_ms = options.fetch_max_wait_ms
        consumer._fetch_min_bytes = FETCH_MIN_BYTES
        # Events of aborted transactions never happened.
        consumer._isolation_level = options.isolation_level
        calm(consumer._client)
        return consumer
