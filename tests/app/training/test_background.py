from __future__ import annotations

import asyncio
import threading
import time

import pytest

from app.topics import StartError
from app.training.background import Check, work_in_background


def run(work: object, stop: bool) -> object:
    async def test() -> object:
        stopping = asyncio.Event()
        if stop:
            asyncio.get_running_loop().call_later(0.05, stopping.set)
        return await work_in_background(stopping, work)  # type: ignore[arg-type]

    return asyncio.run(test())


def test_what_was_worked_out_is_returned_and_what_was_raised_is_raised() -> None:
    assert run(lambda check: (check(), 42)[1], stop=False) == 42
    with pytest.raises(ZeroDivisionError):
        run(lambda check: 1 / 0, stop=False)


def test_work_ends_at_its_next_step() -> None:
    ended = threading.Event()

    def work(check: Check) -> None:
        try:
            while True:
                time.sleep(0.01)
                check()
        finally:
            ended.set()

    with pytest.raises(StartError, match="stopped before the end: nothing is published"):
        run(work, stop=True)
    assert ended.is_set()


def test_a_step_that_takes_long_is_not_waited_for() -> None:
    release = threading.Event()
    started = time.monotonic()
    with pytest.raises(StartError, match="stopped before the end"):
        run(lambda check: release.wait(30), stop=True)
    assert time.monotonic() - started < 10
    release.set()
