"""The worker process: what must hold before Faust starts, and how a start fails.

Faust starts services first and finds out later that the broker is not there or that a topic does not
fit; the reason then drowns in tracebacks. So topics, broker and data directory are seen to first, and
each failure is one line and exit code 1.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import socket
import sys
from pathlib import Path
from typing import IO, Any, NoReturn

import faust
from threadpoolctl import threadpool_limits

from app.last_words import tell_why
from app.settings import PREFIX, Settings
from app.topics import StartError, ensure_topics
from app.transactions import ensure_transactions
from tables.keys import KeyFileError, check_key_files


class Worker(faust.Worker):
    """A Faust worker that prepares and checks before it starts."""

    _lock: IO[str] | None = None
    _limits: threadpool_limits | None = None

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        # Not before: the command line may have set the port.
        app.conf.datadir = data_directory(app.nowcast_settings, app.conf.web_port)
        super().__init__(app, *args, **kwargs)

    def execute_from_commandline(self) -> NoReturn:
        """Prepare, then run until stopped."""
        app: Any = self.app
        client_log = logging.getLogger("aiokafka")
        level = client_log.level
        try:
            if app.conf.web_enabled:
                check_port(app.conf.web_bind, app.conf.web_port)
            self._lock = lock_directory(app.conf.datadir)
            check_key_files(app.nowcast_settings)
            client_log.setLevel(logging.CRITICAL)  # it would tell of an unreachable broker in its own words
            self.loop.run_until_complete(ensure_topics(app.nowcast_settings))
            if app.nowcast_settings.delivery == "exactly_once":
                self.loop.run_until_complete(ensure_transactions(app.nowcast_settings))
        except (StartError, KeyFileError) as error:
            print(f"nowcast: {error}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)  # nothing has started, and Faust's own way out wants services to stop
        finally:
            client_log.setLevel(level)
        # Matrices here are small: threads that share one wait for each other, and cost a busy machine dearly.
        self._limits = threadpool_limits(1, user_api="blas")
        # What is alive now stays; a record batch then makes some ten thousand objects that die with it, and
        # the default of 700 would look through them a hundred times each second.
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        try:
            super().execute_from_commandline()
        except SystemExit as end:
            tell_why(self, end)
            raise


def check_port(host: str, port: int) -> None:
    """See whether the views can listen.

    Raises
    ------
    StartError
        The port is taken, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise StartError(
            f"the views cannot listen on {host}:{port} ({error.strerror}); "
            "give each worker a --web-port, or NOWCAST_WEB_PORT, of its own"
        ) from None


def data_directory(settings: Settings, web_port: int) -> Path:
    """Directory of this worker's store.

    A directory that was set is taken as it is. The default one is divided by web port, so that
    "the same command again with a `--web-port` of its own" is all that a second worker needs.
    """
    if "data_dir" in settings.model_fields_set:
        return settings.data_dir
    return settings.data_dir / f"worker-{web_port}"


def lock_directory(directory: Path) -> IO[str]:
    """Take the directory for this process; the lock goes with the process, also on kill -9.

    Raises
    ------
    StartError
        Another worker has it, or it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / "worker.lock", "w")  # noqa: SIM115  held as long as the process lives
    except OSError as error:
        raise StartError(f"data directory {directory} cannot be used (NOWCAST_DATA_DIR): {error}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StartError(
            f"data directory {directory} is in use by another worker; "
            f"give each worker its own {PREFIX}DATA_DIR"
        ) from None
    return lock
