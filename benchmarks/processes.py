"""A contender's process: started, watched from outside, and stopped.

Owns CPU time and memory of a child. The samples let a caller say what a stretch of time cost without the
start, in which a contender imports its libraries.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil

SAMPLE_SECONDS = 0.05
STOP_SECONDS = 60.0
ROOT = Path(__file__).parent.parent


class Child:
    """A process under watch, from start to stop.

    Attributes
    ----------
    started, ended : float
        Wall-clock seconds of start and end.
    cpu_seconds : float
        User and system time, known once it has ended.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self.started = time.time()
        self.ended = self.cpu_seconds = float("nan")
        self._samples: list[tuple[float, float, int]] = []
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watched = psutil.Process(self._process.pid)
        self._stop_watching = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check_alive(self) -> None:
        """Raise with the end of its log if it has ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended with code {self._process.returncode}:\n{self.read_log()}")

    def read_log(self) -> str:
        """Return the end of what it wrote."""
        return self.log.read_text(errors="replace")[-4_000:]

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process; `stop` is still to be called."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to stop as an operator would, and wait."""
        self._stop_watching.set()
        self._watching.join()
        if self._process.poll() is None:
            self._sample()
            self._process.send_signal(signal.SIGTERM)
            killer = threading.Timer(STOP_SECONDS, self._process.kill)
            killer.start()
            _, _, usage = os.wait4(self._process.pid, 0)
            killer.cancel()
            self._process.returncode = 0  # reaped here, for its usage: Popen must not wait for it again
            self.cpu_seconds = usage.ru_utime + usage.ru_stime
        self.ended = time.time()

    def cpu_between(self, start: float, end: float) -> float:
        """Return CPU seconds between two moments of wall-clock time, interpolated between samples."""
        moments = [sample[0] for sample in self._samples]
        cpu = [sample[1] for sample in self._samples]
        return float(np.diff(np.interp([start, end], moments, cpu))[0])

    @property
    def rss_mb(self) -> float:
        """Resident memory at the last sample, in MB."""
        return self._samples[-1][2] / 1e6

    @property
    def peak_rss_mb(self) -> float:
        """Largest resident memory sampled, in MB."""
        return max(sample[2] for sample in self._samples) / 1e6

    def _watch(self) -> None:
        while not self._stop_watching.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        try:
            with self._watched.oneshot():
                cpu = self._watched.cpu_times()
                rss = self._watched.memory_info().rss
        except psutil.Error:
            return
        self._samples.append((time.time(), cpu.user + cpu.system, rss))
