"""Header names that are not UTF-8, on Apache Kafka: nothing stops, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from tests.artefacts import artefact
from tests.live.brokers import KafkaBroker
from tests.live.streams import Reader
from tests.live.workers import ROOT, Workers, wait_for, worker_environment
from tests.odd_names import OddName, Record, send_odd

ODD = OddName(b"caf\xe9")


def event(i: int) -> bytes:
    return json.dumps({"timestamp": time.time(), "features": {"heat": i}}).encode()


def test_events_and_models_with_odd_header_names_are_read_as_any_others(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    with (
        Workers(tmp_path, kafka_broker.url, partitions=1) as workers,
        Reader(kafka_broker.bootstrap, str(workers.settings["group"]), 1) as reader,
    ):
        settings = workers.settings
        events, models, predictions, letters = (
            str(settings[f"topic_{name}"]) for name in ("events", "models", "predictions", "dead_letters")
        )
        worker = workers.new("only").start().wait_until_ready()

        def send(topic: str, *records: Record, codec: int = 0) -> int:
            now = int(time.time() * 1000)
            return asyncio.run(send_odd(kafka_broker.bootstrap, topic, list(records), now, codec))

        odd: list[tuple[str, bytes | None]] = [(ODD, b"1")]
        send(events, (b"a", event(1), odd), (b"a", b"{", odd), (b"a", event(2), []))
        send(events, *[(b"b", event(i), odd) for i in range(50)], codec=1)
        wait_for(lambda: reader.n_records(predictions) >= 52, "52 predictions", [worker])
        wait_for(lambda: reader.committed(events)[0] == 53, "all committed", [worker])
        assert reader.n_records(predictions) == 52
        (letter,) = reader.read(letters)
        assert letter.headers()[0] == ("caf\\xe9", b"1")
        assert dict(letter.headers())["error"] == b"invalid-json"

        onnx_bytes, metadata = artefact([2.0], name="pump")
        send(models, (b"pump", onnx_bytes, [(ODD, b"1"), ("metadata", metadata)]))
        send(models, (b"other", b"rubbish", [(ODD, b"1")]))
        wait_for(lambda: (worker.get("/api/models/pump")[1] or {}).get("serving"), "the model", [worker])

        done = subprocess.run(
            [sys.executable, "-m", "faust", "-A", "app", "--json", "dead-letters", "list"],
            cwd=ROOT,
            env=worker_environment(settings),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "invalid-json" in done.stdout
