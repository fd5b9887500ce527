"""A real Apache Kafka broker without Docker: one process, broker and controller in one (KRaft).

For the tests in `tests/live/` and for the benchmarks: `with KafkaBroker() as broker: ... broker.url`.
"""

from __future__ import annotations

import base64
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from app.cluster import await_cluster_id, find_free_port
from tests.live.jars import PROJECT, fetch_jars, find_java

HOST = "127.0.0.1"
START_SECONDS = 90.0
STOP_SECONDS = 30.0


class KafkaBroker:
    """Apache Kafka on free ports, its data in a folder of its own.

    Parameters
    ----------
    settings : mapping of str to str, optional
        Lines of server.properties to add or to replace.
    heap_mb : int
        Bound of the Java heap.

    Attributes
    ----------
    bootstrap : str
        `host:port`, as Kafka clients want it; the same after `stop` and `start`.
    url : str
        `kafka://host:port`, as Faust and `NOWCAST_BROKER` want it.
    directory : pathlib.Path
        Configuration, log (`server.log`) and data; removed by `close`.

    Raises
    ------
    KafkaMissingError
        When Java or the jars are missing.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, heap_mb: int = 512) -> None:
        self._java = [find_java(), f"-Xmx{heap_mb}m", "-cp", f"{fetch_jars()}/*"]
        self.directory = Path(tempfile.mkdtemp(prefix="nowcast-kafka-"))
        self._port = find_free_port(HOST)
        self._controller_port = find_free_port(HOST)
        while self._controller_port == self._port:
            self._controller_port = find_free_port(HOST)
        self.bootstrap = f"{HOST}:{self._port}"
        self.url = f"kafka://{self.bootstrap}"
        self._cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._process: subprocess.Popen[bytes] | None = None
        self._properties = self.directory / "server.properties"
        lines = {**self._list_properties(), **(settings or {})}
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        self._format_storage()

    @property
    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> KafkaBroker:
        """Start it on the data and the ports it has, and wait until it answers."""
        if self.pid is not None:
            return self
        log = self.directory / "server.log"
        with (self.directory / "stdout.log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *self._java[:2],
                    f"-Dnowcast.log={log}",
                    f"-Dlog4j2.configurationFile={PROJECT / 'log4j2.properties'}",
                    *self._java[2:],
                    "kafka.Kafka",
                    str(self._properties),
                ],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the test run, which stops the broker last
            )
        try:
            answered = await_cluster_id(HOST, self._port, lambda: self.pid is not None, START_SECONDS)
            if answered != self._cluster_id:
                raise OSError(f"another broker ({answered}) answers on port {self._port}")
        except OSError as error:
            self.kill()
            raise RuntimeError(f"Apache Kafka did not start: {error}\n{self._read_log()}") from None
        return self

    def stop(self) -> None:
        """Stop it as its operator would (SIGTERM); data and ports stay for the next `start`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop it as a power cut would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop it for good and remove its data."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> KafkaBroker:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _list_properties(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.directory / "data"),
            # One node: the topics of groups and of transactions cannot have the three copies of the defaults.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # A group that waits 3 s for more members makes each start of a worker 3 s slower.
            "group.initial.rebalance.delay.ms": "0",
            # After a SIGKILL nobody said goodbye to the controller: it admits the broker again only when
            # the old session is over, 9 s by default.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "500",
            # Topics are created with their settings before use; one that appears by itself hides a mistake.
            "auto.create.topics.enable": "false",
        }

    def _format_storage(self) -> None:
        tool = [*self._java, "kafka.tools.StorageTool", "format"]
        done = subprocess.run(
            [*tool, f"--cluster-id={self._cluster_id}", "--config", str(self._properties)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_SECONDS,
        )
        if done.returncode:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise RuntimeError(f"Kafka's storage could not be formatted: {done.stdout.strip()[-2000:]}")

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _read_log(self) -> str:
        paths = [self.directory / name for name in ("stdout.log", "server.log")]
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in paths if path.exists())
