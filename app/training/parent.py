"""A training that the supervisor started must not outlive it.

Owns the watch. The supervisor holds the other end of standard input and writes nothing: the system closes it,
whatever ends the supervisor, kill -9 too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading


def end_with_parent() -> None:
    """Lead a process group, and kill all of it as soon as standard input ends.

    At once, wherever it is: a publication is one batch of records, so it is there or it is not. Ctrl-C in the
    terminal is for the parent from now on.
    """
    if os.getpgrp() != os.getpid():  # who leads a session leads its group
        os.setpgrp()
    threading.Thread(target=_watch, name="parent", daemon=True).start()


def _watch() -> None:
    with contextlib.suppress(OSError):  # what is broken has ended too
        while os.read(0, 4_096):
            pass
    os.killpg(0, signal.SIGKILL)
