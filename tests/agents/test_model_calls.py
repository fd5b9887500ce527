"""Calls of a model: in a thread, with an end, and what becomes of those that have none."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents import model_calls
from agents.metrics import Metrics
from agents.model_calls import MAX_ABANDONED, ModelCaller, ModelTimeoutError
from compute.artefact import load_artefact
from tests.artefacts import MAX_BYTES, as_json, looping

SECONDS = 20.0
ROWS = np.ones((3, 2))


def model_of(predict: Callable[[Any, Any], Any]) -> Any:
    return SimpleNamespace(name="pump", version="abc", predict=predict)


def caller_of(predict: Callable[[Any, Any], Any], timeout_seconds: float = 0.05) -> ModelCaller:
    return ModelCaller(model_of(predict), timeout_seconds, Metrics())


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, SECONDS))


def sample(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


class Stuck:
    """A model that does not return, whatever it is asked, until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.n_calls = 0

    def __call__(self, inputs: Any, options: Any) -> Any:
        self.n_calls += 1
        assert self.released.wait(SECONDS)
        return inputs, {}


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_calls, "GRACE_SECONDS", 0.05)


def test_a_model_answers_in_a_thread_of_its_own_always_the_same() -> None:
    threads = []

    def predict(inputs: Any, options: Any) -> Any:
        threads.append(threading.current_thread())
        return inputs.sum(), {1: "bad"}

    async def test() -> None:
        caller = caller_of(predict, timeout_seconds=SECONDS)
        for _ in range(3):
            assert await caller.call(ROWS) == (6.0, {1: "bad"})
        assert len(set(threads)) == 1
        assert threads[0] is not threading.main_thread()
        assert sample(caller._metrics, "nowcast_model_seconds_count") == 3
        caller.close()
        await asyncio.to_thread(threads[0].join, SECONDS)
        assert not threads[0].is_alive()

    run(test())


def test_the_event_loop_goes_on_during_a_call() -> None:
    async def test() -> None:
        stuck = Stuck()
        caller = caller_of(stuck, timeout_seconds=SECONDS)
        call = asyncio.ensure_future(caller.call(ROWS))
        await asyncio.sleep(0.02)
        assert not call.done()
        stuck.released.set()
        assert (await call)[1] == {}

    run(test())


def test_the_pace_is_that_of_the_model_by_the_clock_given() -> None:
    async def test() -> None:
        clock = iter([10.0, 10.25, 20.0, 20.25])
        quick = model_of(lambda inputs, options: (None, {}))
        caller = ModelCaller(quick, 10.0, Metrics(), lambda: next(clock))
        assert caller.n_rows == 1
        await caller.call(ROWS[:1])
        assert caller.n_rows == 2  # 0.25 s a row, and calls are meant to take 0.5 s
        await caller.call(ROWS[:2])
        assert caller.n_rows == 4

    run(test())


def test_onnx_runtime_ends_a_run_without_an_end_and_the_same_thread_serves_on() -> None:
    model = load_artefact(looping().SerializeToString(), as_json(), max_bytes=MAX_BYTES)

    async def test() -> None:
        caller = ModelCaller(model, 0.2, Metrics())
        others = set(threading.enumerate())
        endless = np.array([[1e12, 0.0], [0.0, 1.0]])
        with pytest.raises(ModelTimeoutError) as raised:
            await caller.call(endless)
        assert str(raised.value) == f"model 'pump' version {model.version}: no answer for 2 rows within 0.2 s"
        scores, errors = await caller.call(np.array([[5.0, 1.0]]))
        assert scores.scores.tolist() == [6.0]
        assert not errors
        assert caller.n_abandoned == 0
        assert len(set(threading.enumerate()) - others) == 1
        assert sample(caller._metrics, "nowcast_model_timeouts_total") == 1
        caller.close()

    run(test())


def test_a_call_that_does_not_return_does_not_block_the_next() -> None:
    async def test() -> None:
        stuck = Stuck()
        caller = caller_of(lambda rows, options: stuck(rows, options) if len(rows) > 1 else (rows, {}))
        with pytest.raises(ModelTimeoutError, match=r"3 rows within 0\.05 s"):
            await caller.call(ROWS)
        assert caller.n_abandoned == 1
        assert (await caller.call(ROWS[:1]))[1] == {}
        stuck.released.set()
        while caller.n_abandoned:
            await asyncio.sleep(0.01)
        caller.close()

    run(test())


def test_with_too_many_calls_that_do_not_return_none_is_made_until_one_does() -> None:
    async def test() -> None:
        stuck = Stuck()
        caller = caller_of(stuck)
        others = set(threading.enumerate())
        for _ in range(MAX_ABANDONED):
            assert caller.n_rows is not None
            with pytest.raises(ModelTimeoutError, match="within"):
                await caller.call(ROWS)
        assert len(set(threading.enumerate()) - others) == MAX_ABANDONED
        assert caller.n_rows is None  # nothing to go slowly for
        with pytest.raises(ModelTimeoutError, match=f"not called: {MAX_ABANDONED} calls before"):
            await caller.call(ROWS)
        assert stuck.n_calls == MAX_ABANDONED
        stuck.released.set()
        while caller.n_abandoned:
            await asyncio.sleep(0.01)
        assert caller.n_rows == 1
        assert (await caller.call(ROWS))[1] == {}
        caller.close()
        while set(threading.enumerate()) - others:
            await asyncio.sleep(0.01)

    run(test())


def test_an_answer_that_comes_while_it_is_asked_to_end_is_an_answer() -> None:
    async def test() -> None:
        def predict(inputs: Any, options: Any) -> Any:
            while not options.terminate:
                time.sleep(0.001)
            return inputs, {}

        caller = caller_of(predict)
        assert (await caller.call(ROWS))[1] == {}
        assert sample(caller._metrics, "nowcast_model_timeouts_total") == 0
        caller.close()

    run(test())


def test_time_in_which_the_whole_worker_stood_still_is_not_the_models() -> None:
    async def test() -> None:
        answer = threading.Event()

        def predict(inputs: Any, options: Any) -> Any:
            assert answer.wait(SECONDS)
            return inputs, {}

        caller = caller_of(predict, timeout_seconds=0.5)
        call = asyncio.ensure_future(caller.call(ROWS))
        await asyncio.sleep(0)
        time.sleep(1.0)  # nobody has a turn
        await asyncio.sleep(0.05)
        answer.set()
        assert (await call)[1] == {}
        caller.close()

    run(test())


def test_a_call_whose_caller_is_cancelled_is_asked_to_end() -> None:
    async def test() -> None:
        ended = threading.Event()

        def predict(inputs: Any, options: Any) -> Any:
            while not options.terminate:
                time.sleep(0.001)
            ended.set()
            raise RuntimeError("terminated")

        caller = caller_of(predict, timeout_seconds=SECONDS)
        call = asyncio.ensure_future(caller.call(ROWS))
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(ended.wait, SECONDS)
        while caller.n_abandoned:
            await asyncio.sleep(0.01)

    run(test())


def test_what_a_model_raises_itself_is_not_taken_for_a_timeout() -> None:
    def predict(inputs: Any, options: Any) -> Any:
        raise ZeroDivisionError

    async def test() -> None:
        caller = caller_of(predict, timeout_seconds=SECONDS)
        with pytest.raises(ZeroDivisionError):
            await caller.call(ROWS)
        caller.close()

    run(test())
