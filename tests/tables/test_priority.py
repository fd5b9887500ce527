"""What goes second, and what that touches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tables.priority import NICENESS, go_second

ROOT = Path(__file__).parents[2]
AUTOGROUP = Path("/proc/self/autogroup")

TELL = """
import os
from pathlib import Path
from tables.priority import go_second
go_second()
go_second()
print(os.getpriority(os.PRIO_PROCESS, 0))
path = Path("/proc/self/autogroup")
print(*(path.read_text() if path.exists() else "").split()[-1:])
"""


def told(own_session: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", TELL],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        start_new_session=own_session,
    )
    return done.stdout.split()


def test_a_process_goes_second_once_and_leaves_the_session_of_others_alone() -> None:
    niceness = str(max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    # The file is empty for what was never in a session of its own, such as what init starts.
    before = (AUTOGROUP.read_text() if AUTOGROUP.exists() else "").split()[-1:]
    assert told(own_session=False) == [niceness, *before]
    of_its_own = [str(NICENESS)] if AUTOGROUP.exists() else []
    assert told(own_session=True) == [niceness, *of_its_own]


def test_another_process_goes_second_and_one_that_has_ended_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        go_second(process.pid)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= NICENESS
        assert process.stdin is not None
        process.stdin.close()
    go_second(process.pid)
