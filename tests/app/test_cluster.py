"""The question that tells two brokers on one machine apart."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from app.cluster import (
    FIRST_PORT,
    LAST_PORT,
    await_cluster_id,
    find_free_port,
    is_port_free,
    read_cluster_id,
)

HOST = "127.0.0.1"


def write_string(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


def write_answer(cluster_id: str | None, n_brokers: int = 1) -> bytes:
    """Write MetadataResponse version 2 with brokers without a rack, and no topics."""
    broker = struct.pack(">i", 1) + write_string("host") + struct.pack(">i", 9092) + write_string(None)
    body = struct.pack(">ii", 1, n_brokers) + broker * n_brokers + write_string(cluster_id)
    body += struct.pack(">ii", 1, 0)
    return struct.pack(">i", len(body)) + body


def ask_a_server_that_says(answer: bytes) -> str | None:
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return read_cluster_id(HOST, server.getsockname()[1])
        finally:
            thread.join()


@pytest.mark.parametrize("n_brokers", [0, 1, 3])
@pytest.mark.parametrize("cluster_id", ["a-cluster", "", None])
def test_the_cluster_id_is_read_whatever_stands_before_it(cluster_id: str | None, n_brokers: int) -> None:
    assert ask_a_server_that_says(write_answer(cluster_id, n_brokers)) == cluster_id


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        write_answer("a-cluster")[:-20],
        struct.pack(">iii", 8, 1, 1),
        struct.pack(">iiih", 10, 1, 0, 5),
    ],
)
def test_what_does_not_answer_as_a_broker_is_an_error(answer: bytes) -> None:
    with pytest.raises(OSError, match=r"closed|answer"):
        ask_a_server_that_says(answer)


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_asked() -> None:
    with socket.create_server((HOST, 0)) as server, pytest.raises(OSError, match="timed out"):
        read_cluster_id(HOST, server.getsockname()[1], timeout_seconds=0.05)


def test_waiting_ends_when_there_is_nothing_to_wait_for() -> None:
    with pytest.raises(OSError, match="has ended"):
        await_cluster_id(HOST, find_free_port(), is_alive=lambda: False, timeout_seconds=30)


def test_waiting_ends_when_the_time_is_over() -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.05 seconds"):
        await_cluster_id(HOST, find_free_port(), is_alive=lambda: True, timeout_seconds=0.05)


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        assert not is_port_free(HOST, server.getsockname()[1])


def test_free_ports_are_none_that_the_system_gives_to_outgoing_connections() -> None:
    assert FIRST_PORT <= find_free_port() <= LAST_PORT < 32_768
