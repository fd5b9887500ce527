"""Real workers for tests: `faust -A app worker` as a process, as a user starts it.

Owns starting, asking, stopping and killing them, and showing their logs when a test fails.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from app.cluster import find_free_port

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 60.0
STOP_SECONDS = 60.0
LOG_CHARACTERS = 6_000
TOPICS = ("events", "predictions", "alerts", "dead_letters", "models", "labels", "evaluations")


def worker_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return an environment with these settings, and none of whoever runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NOWCAST_")}
    return {**inherited, **{f"NOWCAST_{name.upper()}": str(value) for name, value in settings.items()}}


def wait_for(
    condition: Callable[[], Any], what: str, workers: Iterable[Worker] = (), seconds: float = TIMEOUT_SECONDS
) -> Any:
    """Wait until a condition gives something true, and return that; fail when a worker ends meanwhile."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        for worker in workers:
            assert worker.is_running, f"worker {worker.name} ended ({worker.exit_code}), waiting for {what}"
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return found


class Worker:
    """A worker on a port and a data directory of its own, which both stay when it is started again.

    Attributes
    ----------
    url : str
        Where its views are.
    log : pathlib.Path
        What it printed, all starts together.
    data_dir : pathlib.Path
    """

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str], app: str = "app") -> None:
        self.name = name
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{name}.log"
        self.data_dir = folder / f"{name}-data"
        self._app = app
        self._environment = {"NOWCAST_DATA_DIR": str(self.data_dir), **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of the last start."""
        assert self._process is not None, f"worker {self.name} was never started"
        return self._process

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Code of its end; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> Worker:
        """Start it; it is not ready yet."""
        assert not self.is_running
        command = ["faust", "-A", self._app, "worker", "-l", "info", "--web-port", str(self.port)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the test run
            )
        return self

    def wait_until_ready(self) -> Worker:
        """Wait until it has its partitions and their state."""
        wait_for(lambda: self.get("/health/ready")[0] == 200, f"worker {self.name} ready", [self])
        return self

    def stop(self) -> int:
        """Stop it as its operator would (SIGTERM), and return its exit code; kill one that stays."""
        if self.is_running:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.wait()

    def kill(self) -> None:
        """Stop it as a power cut would (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def get(self, path: str, token: str = "") -> tuple[int, Any]:
        """Ask a view: status and body, status 0 when nobody answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                body, kind = response.read(), response.headers["Content-Type"]
                return response.status, json.loads(body) if "json" in kind else body.decode()
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError:
            return 0, None

    def metric(self, sample: str) -> float:
        """Return one sample of `/metrics`, named as Prometheus writes it; nan when it is not there."""
        _, text = self.get("/metrics")
        lines = (line.rpartition(" ") for line in (text or "").splitlines())
        return next((float(value) for name, _, value in lines if name == sample), float("nan"))

    def read_log(self) -> str:
        """Return all that it printed since its first start."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Workers:
    """Workers of one group on one broker, with topics of their own; stops all of them at the end.

    Used as a context; when the test fails inside, the logs are printed with the failure.

    Parameters
    ----------
    folder : pathlib.Path
        Takes logs and data directories.
    broker : str
        `kafka://host:port`.
    app : str
        What `faust -A` is given.
    settings
        Further settings by their lower-case names, without the prefix.
    """

    def __init__(self, folder: Path, broker: str, app: str = "app", **settings: object) -> None:
        name = f"test-{uuid.uuid4().hex[:8]}"
        self.settings: dict[str, object] = {
            "broker": broker,
            "group": name,
            **{f"topic_{topic}": f"{name}-{topic}" for topic in TOPICS},
            "session_timeout_seconds": 6,  # a killed worker is missed as soon as Kafka allows
            "checkpoint_seconds": 0.2,
            **settings,
        }
        self.folder = folder
        self._app = app
        self._workers: dict[str, Worker] = {}

    def new(self, name: str, environment: Mapping[str, str] | None = None, **settings: object) -> Worker:
        """Return a worker, not started yet."""
        assert name not in self._workers
        complete = {**worker_environment({**self.settings, **settings}), **(environment or {})}
        worker = self._workers[name] = Worker(name, self.folder, complete, self._app)
        return worker

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for worker in self._workers.values():
                if worker.is_running:
                    # Politely only where the test went well: a log that ends where it failed says more.
                    worker.kill() if error else worker.stop()
        finally:
            if error is not None:
                for worker in self._workers.values():
                    print(f"----- log of worker {worker.name} (exit code {worker.exit_code})")
                    print(worker.read_log()[-LOG_CHARACTERS:])
