"""Artefacts that would take a worker with them: refused by a process that nobody needs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from compute.artefact import ArtefactError
from tables import artefact_trial
from tables.artefact_trial import ArtefactTrial
from tables.priority import NICENESS
from tests.artefacts import MAX_BYTES, artefact, as_json, graph


def attempt(*artefacts: tuple[bytes, bytes], max_bytes: int = MAX_BYTES) -> list[str]:
    """Try artefacts one after the other; return what was said of each, empty for nothing."""

    async def whole() -> list[str]:
        trial, said = ArtefactTrial(max_bytes), []
        for one in artefacts:
            try:
                await trial.attempt(*one)
                said.append("")
            except ArtefactError as error:
                said.append(str(error))
        await trial.close()
        return said

    return asyncio.run(whole())


def sized(n_floats: int) -> onnx.ModelProto:
    """Return a small model that makes so many floats, and answers with one of them for each row."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("ReduceSum", ["x", "features"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "zero"], ["score"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([n_floats], np.int64), "shape"),
        numpy_helper.from_array(np.array([1], np.int64), "features"),
    ]
    return graph(nodes, constants=constants)


def endless() -> onnx.ModelProto:
    """Return a model whose loop never ends, nor depends on its input: it may be run when it is opened."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["held"], ["kept"])],
        "round",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("held", 1, [])],
        [value("go_on", TensorProto.BOOL, []), value("kept", TensorProto.FLOAT, [])],
    )
    nodes = [
        helper.make_node("Loop", ["", "yes", "one"], ["looped"], body=body),
        helper.make_node("ReduceSum", ["x", "features"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "looped"], ["score"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.array(1.0, np.float32), "one"),
        numpy_helper.from_array(np.array([1], np.int64), "features"),
    ]
    return graph(nodes, constants=constants)


def with_metadata(model: onnx.ModelProto) -> tuple[bytes, bytes]:
    return model.SerializeToString(), as_json()


def test_good_ones_pass_and_wrong_ones_say_why() -> None:
    good = artefact([1.0, 2.0])
    one, no_onnx, no_json, again = attempt(good, (b"pickle", as_json()), (good[0], b"{"), good)
    assert (one, again) == ("", "")
    assert no_onnx.startswith("not ONNX")
    assert no_json.startswith("metadata: not JSON")


def test_one_that_takes_all_memory_is_refused_and_the_next_is_tried() -> None:
    good = artefact([1.0, 2.0])
    too_much, said, after = attempt(with_metadata(sized(10**6)), with_metadata(sized(10**10)), good)
    assert (too_much, after) == ("", "")
    assert said


def test_one_that_never_ends_is_refused_and_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefact_trial, "TRIAL_SECONDS", 1.0)
    good = artefact([1.0, 2.0])
    assert attempt(good, with_metadata(endless()), good) == ["", "trial: must be over within 1 s", ""]


def test_one_that_crashes_the_process_is_refused_and_the_next_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def die(process: Any, request: bytes) -> str | None:
        if b"crash" in request:
            os.kill(process.pid, signal.SIGSEGV)
            return await artefact_trial._read_answer(process)
        return await exchange(process, request)

    exchange = artefact_trial._exchange
    monkeypatch.setattr(artefact_trial, "_exchange", die)
    good = artefact([1.0, 2.0])
    assert attempt(good, (b"crash", b"{}"), good) == ["", "trial: ONNX Runtime ended with SIGSEGV", ""]


def test_the_process_goes_second_ends_with_the_trial_and_is_not_started_before_it() -> None:
    async def whole() -> None:
        before = {child.pid for child in psutil.Process().children()}
        trial = ArtefactTrial(MAX_BYTES)
        await trial.close()
        assert {child.pid for child in psutil.Process().children()} == before
        await trial.attempt(*artefact([1.0, 2.0]))
        (child,) = (c for c in psutil.Process().children() if c.pid not in before)
        assert os.getpriority(os.PRIO_PROCESS, child.pid) >= NICENESS
        assert os.getsid(child.pid) == os.getsid(0)  # in another one its priority might count for nothing
        assert os.getpgid(child.pid) != os.getpgrp()  # Ctrl-C in the terminal is for the worker
        await trial.close()
        assert not child.is_running()

    asyncio.run(whole())


def test_a_process_that_does_not_start_is_not_the_artefacts_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefact_trial.sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="did not start"):
        attempt(artefact([1.0, 2.0]))


def test_what_is_larger_than_the_bound_is_not_tried() -> None:
    started = time.monotonic()
    assert attempt(artefact([1.0, 2.0]), max_bytes=10) == [""]
    assert time.monotonic() - started < 5
