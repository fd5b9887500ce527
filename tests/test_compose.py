"""docker-compose.yml is a valid Compose file, and its worker can be multiplied.

No Docker engine is needed: the Compose Specification's own JSON schema says what is valid (check-jsonschema
ships it), and what `--scale worker=3` needs can be read from the file.
"""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parent.parent
SCHEMA = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
N_REPLICAS = 3


@pytest.fixture(scope="module")
def schema() -> Any:
    # Located, not imported: the program itself wants a later click than Faust allows.
    path = distribution("check-jsonschema").locate_file(SCHEMA)
    return json.loads(Path(str(path)).read_text())


@pytest.fixture(scope="module")
def validator(schema: Any) -> Any:
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def find_scale_faults(service: dict[str, Any], n_replicas: int) -> list[str]:
    """Say what would make replicas of a service collide."""
    faults = []
    if "container_name" in service:
        faults.append("container_name: two containers cannot have one name")
    if "hostname" in service:
        faults.append("hostname: replicas would route requests to one another's name")
    for port in service.get("ports", []):
        published = port.split(":")[-2] if isinstance(port, str) else str(port.get("published", ""))
        first, _, last = published.partition("-")
        if published and int(last or first) - int(first) + 1 < n_replicas:
            faults.append(f"ports: {port} has no room for {n_replicas} replicas")
    for volume in service.get("volumes", []):
        if isinstance(volume, dict):
            shared = volume.get("type") not in ("tmpfs",) and "source" in volume
        else:
            shared = ":" in volume
        if shared:
            faults.append(f"volumes: {volume} is one directory for all replicas")
    return faults


def test_the_file_is_valid_by_the_compose_specification(compose: Any, validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(compose)] == []


@pytest.mark.parametrize(
    ("service", "field", "value"),
    [("worker", "comand", "faust"), ("kafka", "ports", 9092), ("worker", "healthcheck", {"test": 1})],
)
def test_a_slip_in_the_file_would_be_found(
    compose: Any, validator: Any, service: str, field: str, value: object
) -> None:
    compose["services"][service][field] = value
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(compose)


def test_three_workers_collide_in_nothing(compose: Any) -> None:
    assert find_scale_faults(compose["services"]["worker"], N_REPLICAS) == []


@pytest.mark.parametrize(
    "change",
    [
        {"ports": ["6066:6066"]},
        {"ports": ["127.0.0.1:6066-6067:6066"]},
        {"ports": [{"target": 6066, "published": "6066"}]},
        {"volumes": ["worker-data:/data"]},
        {"volumes": [{"type": "volume", "source": "worker-data", "target": "/data"}]},
        {"container_name": "worker"},
        {"hostname": "worker"},
    ],
)
def test_what_would_make_three_workers_collide_is_found(compose: Any, change: dict[str, Any]) -> None:
    assert len(find_scale_faults({**compose["services"]["worker"], **change}, N_REPLICAS)) == 1


def test_each_worker_has_a_volume_of_its_own_where_the_image_keeps_state(compose: Any) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "/data" in compose["services"]["worker"]["volumes"]
    assert "NOWCAST_DATA_DIR=/data" in dockerfile
    assert "VOLUME /data" in dockerfile


def test_everything_waits_for_what_it_needs_to_be_healthy(compose: Any) -> None:
    services = compose["services"]
    for service in services.values():
        for name, need in service.get("depends_on", {}).items():
            assert need["condition"] == "service_healthy"
            assert "test" in services[name]["healthcheck"]
    assert "/health/ready" in str(services["worker"]["healthcheck"])


def test_the_demo_stream_starts_only_on_request(compose: Any) -> None:
    services = compose["services"]
    assert [name for name, service in services.items() if "demo" in service.get("profiles", [])] == ["replay"]
    assert all("profiles" not in services[name] for name in ("kafka", "worker"))


def test_kafka_is_the_version_that_the_live_tests_run(compose: Any) -> None:
    version = compose["services"]["kafka"]["image"].removeprefix("apache/kafka:")
    assert f"<kafka.version>{version}</kafka.version>" in (ROOT / "tests/kafka/pom.xml").read_text()
