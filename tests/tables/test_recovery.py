"""The order of a recovery and what interrupts it, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError, KafkaConnectionError
from faust.types import TP

from tables import recovery
from tables.changelog_reading import ChangelogError
from tables.recovery import Recovery

TOPIC = "nowcast-statistics-changelog"
SECONDS = 10.0


class Worker:
    """A recovery, and in place of everything around it a list of what happened to that.

    Attributes
    ----------
    done : list of str
        What happened, in order.
    waits : dict of str to asyncio.Event
        Steps that wait until they may go on.
    failures : dict of str to list
        Exceptions that a step raises, one each time.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.waits: dict[str, asyncio.Event] = {}
        self.failures: dict[str, list[Exception]] = {}
        self.crashed: list[BaseException] = []
        consumer = SimpleNamespace(
            assignment=lambda: {TP("events", 0)},
            resume_partitions=lambda tps: None,
            resume_flow=lambda: self.done.append("flow"),
            perform_seek=lambda: self.step("seek"),
        )
        self.app: Any = SimpleNamespace(
            conf=SimpleNamespace(stream_recovery_delay=0.0, broker_request_timeout=0.05),
            consumer=consumer,
            consumer_generation_id=1,
            in_recovery=False,
            tracer=None,
            flow_control=SimpleNamespace(resume=lambda: None),
            assignor=SimpleNamespace(assigned_standbys=set),
            on_rebalance_complete=SimpleNamespace(send=self._send),
            on_rebalance_end=lambda: None,
            _fetcher=SimpleNamespace(maybe_start=self._send),
            crash=self._crash,
        )
        tables: Any = SimpleNamespace(
            values=list,
            changelog_topics={TOPIC},
            on_actives_ready=lambda: self.done.append("ready"),
            on_standbys_ready=lambda: self.done.append("standbys ready"),
        )
        changelog: Any = SimpleNamespace(restore=self._restore, follow=self._follow)
        self.recovery = Recovery(
            *(self.app, tables),
            changelog=changelog,
            prepare=lambda numbers: self.step(f"prepare {numbers}"),
            recall=lambda numbers: self.step(f"recall {numbers}"),
        )

    def assign(self, actives: list[int], standbys: list[int] = ()) -> None:  # type: ignore[assignment]
        """Do what Faust does at the end of a rebalance."""
        self.recovery.active_tps.clear()
        self.recovery.standby_tps.clear()
        self.recovery.active_tps.update(TP(TOPIC, number) for number in actives)
        self.recovery.standby_tps.update(TP(TOPIC, number) for number in standbys)
        self.recovery._generation_id = self.app.consumer_generation_id
        self.recovery.signal_recovery_start.set()

    async def step(self, name: str) -> None:
        self.done.append(name)
        kind = name.split()[0]
        if self.failures.get(kind):
            raise self.failures[kind].pop(0)
        if kind in self.waits:
            try:
                await self.waits[kind].wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)  # a thread that writes is waited for
                self.done.append(f"{kind} at rest")
                raise

    async def until(self, name: str) -> None:
        while name not in self.done:
            await asyncio.sleep(0.001)

    async def _restore(self, numbers: list[int], progress: Any) -> None:
        await self.step(f"restore {numbers}")

    async def _follow(self, numbers: list[int], on_caught_up: Callable[[], None]) -> None:
        self.done.append(f"follow {numbers}")
        on_caught_up()
        await asyncio.Event().wait()

    async def _send(self, *args: Any) -> None:
        pass

    async def _crash(self, error: BaseException) -> None:
        self.crashed.append(error)
        self.done.append("crash")


def run(test: Callable[[Worker], Awaitable[None]]) -> Worker:
    async def whole() -> Worker:
        worker = Worker()
        await worker.recovery.start()
        try:
            await test(worker)
        finally:
            await worker.recovery.stop()
        return worker

    return asyncio.run(asyncio.wait_for(whole(), SECONDS))


def test_former_owners_are_fenced_off_then_state_is_restored_then_events_flow_then_standbys_follow() -> None:
    async def test(worker: Worker) -> None:
        worker.assign([2, 0], [3])
        await worker.until("follow [3]")
        assert not worker.app.in_recovery
        assert worker.recovery.progress is None

    assert run(test).done == [
        "prepare [0, 2]",
        "restore [0, 2]",
        "recall [0, 2]",
        "seek",
        "flow",
        "ready",
        "standbys ready",
        "follow [3]",
        "standbys ready",
    ]


