"""Calls of a published model: in a thread, so that heartbeats and views go on, and with an end.

Owns the thread, the timeout and what becomes of a call that does not return. How many rows a call gets is in
`compute/model_pace.py`; what a model answers is in `compute/scoring.py`. A model is called once at a time.

ONNX Runtime ends a run between two nodes when asked to. A call that does not return even then (one node that
takes for ever) keeps its thread, which is abandoned, and the next call gets a new one. While there are
`MAX_ABANDONED` of them no call is made, until one has returned.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from agents.metrics import Metrics
from compute.model_pace import Pace

log = logging.getLogger(__name__)

MAX_ABANDONED = 4
"""Calls of one model that may have been given up without having returned: each keeps a core busy."""

GRACE_SECONDS = 1.0
"""For ONNX Runtime to end a run once it was asked to."""

N_LOOKS = 10
"""Parts in which a timeout is waited for, lest time in which the whole worker stood still is the model's."""


class ModelTimeoutError(Exception):
    """A model did not answer in time; the message names it, the rows and the seconds."""


class ModelCaller:
    """Calls one version of a model.

    Parameters
    ----------
    model : compute.scoring.Model
    timeout_seconds : float
        After so long a call is given up.
    metrics : Metrics or None
        Counts the calls; None for a model that does not serve.
    clock : callable
        Gives monotonic seconds; the pace is measured by it.

    Attributes
    ----------
    pace : Pace
        `pace.n_rows` is how many rows the next call should have at most.
    n_abandoned : int
        Calls that were given up and have not returned.
    n_expired : int
        Calls that were given up since one was answered.
    """

    def __init__(
        self,
        model: Any,
        timeout_seconds: float,
        metrics: Metrics | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model = model
        self.pace = Pace(timeout_seconds)
        self.n_abandoned = 0
        self.n_expired = 0
        self._timeout_seconds = timeout_seconds
        self._metrics = metrics
        self._clock = clock
        self._thread: _CallThread | None = None

    @property
    def n_rows(self) -> int | None:
        """Most rows of the next call; None while no call is made, since there is nothing to go slowly for."""
        return None if self.n_abandoned >= MAX_ABANDONED else self.pace.n_rows

    async def call(self, inputs: NDArray[np.float64]) -> tuple[Any, dict[int, str]]:
        """Return what the model's `predict` says about rows.

        Raises
        ------
        ModelTimeoutError
            It does not answer, or is not asked since too many calls before have not returned.
        """
        n_rows = len(inputs)
        if self.n_abandoned >= MAX_ABANDONED:
            raise ModelTimeoutError(
                f"{self._name(n_rows)}, not called: {self.n_abandoned} calls before, each given up after "
                f"{self._timeout_seconds:g} s, have not returned"
            )
        options = onnxruntime.RunOptions()
        if self._thread is None:
            self._thread = _CallThread(f"model-{self.model.name}")
        answer = self._thread.submit(lambda: self._measured(inputs, options))
        try:
            await _wait(answer, self._timeout_seconds)
            if not answer.done():
                options.terminate = True
                await asyncio.wait([answer], timeout=GRACE_SECONDS)
        finally:
            if not answer.done():
                options.terminate = True
                self._abandon(answer)
        # One that was about to answer when it was asked to end did answer.
        if not answer.done() or (options.terminate and answer.exception() is not None):
            if self._metrics is not None:
                self._metrics.model_timed_out()
            self.pace = self.pace.expired(n_rows)
            self.n_expired += 1
            raise ModelTimeoutError(f"{self._name(n_rows)} within {self._timeout_seconds:g} s")
        seconds, result, errors = answer.result()
        if self._metrics is not None:
            self._metrics.model_called(seconds)
        self.pace = self.pace.answered(n_rows, seconds)
        self.n_expired = 0
        return result, errors

    def close(self) -> None:
        """Let the thread end, once its call has returned."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def _measured(self, inputs: NDArray[np.float64], options: Any) -> tuple[float, Any, dict[int, str]]:
        # In the thread: the answer can lie there for a while before the event loop comes to take it.
        started = self._clock()
        result, errors = self.model.predict(inputs, options)
        return self._clock() - started, result, errors

    def _abandon(self, answer: asyncio.Future[Any]) -> None:
        self.n_abandoned += 1
        log.warning(
            "a call of model %s version %s does not return, its thread is abandoned (%d now)",
            *(self.model.name, self.model.version, self.n_abandoned),
        )
        answer.add_done_callback(self._returned)
        self.close()

    def _returned(self, answer: asyncio.Future[Any]) -> None:
        self.n_abandoned -= 1
        if not answer.cancelled():
            answer.exception()  # was looked at: asyncio need not complain

    def _name(self, n_rows: int) -> str:
        rows = "1 row" if n_rows == 1 else f"{n_rows} rows"
        return f"model {self.model.name!r} version {self.model.version}: no answer for {rows}"


async def _wait(answer: asyncio.Future[Any], seconds: float) -> None:
    for _ in range(N_LOOKS):
        await asyncio.wait([answer], timeout=seconds / N_LOOKS)
        if answer.done():
            return


class _CallThread:
    """A thread that makes one call after the other; the end of the process waits for no daemon."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """Give the thread a call; the future belongs to the running event loop."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._calls.put((future, call))
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread after the calls it was given."""
        self._calls.put(None)

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            future.set_running_or_notify_cancel()  # from here on it cannot be cancelled
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            del future, call, item  # while it waits, it keeps nothing alive
