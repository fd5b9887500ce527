"""Work that scoring must not wait for goes second.

Owns how a process stands behind others. Measured on one core that others want all of: with niceness 10 work
takes nine times as long, with 19 more than thirty times, and as SCHED_IDLE hundreds of times.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NICENESS = 10

_AUTOGROUP = Path("/proc/self/autogroup")


def go_second(pid: int = 0) -> None:
    """Let a process, and what it starts from now on, have the processor after others; 0: this one.

    Linux may share the processor among sessions first, and count niceness within each of them only (autogroup
    in sched(7)). So what goes second to a worker belongs in the worker's session. A process that leads one of
    its own makes the session go second; that of somebody's terminal stays as it is.
    """
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, max(NICENESS, os.getpriority(os.PRIO_PROCESS, pid)))
    if pid == 0 and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no such thing here
            _AUTOGROUP.write_text(str(NICENESS))
