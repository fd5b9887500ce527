"""Work that takes the processor for minutes, and that a signal can end at once.

Owns the thread. Signals are heard by the event loop, which needs its own; what works is told at its next
step. A fit in progress cannot be told, so the thread is one that the end of the process does not wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from app.topics import StartError

STOPPED = "stopped before the end: nothing is published"

_GRACE_SECONDS = 1.0

T = TypeVar("T")

Check = Callable[[], None]
"""To be called at each step; raises `StartError` once the work is to end."""


async def work_in_background(stopping: asyncio.Event, work: Callable[[Check], T]) -> T:
    """Run work in a thread, until it is done or `stopping` is set.

    Raises
    ------
    StartError
        `stopping` was set.
    """
    told = threading.Event()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def check() -> None:
        if told.is_set():
            raise StartError(STOPPED)

    def run() -> None:
        try:
            tell = partial(_answer, done, work(check), None)
        except BaseException as error:
            tell = partial(_answer, done, None, error)
        with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=run, name="training", daemon=True).start()
    waiting: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
    both: list[asyncio.Future[Any]] = [done, waiting]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            told.set()
            await asyncio.wait([done], timeout=_GRACE_SECONDS)
            done.cancel()
            raise StartError(STOPPED)
        return done.result()
    finally:
        waiting.cancel()


def _answer(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
