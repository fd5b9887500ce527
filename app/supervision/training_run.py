"""A training in a process of its own: the command `train`, as a person would start it.

Owns the process. Scoring shares nothing with it but the machine, where it goes second. It stays in the
session of its worker, without which its priority might count for nothing (`tables/priority.py`), and ends
with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tables.priority import go_second

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 10.0
N_LINES = 20
"""Last lines of its output that are kept, for the log and for views."""


class TrainingRun:
    """One training.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: train_task, train_name, train_timeout_seconds.
    reason : str
        Why it runs.
    since : float or None
        Time of the earliest event to learn from; None: as many as there is room for.

    Attributes
    ----------
    started_at : float
        Epoch seconds.
    finished_at : float or None
    outcome : str
        "succeeded", or why it did not; empty while it runs.
    """

    def __init__(self, settings: Any, reason: str, since: float | None = None) -> None:
        self._settings = settings
        self.reason = reason
        self.since = since
        self.started_at = time.time()
        self.finished_at: float | None = None
        self.outcome = ""
        self._lines: list[str] = []

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.finished_at is None

    def arguments(self) -> list[str]:
        """Return the command line, from the program on."""
        settings = self._settings
        since = [] if self.since is None else ["--from", f"{self.since:.3f}"]
        return [
            *(sys.executable, "-m", "faust", "-A", "app", "train"),
            *("--target", "label", "--task", settings.train_task, "--name", settings.train_name),
            *("--by", "supervisor", "--reason", self.reason, "--supervised"),
            *since,
        ]

    async def run(self) -> None:
        """Run to the end; what goes wrong is the outcome."""
        log.info("a training of %s begins: %s", self._settings.train_name, self.reason)
        try:
            self.outcome = await self._run()
        except OSError as error:
            self.outcome = f"could not be started: {error}"
        except Exception as error:
            self.outcome = f"was lost: {error!r}"
        except asyncio.CancelledError:
            self.outcome = "was stopped"
            raise
        finally:
            self.finished_at = time.time()
            level = logging.INFO if self.outcome == "succeeded" else logging.WARNING
            log.log(level, "the training %s:\n%s", self.outcome, "\n".join(self._lines))

    async def _run(self) -> str:
        process = await asyncio.create_subprocess_exec(
            *self.arguments(),
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.PIPE,  # for its end: `app/training/parent.py`
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            go_second(process.pid)  # at once: it takes a second of the processor to start
            await asyncio.wait_for(self._read(process), self._settings.train_timeout_seconds)
        except asyncio.TimeoutError:
            return f"was given up after {self._settings.train_timeout_seconds:g} s"
        finally:
            await _end(process)
        return "succeeded" if process.returncode == 0 else f"ended with code {process.returncode}"

    async def _read(self, process: Any) -> None:
        rest = b""
        while chunk := await process.stdout.read(65_536):  # by lines a long one would end it
            *lines, rest = (rest + chunk)[-1_000_000:].splitlines(keepends=True) or [b""]
            if rest.endswith(b"\n"):
                lines, rest = [*lines, rest], b""
            told = [line.decode(errors="replace").rstrip()[:1_000] for line in lines]
            self._lines = [*self._lines, *told][-N_LINES:]
        await process.wait()

    def describe(self) -> dict[str, Any]:
        """Return what is known of it for views."""
        return {
            "reason": self.reason,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "outcome": self.outcome or "running",
            "output": self._lines[-3:],
        }


async def _end(process: Any) -> None:
    """See that nothing outlives the worker, nor what the training itself started."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except asyncio.TimeoutError:
        pass
    finally:  # also when this wait is cancelled
        _kill(process)


def _kill(process: Any) -> None:
    """Kill what is left of it and of its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # no group, or on macOS an ended one
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
