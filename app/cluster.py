"""Ask a Kafka broker which cluster it belongs to, and find a free port for one.

Owns the one question that tells two brokers on one machine apart. It speaks the few bytes of the protocol
that this takes, so that it needs no client, no event loop and no optional package; everything that produces
or consumes uses aiokafka.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable

# Above the services of a machine, below the ports that Linux (32768) and macOS (49152) hand to outgoing
# connections. With a port of that range a client that retries while its broker is down can be given the
# very port it is calling and connect to itself; the broker then cannot come back to it.
FIRST_PORT, LAST_PORT = 20_000, 32_000

_METADATA, _VERSION = 3, 2
_NO_CLUSTER = -1


def find_free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on at this moment.

    Parameters
    ----------
    host : str
        Address that the port must be free on.

    Returns
    -------
    int
        A port from `FIRST_PORT` to `LAST_PORT`.

    Raises
    ------
    OSError
        When none of 100 random ports is free.
    """
    draw = random.SystemRandom()
    for _ in range(100):
        port = draw.randint(FIRST_PORT, LAST_PORT)
        if is_port_free(host, port):
            return port
    raise OSError(f"none of 100 ports drawn from {FIRST_PORT} to {LAST_PORT} is free on {host}")


def is_port_free(host: str, port: int) -> bool:
    """Tell whether a server could listen on this port now."""
    with socket.socket() as probe:
        # As servers do: connections of a stopped server that linger in TIME_WAIT do not take the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def read_cluster_id(host: str, port: int, timeout_seconds: float = 2.0) -> str | None:
    """Return the cluster id that a broker answers with.

    Parameters
    ----------
    host, port
        Where the broker listens.
    timeout_seconds : float
        Bound of the connection and of each read.

    Returns
    -------
    str or None
        The id, or None from a broker that has none.

    Raises
    ------
    OSError
        When nobody listens there, or what listens does not speak Kafka's protocol.
    """
    client = b"nowcast-probe"
    # Header: api key, api version, correlation id, client id. Body: an empty array asks for no topics.
    body = struct.pack(f">hhih{len(client)}si", _METADATA, _VERSION, 1, len(client), client, 0)
    with socket.create_connection((host, port), timeout=timeout_seconds) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", _read_exactly(connection, 4))
        if not 8 <= size <= 1_000_000:
            raise ConnectionError(f"{host}:{port} does not answer as a Kafka broker does")
        return _parse_cluster_id(_read_exactly(connection, size))


def await_cluster_id(
    host: str, port: int, is_alive: Callable[[], bool], timeout_seconds: float
) -> str | None:
    """Wait until a broker answers, and return its cluster id.

    Parameters
    ----------
    host, port
        Where the broker will listen.
    is_alive : callable
        Tells whether there is still something to wait for.
    timeout_seconds : float
        How long to wait at most.

    Raises
    ------
    OSError
        When `is_alive` says no before the broker answered.
    TimeoutError
        When the time is over.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        # A broker that starts may accept a connection and close it again: ask until it answers.
        with contextlib.suppress(OSError):
            return read_cluster_id(host, port)
        if not is_alive():
            raise OSError(f"the process that was to listen on {host}:{port} has ended")
        time.sleep(0.01)
    raise TimeoutError(f"no Kafka broker answered on {host}:{port} within {timeout_seconds:g} seconds")


def _read_exactly(connection: socket.socket, n_bytes: int) -> bytes:
    parts = bytearray()
    while len(parts) < n_bytes:
        part = connection.recv(n_bytes - len(parts))
        if not part:
            raise ConnectionError(f"the connection closed after {len(parts)} of {n_bytes} bytes")
        parts += part
    return bytes(parts)


def _parse_cluster_id(answer: bytes) -> str | None:
    """Read MetadataResponse version 2 up to the field wanted."""
    try:
        (n_brokers,) = struct.unpack_from(">i", answer, 4)
        position = 8
        for _ in range(n_brokers):
            position += 4  # node id
            position += 2 + struct.unpack_from(">h", answer, position)[0]  # host
            position += 4  # port
            position += 2 + max(0, struct.unpack_from(">h", answer, position)[0])  # rack, may be null
        (length,) = struct.unpack_from(">h", answer, position)
        if length == _NO_CLUSTER:
            return None
        (text,) = struct.unpack_from(f">{length}s", answer, position + 2)
        return str(text, "utf-8")
    except (struct.error, UnicodeDecodeError) as error:
        raise ConnectionError("the answer is not one of Kafka's protocol") from error
