"""A trial of artefacts in a process of its own, before a worker loads them.

ONNX Runtime is C++ that reads what strangers wrote: among graphs that no checker refuses, some crash the
process that opens them, some take all of its memory, and some never end. Here that happens to a process that
nobody needs, and that goes second to scoring. Owns this process: how it is started, fed, bounded and ended.
What an artefact must be is checked in `compute/artefact.py`, in both processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any

from compute.artefact import ArtefactError, load_artefact
from tables.priority import go_second

ROOT = Path(__file__).parents[1]

TRIAL_SECONDS = 60.0
"""For one artefact, waited and of processor time."""

SPARE_BYTES = 1_000_000_000
"""Memory that a trial may take beside some times the size of the artefact."""

_COPIES = 8
_START_SECONDS = 30.0
_FRAME = struct.Struct(">QQQ")


class ArtefactTrial:
    """Tries artefacts one after the other; the process is started with the first of them.

    Parameters
    ----------
    max_bytes : int
        Largest size of an artefact.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._process: asyncio.subprocess.Process | None = None

    async def attempt(self, onnx_bytes: bytes, metadata_json: bytes) -> None:
        """Load an artefact in the other process.

        Raises
        ------
        ArtefactError
            It is refused there, or did not end well; the message is one line.
        OSError
            The process could not be started; this says nothing about the artefact.
        """
        if len(onnx_bytes) > self._max_bytes:
            return  # whoever loads it refuses it, and says what the bound is
        process = self._process or await self._start()
        frame = _FRAME.pack(self._max_bytes, len(metadata_json), len(onnx_bytes))
        try:
            answer = await asyncio.wait_for(
                _exchange(process, frame + metadata_json + onnx_bytes), TRIAL_SECONDS
            )
        except asyncio.TimeoutError:
            await self.close()
            raise ArtefactError(f"trial: must be over within {TRIAL_SECONDS:g} s") from None
        except BaseException:
            await self.close()
            raise
        if answer is None:
            self._process = None
            raise ArtefactError(f"trial: ONNX Runtime ended with {_described(await process.wait())}")
        if answer:
            raise ArtefactError(answer)

    async def close(self) -> None:
        """End the process, whatever it is at."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tables.artefact_trial"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        go_second(process.pid)  # in the worker's session, where that counts
        try:
            if await asyncio.wait_for(_read_answer(process), _START_SECONDS) != "":
                raise OSError("the process that tries artefacts did not start")
        except BaseException:
            await self.close()
            raise
        return process


async def _exchange(process: Any, request: bytes) -> str | None:
    with contextlib.suppress(ConnectionError):  # it died while it was written to; the answer says so
        process.stdin.write(request)
        await process.stdin.drain()
    return await _read_answer(process)


async def _read_answer(process: Any) -> str | None:
    """Return what it says; None once it has ended."""
    line = await process.stdout.readline()
    return str(json.loads(line)) if line.endswith(b"\n") else None


def _described(code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"


def main() -> None:
    """Answer requests from standard input until it ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print is no answer
    os.setpgrp()  # Ctrl-C is for the worker, which ends it
    _answer(answers, "")
    while head := requests.read(_FRAME.size):
        max_bytes, n_metadata, n_onnx = _FRAME.unpack(head)
        metadata_json, onnx_bytes = requests.read(n_metadata), requests.read(n_onnx)
        _bound(n_onnx)
        try:
            load_artefact(onnx_bytes, metadata_json, max_bytes=max_bytes)
        except MemoryError:
            _answer(answers, "trial: takes too much memory")
        except ArtefactError as error:
            _answer(answers, str(error))
        else:
            _answer(answers, "")


def _answer(answers: Any, reason: str) -> None:
    answers.write(json.dumps(reason).encode() + b"\n")
    answers.flush()


def _bound(n_bytes: int) -> None:
    """Let the trial of so many bytes take as much memory and time as it may."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + TRIAL_SECONDS) + 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    with contextlib.suppress(OSError, ValueError):  # Linux alone tells what is in use, and keeps to the bound
        n_pages = int(Path("/proc/self/statm").read_text().split()[0])
        n_most = n_pages * resource.getpagesize() + SPARE_BYTES + _COPIES * n_bytes
        resource.setrlimit(resource.RLIMIT_AS, (n_most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
