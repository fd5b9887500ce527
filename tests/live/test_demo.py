from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from app.cluster import find_free_port, is_port_free
from app.embedded import EmbeddedBroker
from app.sources.data_sets import is_available

ROOT = Path(__file__).parents[2]


def demo(*arguments: str, **environment: str) -> dict[str, Any]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("SECONDS", "SCENARIO", "RATE") and not name.startswith("NOWCAST_")
    }
    return {
        "args": [sys.executable, "-m", "app.demo", *arguments],
        "cwd": ROOT,
        "env": {**inherited, "NOWCAST_WEB_PORT": str(find_free_port()), **environment},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


def number(name: str, output: str) -> int:
    found = re.search(rf"^{name} +([\d,]+)", output, re.MULTILINE)
    assert found, output
    return int(found[1].replace(",", ""))


@pytest.mark.usefixtures("embedded_binary")
@pytest.mark.parametrize("scenario", ["shuttle", "water-flow", "fleet"])
def test_the_demo_scores_a_stream_and_every_event_is_answered(scenario: str) -> None:
    if not is_available(scenario):
        pytest.skip(f"the installed river does not ship {scenario}")
    start = time.monotonic()
    done = subprocess.run(**demo("--seconds", "8", "--scenario", scenario), timeout=120)
    assert done.returncode == 0, done.stdout
    assert time.monotonic() - start < 60
    output = done.stdout
    assert "Dashboard: http://127.0.0.1:" in output
    assert "(all with a prediction or a dead letter)" in output
    assert number("events", output) == number("predictions", output) + number("dead letters", output) > 100
    assert number("dead letters", output) == 0
    assert re.search(r"^latency +p50 \d+ ms, p99 \d+ ms", output, re.MULTILINE)
    ports = re.findall(r"127\.0\.0\.1:(\d+)", output)
    assert len(ports) == 2  # broker and worker: nothing is left running
    assert all(is_port_free("127.0.0.1", int(port)) for port in ports)


@pytest.mark.usefixtures("embedded_binary")
def test_the_first_scenario_shows_alerts() -> None:
    done = subprocess.run(**demo(SECONDS="10"), timeout=120)
    assert done.returncode == 0, done.stdout
    assert "ALERT" in done.stdout
    assert number("alerts", done.stdout) > 0


@pytest.mark.usefixtures("embedded_binary")
def test_ctrl_c_in_a_terminal_ends_the_demo_with_its_summary() -> None:
    with subprocess.Popen(**demo("--scenario", "fleet"), start_new_session=True) as process:
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if "Dashboard" in line:
                    url = line.split()[-1]
                    break
            with urllib.request.urlopen(url, timeout=10) as page:
                assert page.status == 200
            deadline = time.monotonic() + 30
            while re.search(r"predictions [1-9]", lines[-1]) is None and time.monotonic() < deadline:
                lines.append(process.stdout.readline())
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the whole group
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    output = "".join(lines) + rest
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "(all with a prediction or a dead letter)" in output


def test_a_broker_of_the_users_own_is_used_and_left_running(own_embedded_broker: EmbeddedBroker) -> None:
    arguments = demo("--seconds", "4", "--scenario", "fleet", NOWCAST_BROKER=own_embedded_broker.url)
    done = subprocess.run(**arguments, timeout=120)
    assert done.returncode == 0, done.stdout
    assert f"broker {own_embedded_broker.url}" in done.stdout
    assert own_embedded_broker.pid is not None


LEARNING_SECONDS = 300
"""On a busy machine; two idle cores take some 80."""


def test_the_demo_learns_and_learns_again_when_the_world_changes(own_embedded_broker: EmbeddedBroker) -> None:
    arguments = demo(
        *("--scenario", "learning", "--seconds", str(LEARNING_SECONDS)),
        NOWCAST_BROKER=own_embedded_broker.url,
    )
    lines = []
    with subprocess.Popen(**arguments) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                if "accuracy is back" in line:  # it has all happened
                    break
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    output = "".join(lines) + rest
    assert process.returncode == 0, output
    assert "NOT SEEN" not in output
    assert "(all with a prediction or a dead letter)" in output
    # What it tells of accuracy is what its topics say, counted here by another way.
    told = re.search(r"accuracy +([\d.]+) before the change, ([\d.]+) at worst, ([\d.]+) at the end", output)
    assert told, output
    before, worst, end = map(float, told.groups())
    assert before > 0.9
    assert worst < 0.8
    assert end > 0.88
    right = outcomes(own_embedded_broker.url, number("predictions", output), number("labels", output))
    versions = list(dict.fromkeys(version for version, _ in right))
    assert versions[0] == "builtin-1"
    assert len(versions) >= 3
    assert accuracy(right, versions[-1]) == pytest.approx(end, abs=0.05)
    assert accuracy(right, versions[1]) < before  # it served before and after


def outcomes(url: str, n_predictions: int, n_labels: int) -> list[tuple[str, bool]]:
    """Of every labelled prediction in order of event time: who made it, and whether it was right."""
    labels = {value["id"]: value["label"] for value in read(url, "labels", n_labels)}
    predictions = sorted(read(url, "predictions", n_predictions), key=lambda value: value["timestamp"])
    return [
        (value["version"], value["prediction"] == labels[value["id"]])
        for value in predictions
        if value["id"] in labels
    ]


def read(url: str, topic: str, n: int) -> list[dict[str, Any]]:
    consumer = Consumer({"bootstrap.servers": url.removeprefix("kafka://"), "group.id": "reader"})
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
        values: list[dict[str, Any]] = []
        deadline = time.monotonic() + 60
        while len(values) < n:
            assert time.monotonic() < deadline, f"{len(values)} of {n} records of {topic} were read"
            for message in consumer.consume(1_000, timeout=0.1):
                assert message.error() is None, message.error()
                values.append(json.loads(message.value()))
        return values
    finally:
        consumer.close()


def accuracy(outcomes: list[tuple[str, bool]], version: str) -> float:
    right = [is_right for by, is_right in outcomes if by == version]
    return sum(right) / len(right)


def test_a_second_run_on_the_same_broker_counts_only_its_own(own_embedded_broker: EmbeddedBroker) -> None:
    for _ in range(2):
        arguments = demo("--seconds", "3", "--scenario", "fleet", NOWCAST_BROKER=own_embedded_broker.url)
        done = subprocess.run(**arguments, timeout=120)
        assert done.returncode == 0, done.stdout
        assert 1_000 <= number("events", done.stdout) <= 1_600


def test_the_demo_works_on_apache_kafka(kafka_broker: Any) -> None:
    arguments = demo("--seconds", "5", "--scenario", "fleet", NOWCAST_BROKER=kafka_broker.url)
    done = subprocess.run(**arguments, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "(all with a prediction or a dead letter)" in done.stdout


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"SCENARIO": "weather"},
            "nowcast: SCENARIO must be one of shuttle, water-flow, fleet, learning, received",
        ),
        ({"SECONDS": "soon"}, "nowcast: SECONDS must be a number from 0, received 'soon'"),
        ({"RATE": "-1"}, "nowcast: RATE must be a number from 0, received '-1'"),
    ],
)
def test_a_wrong_option_is_one_line(environment: dict[str, str], message: str) -> None:
    done = subprocess.run(**demo(**environment), timeout=60)
    assert done.returncode == 1
    assert done.stdout.startswith(message)
    assert len(done.stdout.splitlines()) == 1


def test_an_unreachable_broker_is_one_line() -> None:
    done = subprocess.run(**demo("--scenario", "fleet", NOWCAST_BROKER="kafka://127.0.0.1:1"), timeout=60)
    assert done.returncode == 1
    assert "nowcast: cannot reach Kafka at kafka://127.0.0.1:1" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.usefixtures("embedded_binary")
def test_a_worker_that_cannot_start_shows_its_last_lines() -> None:
    done = subprocess.run(
        **demo("--scenario", "fleet", NOWCAST_DELIVERY="exactly_once"),
        timeout=60,
    )
    assert done.returncode == 1
    assert "nowcast: the worker ended with code 1; its last lines:" in done.stdout
    assert "NOWCAST_DELIVERY" in done.stdout
