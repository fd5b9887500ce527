"""A training's process: it ends with whoever started it, whatever ended that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.settings import Settings
from app.supervision.training_run import TrainingRun
from tables.priority import NICENESS

ROOT = Path(__file__).parents[3]
SECONDS = 60.0

SOURCE = ("payments", "--limit", "8000", "--no-publish", "--candidates", "linear")

SUPERVISOR = f"""
import asyncio, os, psutil
from app.settings import Settings
from app.supervision.training_run import TrainingRun

class Run(TrainingRun):
    def arguments(self):
        return [*super().arguments(), *{SOURCE!r}, "--trials", "500"]

async def main():
    run = Run(Settings(train_task="classification"), "test")
    running = asyncio.create_task(run.run())
    while not any("training on" in line for line in run.describe()["output"]):
        assert run.is_running, run.describe()
        await asyncio.sleep(0.05)
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    await running

asyncio.run(main())
"""

PARENT_OF_A_DEAF_CHILD = """
import subprocess, sys
from app.training.parent import end_with_parent
end_with_parent()
child = subprocess.Popen([sys.executable, "-c", '''
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
'''], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


class Other(TrainingRun):
    """Runs another program in place of the training."""

    def arguments(self) -> list[str]:
        return [sys.executable, "-c", PARENT_OF_A_DEAF_CHILD]


def outlived(pids: list[int]) -> list[psutil.Process]:
    """Wait for the end of processes; return those that do not end, and end them."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    _, alive = psutil.wait_procs(processes, timeout=SECONDS)
    for process in alive:
        process.kill()
    return alive


def test_a_training_ends_with_a_supervisor_that_was_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        training = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert training
        assert all(psutil.pid_exists(pid) for pid in training)
        supervisor.kill()
    assert not outlived(training)


def test_a_training_goes_second_and_what_it_started_ends_with_it() -> None:
    async def whole() -> None:
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        run = Other(Settings(), "test")
        running = asyncio.create_task(run.run())
        while not run.describe()["output"]:
            assert run.is_running
            await asyncio.sleep(0.02)
        pids = [c.pid for c in psutil.Process().children(recursive=True) if c.pid not in before]
        assert int(run.describe()["output"][0]) in pids
        for pid in pids:
            assert os.getpriority(os.PRIO_PROCESS, pid) >= NICENESS
            assert os.getsid(pid) == os.getsid(0)  # in another one its priority might count for nothing
            assert os.getpgid(pid) != os.getpgrp()  # Ctrl-C in the terminal is for the worker
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert run.outcome == "was stopped"
        assert not await asyncio.to_thread(outlived, pids)

    asyncio.run(asyncio.wait_for(whole(), SECONDS))


def test_a_training_that_a_person_started_asks_for_no_standard_input() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "faust", "-A", "app", "train", *SOURCE),
            *("--task", "classification", "--trials", "1"),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "not published" in done.stdout
