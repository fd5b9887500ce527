"""The job's model, published as any user would: `faust -A app models publish FILE`."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.contenders import Place, nowcast_environment
from benchmarks.job import linear_model
from benchmarks.processes import ROOT

PUBLISH_SECONDS = 60.0


def publish_model(place: Place) -> None:
    """Publish the linear model to the topic of models of a place; its metadata is in the file."""
    place.directory.mkdir(parents=True, exist_ok=True)
    file = place.directory / "linear.onnx"
    file.write_bytes(linear_model())
    done = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", "models", "publish", str(file)],
        cwd=ROOT,
        env={**os.environ, **nowcast_environment(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PUBLISH_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"the model could not be published: {done.stdout.strip()[-2000:]}")
