"""What a worker does with a new assignment: fence, restore, go on; then follow as standby.

Owns the order, and what interrupts it. Faust's recovery is replaced: it handles one changelog message at a
time, through the consumer that has to stay in the group meanwhile. Reading is in `tables/changelog.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError
from faust.tables import manager
from faust.tables import recovery as faust_recovery
from faust.tables.recovery import RebalanceAgain, ServiceStopped
from faust.types import TP
from mode import Service

from tables.changelog import Changelog
from tables.changelog_reading import one_line
from tables.progress import Progress

_PAUSE_SECONDS = 1.0

Prepare = Callable[[list[int]], Awaitable[None]]


class Recovery(faust_recovery.Recovery):
    """Faust's recovery with another inside: state comes by batches, by a client of its own.

    A rebalance cancels what is under way; what was restored stays, and the next one goes on from there.

    Parameters
    ----------
    changelog : Changelog
    prepare : callable
        Awaited with the numbers of the partitions assigned, before their changelog and their committed
        offsets are read: it fences off whoever had them.
    recall : callable
        Awaited with the same numbers once their state is restored, before events flow.

    Attributes
    ----------
    progress : Progress or None
        Of the restore that is under way.
    """

    def __init__(
        self,
        app: Any,
        tables: Any,
        *,
        changelog: Changelog,
        prepare: Prepare,
        recall: Prepare,
        **kwargs: Any,
    ) -> None:
        super().__init__(app, tables, **kwargs)
        self._changelog = changelog
        self._prepare = prepare
        self._recall = recall
        self._job: asyncio.Task[None] | None = None
        self._is_cancelled = False
        self.progress: Progress | None = None

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Break off: a rebalance has begun, and must not find the flow resumed in its midst."""
        self._break_off()
        super().on_partitions_revoked(revoked)

    async def halt(self) -> None:
        """Break off, and wait until the store is not written any more."""
        self._break_off()
        if self._job is not None:
            await asyncio.wait([self._job])

    async def on_stop(self) -> None:
        """Leave the store at rest."""
        await self.halt()
        await super().on_stop()

    def _break_off(self) -> None:
        # Once: a second time would interrupt the waiting for the thread that writes.
        if self._job is not None and not self._is_cancelled:
            self._is_cancelled = True
            self._job.cancel()

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):  # type: ignore[arg-type]
                break
            self.signal_recovery_start.clear()
            await self.halt()
            self._is_cancelled = False
            self._job = asyncio.create_task(self._recover(self._generation_id), name="recovery")

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Nothing: no changelog message comes by Faust's consumer."""

    @Service.task
    async def _publish_stats(self) -> None:
        """Nothing: the progress is told where the changelog is read."""

    async def _recover(self, generation_id: int) -> None:
        try:
            self._set_recovery_started()
            numbers = sorted(tp.partition for tp in self.active_tps)
            await self._prepare(numbers)
            await self._restore(numbers)
            await self._recall(numbers)
            await self._go_on(generation_id)
            await self._follow(sorted(tp.partition for tp in self.standby_tps))
            return
        except (IllegalStateError, RebalanceAgain, ServiceStopped) as error:
            # The assignment is not ours any more, or the worker stops; another assignment begins anew.
            self.log.info("recovery broken off: %s", one_line(error))
            return
        except Exception as error:
            failure = error
        self.log.error("the state cannot be restored, the worker stops: %s", one_line(failure))
        await self.app.crash(failure)

    async def _restore(self, numbers: list[int]) -> None:
        self.progress = progress = Progress(len(numbers))
        await self._changelog.restore(numbers, progress)
        self.log.info(
            "restored %d records of %d partitions in %.1f s",
            *(progress.n_records, progress.n_partitions, progress.seconds),
        )
        self.progress = None

    async def _go_on(self, generation_id: int) -> None:
        """Go to the committed offsets, let events flow, and say that the worker is ready."""
        while True:
            try:
                return await self.on_recovery_completed(generation_id)
            except IllegalStateError:
                raise
            except (KafkaError, asyncio.TimeoutError) as error:
                self.log.warning("committed offsets not read, trying again: %s", one_line(error))
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _follow(self, numbers: list[int]) -> None:
        if numbers:
            progress = Progress(len(numbers))

            def caught_up() -> None:
                self.log.info("standby for %d partitions after %.1f s", len(numbers), progress.seconds)
                self.tables.on_standbys_ready()

            await self._changelog.follow(numbers, caught_up)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        try:
            await super()._wait(coro, timeout)
        except ServiceStopped:
            # mode does not tell one from the other, and Faust would then wait for ever.
            if not self.should_stop:
                raise asyncio.TimeoutError(f"no answer within {timeout} s") from None
            raise


class TableManager(manager.TableManager):
    """Faust's tables with this recovery; the application names its parts `statistics` and `checkpoint`."""

    @property
    def recovery(self) -> Recovery:
        """The recovery, made when it is first asked for."""
        if self._recovery is None:
            app: Any = self.app
            table = app.statistics
            self._recovery = Recovery(
                app,
                self,
                changelog=Changelog(
                    app.nowcast_settings,
                    table.changelog_topic_name,
                    table.data,
                    release=lambda numbers: app.checkpoint.release(numbers),
                ),
                prepare=lambda numbers: app.checkpoint.begin(numbers),
                recall=self._recall,
                beacon=self.beacon,
                loop=self.loop,
            )
        return self._recovery  # type: ignore[return-value]

    async def _recall(self, numbers: list[int]) -> None:
        app: Any = self.app
        await app.checkpoint.take_first(await app.sent_alerts.recall(numbers))

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Take an assignment, once nothing writes to the databases that are closed for it."""
        await self.recovery.halt()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
