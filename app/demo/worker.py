"""The demo's worker: `faust -A app worker` as a process of its own, as a user would start it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp

ROOT = Path(__file__).parents[2]
READY_SECONDS = 90.0
STOP_SECONDS = 20.0
LOG_LINES = 15


class WorkerError(RuntimeError):
    """The worker ended or did not become ready; the message holds its last log lines."""


class WorkerProcess:
    """A worker and its log.

    Parameters
    ----------
    environment : mapping
        Its whole environment.
    log : Path
        File that takes what it prints.
    url : str
        Where its views are.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, url: str) -> None:
        self.url = url
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "info"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the whole process group. The worker is to finish what was
                # sent first, so it has a group of its own and is told to stop by `stop`.
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise when the worker has ended.

        Raises
        ------
        WorkerError
            With its exit code and last log lines.
        """
        if self._process is not None and self._process.poll() is not None:
            raise WorkerError(f"the worker ended with code {self._process.returncode}{self.last_lines()}")

    async def wait_until_ready(self, stopping: asyncio.Event) -> bool:
        """Wait until `/health/ready` answers 200; False when told to stop before.

        Raises
        ------
        WorkerError
            The worker ended, or took longer than `READY_SECONDS`.
        """
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while not stopping.is_set():
                self.check()
                try:
                    async with session.get(f"{self.url}/health/ready") as answer:
                        if answer.status == 200:
                            return True
                except (aiohttp.ClientError, asyncio.TimeoutError):
                    pass  # not listening yet
                if asyncio.get_running_loop().time() > deadline:
                    raise WorkerError(
                        f"the worker was not ready in {READY_SECONDS:g} seconds{self.last_lines()}"
                    )
                await asyncio.sleep(0.1)
        return False

    async def stop(self) -> None:
        """Let the worker commit and leave; kill it when it does not."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + STOP_SECONDS
        try:
            while process.poll() is None and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.05)
        finally:  # also when this wait is cancelled: nothing may outlive the demo
            if process.poll() is None:
                process.kill()
                process.wait()

    def last_lines(self) -> str:
        """Return the end of its log, for a message."""
        lines = self._log.read_text(errors="replace").rstrip().splitlines()[-LOG_LINES:]
        return "; its last lines:\n" + "\n".join(lines) if lines else ""
