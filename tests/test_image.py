"""The Dockerfile copies what a worker needs and runs it as nobody special."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PACKAGES = ("app", "agents", "tables", "compute")


def test_every_package_is_in_the_image_and_sent_to_the_builder() -> None:
    sent = (ROOT / ".dockerignore").read_text().split()
    for name in PACKAGES:
        assert (ROOT / name).is_dir()
        assert f"COPY {name} {name}\n" in DOCKERFILE
        assert f"!{name}" in sent


def test_every_file_that_is_copied_is_sent_to_the_builder() -> None:
    sent = (ROOT / ".dockerignore").read_text().split()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert f"!{name}" in sent, name


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["nowcast"]


def test_dependencies_are_wheels_of_the_pinned_versions() -> None:
    installs = re.findall(r"pip install .*", DOCKERFILE)
    assert len(installs) == 1
    assert "--only-binary=:all:" in installs[0]
    assert "-c constraints.txt" in installs[0]
