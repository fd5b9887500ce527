"""Apache Kafka's jars, brought once by Maven into the checkout's `tests/kafka/target/`.

Owns where they are and whether this machine can have them; `tests/live/brokers.py` runs them.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "kafka"
JAVA_VERSION = 17  # the oldest that Kafka's brokers of 4.x run on
MAVEN_SECONDS = 300


class KafkaMissingError(RuntimeError):
    """This machine cannot run Apache Kafka; the message says what is missing."""


def find_java() -> str:
    """Return the path of a Java that is new enough.

    Raises
    ------
    KafkaMissingError
        When there is none.
    """
    java = shutil.which("java")
    if java is None:
        raise KafkaMissingError(f"Apache Kafka needs Java {JAVA_VERSION} or later; there is no `java`")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < JAVA_VERSION:
        version = found[1] if found else said.strip()
        raise KafkaMissingError(f"Apache Kafka needs Java {JAVA_VERSION} or later, got {version}")
    return java


def fetch_jars() -> Path:
    """Return the folder with the broker's jars; the first call for a version of pom.xml runs Maven.

    Raises
    ------
    KafkaMissingError
        When there is no Maven, or it could not bring them.
    """
    pom = (PROJECT / "pom.xml").read_bytes()
    libs = PROJECT / "target" / f"libs-{hashlib.sha256(pom).hexdigest()[:12]}"
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaMissingError("Apache Kafka's jars are brought by Maven; there is no `mvn`")
    libs.parent.mkdir(exist_ok=True)
    with (libs.parent / "lock").open("w") as lock:
        # Test runs side by side share the folder: the second waits here, then finds it done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if libs.is_dir():
            return libs
        # Renamed when whole: a run that was stopped leaves nothing that looks done.
        arriving = libs.with_suffix(".part")
        shutil.rmtree(arriving, ignore_errors=True)
        done = subprocess.run(
            [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={arriving}"],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAVEN_SECONDS,
        )
        if done.returncode or not arriving.is_dir():
            raise KafkaMissingError(f"Maven could not bring Kafka's jars: {done.stdout.strip()[-1000:]}")
        arriving.rename(libs)
    return libs