def test_while_state_is_restored_the_worker_is_in_recovery_and_nothing_flows() -> None:
    async def test(worker: Worker) -> None:
        worker.waits["restore"] = asyncio.Event()
        worker.assign([0])
        await worker.until("restore [0]")
        assert worker.app.in_recovery
        assert worker.recovery.progress is not None
        assert "flow" not in worker.done
        worker.waits["restore"].set()
        await worker.until("ready")

    run(test)


@pytest.mark.parametrize("step", ["prepare", "restore"])
def test_a_rebalance_amid_it_waits_until_the_store_is_at_rest_and_begins_anew(step: str) -> None:
    async def test(worker: Worker) -> None:
        worker.waits[step] = asyncio.Event()
        worker.assign([0, 1])
        await worker.until(f"{step} [0, 1]")
        worker.recovery.on_partitions_revoked(set())
        worker.recovery.on_partitions_revoked(set())  # may come again before it is over
        await worker.recovery.halt()
        assert worker.done[-1] == f"{step} at rest"
        del worker.waits[step]
        worker.app.consumer_generation_id = 2
        worker.assign([1])
        await worker.until("ready")
        assert worker.done[-6:] == ["restore [1]", "recall [1]", "seek", "flow", "ready", "standbys ready"]
        assert worker.done.count("flow") == 1

    run(test)


def test_a_rebalance_after_the_state_was_restored_resumes_no_flow() -> None:
    async def test(worker: Worker) -> None:
        worker.waits["seek"] = asyncio.Event()
        worker.app.conf.broker_request_timeout = SECONDS
        worker.assign([0])
        await worker.until("seek")
        worker.recovery.on_partitions_revoked(set())
        worker.waits["seek"].set()
        await worker.recovery.halt()
        assert "flow" not in worker.done

    run(test)


@pytest.mark.parametrize("step", ["prepare", "restore"])
def test_a_failure_of_the_fence_or_of_the_store_ends_the_worker_with_one_line(
    step: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(worker: Worker) -> None:
        worker.failures[step] = [ChangelogError("no space left on device:\n delete something")]
        worker.assign([0])
        await worker.until("crash")
        assert "flow" not in worker.done

    worker = run(test)
    assert [type(error) for error in worker.crashed] == [ChangelogError]
    (line,) = [line for line in caplog.messages if "the worker stops" in line]
    assert line.endswith("no space left on device: delete something")


def test_an_assignment_that_is_gone_is_no_failure() -> None:
    async def test(worker: Worker) -> None:
        worker.failures["seek"] = [IllegalStateError("no current assignment")]
        worker.assign([0])
        await worker.until("seek")
        worker.assign([1])
        await worker.until("ready")
        assert not worker.crashed

    run(test)


def test_committed_offsets_are_asked_for_again_when_the_broker_is_away_or_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "_PAUSE_SECONDS", 0.001)

    async def test(worker: Worker) -> None:
        worker.failures["seek"] = [KafkaConnectionError("no broker")]
        worker.waits["seek"] = asyncio.Event()
        worker.assign([0])
        while worker.done.count("seek") < 3:  # failed, not answered in time, and asked again
            await asyncio.sleep(0.001)
        assert "flow" not in worker.done
        worker.waits["seek"].set()
        await worker.until("ready")
        assert worker.done.count("restore [0]") == 1

    run(test)


def test_a_worker_that_stops_amid_a_restore_leaves_the_store_at_rest() -> None:
    async def test(worker: Worker) -> None:
        worker.waits["restore"] = asyncio.Event()
        worker.assign([0])
        await worker.until("restore [0]")

    assert run(test).done[-1] == "restore at rest"


def test_faust_s_own_readers_of_the_changelog_do_not_run() -> None:
    async def test(worker: Worker) -> None:
        tasks = {task.fun.__name__: task for task in worker.recovery._get_tasks()}
        assert set(tasks) == {"_restart_recovery", "_slurp_changelogs", "_publish_stats"}
        for name in ("_slurp_changelogs", "_publish_stats"):
            assert tasks[name].fun.__module__ == "tables.recovery"
            await tasks[name].fun(worker.recovery)  # over at once

    run(test)
