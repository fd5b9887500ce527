"""How a start fails: one line on stderr that says what is wrong, and an exit code."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from app.cluster import find_free_port
from app.embedded import EmbeddedBroker
from tests.live.brokers import KafkaBroker
from tests.live.workers import ROOT, TOPICS, Workers, worker_environment

TIMEOUT_SECONDS = 90


def start_in_vain(settings: Mapping[str, object]) -> tuple[int, str]:
    """Start a worker that must end by itself; return its exit code and the one line on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", "worker", "--web-port", str(find_free_port())],
        cwd=ROOT,
        env=worker_environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stdout
    return done.returncode, lines[0]


@pytest.fixture
def settings(kafka_broker: KafkaBroker, tmp_path: Path) -> dict[str, object]:
    """Settings that a worker would start with."""
    return {**Workers(tmp_path, kafka_broker.url).settings, "data_dir": tmp_path / "data"}


def create_topic(bootstrap: str, name: object, n_partitions: int, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})  # its name keeps it alive until the answer is there
    topic = NewTopic(str(name), n_partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})
    admin.create_topics([topic])[topic.topic].result(TIMEOUT_SECONDS)


def test_an_unreachable_broker_is_named(tmp_path: Path) -> None:
    broker = f"kafka://127.0.0.1:{find_free_port()}"
    code, line = start_in_vain({"broker": broker, "data_dir": tmp_path})
    assert code == 1
    assert line == f"nowcast: cannot reach Kafka at {broker} (NOWCAST_BROKER); is the broker running there?"


def test_a_wrong_setting_is_named_with_its_bound_and_its_value(tmp_path: Path) -> None:
    code, line = start_in_vain({"panes": 0, "data_dir": tmp_path})
    assert code == 2
    assert re.fullmatch(r"nowcast: NOWCAST_PANES: .*greater than or equal to 1.*'0'.*", line)


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    code, line = start_in_vain({"pannes": 3, "data_dir": tmp_path})
    assert code == 2
    assert "NOWCAST_PANNES" in line


def test_exactly_once_is_refused_on_a_broker_without_transactions(
    embedded_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    group = f"start-{uuid.uuid4().hex[:8]}"
    code, line = start_in_vain(
        {
            "broker": embedded_broker.url,
            "group": group,
            "delivery": "exactly_once",
            "data_dir": tmp_path,
            **{f"topic_{name}": f"{group}-{name}" for name in TOPICS},
        }
    )
    assert code == 1
    assert f"broker at {embedded_broker.url} has no transactions" in line
    assert "NOWCAST_DELIVERY=at_least_once" in line


def test_a_topic_with_other_partitions_ends_the_start(
    kafka_broker: KafkaBroker, settings: dict[str, object]
) -> None:
    create_topic(kafka_broker.bootstrap, settings["topic_events"], 3)
    code, line = start_in_vain(settings)
    assert code == 1
    assert f"topic '{settings['topic_events']}' has 3 partitions, 4 needed" in line
    assert "NOWCAST_PARTITIONS=3" in line


def test_a_models_topic_that_forgets_ends_the_start(
    kafka_broker: KafkaBroker, settings: dict[str, object]
) -> None:
    create_topic(kafka_broker.bootstrap, settings["topic_models"], 1, cleanup_policy="delete")
    code, line = start_in_vain(settings)
    assert code == 1
    assert f"topic '{settings['topic_models']}' has cleanup.policy=delete" in line
    assert "--add-config cleanup.policy=compact" in line


def test_a_second_worker_on_the_same_data_directory_is_refused(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    with Workers(tmp_path, kafka_broker.url) as workers:
        first = workers.new("first").start().wait_until_ready()
        code, line = start_in_vain({**workers.settings, "data_dir": first.data_dir})
        assert code == 1
        assert f"data directory {first.data_dir} is in use by another worker" in line
        assert "NOWCAST_DATA_DIR" in line
        assert first.get("/health/ready")[0] == 200
        # The lock goes with the process, however it ends.
        first.kill()
        first.start().wait_until_ready()


def test_a_key_file_without_a_key_ends_the_start(settings: dict[str, object], tmp_path: Path) -> None:
    keys = tmp_path / "keys.pem"
    keys.write_bytes(b"")
    code, line = start_in_vain({**settings, "trusted_keys": keys})
    assert code == 1
    assert "NOWCAST_TRUSTED_KEYS: " in line
