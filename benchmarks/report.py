"""The figures of a run: medians, ratios, goals, a table to read and a JSON file to compare with."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.contenders import DESCRIPTIONS
from benchmarks.job import Job
from benchmarks.latency import Latency
from benchmarks.processes import ROOT
from benchmarks.throughput import Throughput

RESULTS = Path(__file__).parent / "results" / "latest.json"

GOALS = {"faust": 40.0, "confluent": 0.6}
"""How many times as fast as each of the others Nowcast has to be."""

GOAL_P99_MS = 50.0

LIBRARIES = ("faust-streaming", "aiokafka", "confluent-kafka", "numpy", "onnxruntime", "msgspec", "rocksdict")


def middle(runs: Sequence[Throughput]) -> Throughput:
    """Return the median of each figure: one disturbed run does not move it."""
    fields = Throughput.__struct_fields__
    return Throughput(**{name: median(getattr(run, name) for run in runs) for name in fields})


def find_ratios(runs: Mapping[str, Sequence[Throughput]]) -> dict[str, float]:
    """Return how many times as fast as each other contender Nowcast is."""
    if "nowcast" not in runs:
        return {}
    speed = {name: middle(of_one).events_per_second for name, of_one in runs.items()}
    return {name: speed["nowcast"] / speed[name] for name in runs if name != "nowcast"}


def find_shortfalls(ratios: Mapping[str, float], latencies: Mapping[str, Latency]) -> list[str]:
    """Return the goals that were missed, one line each."""
    missed = [
        f"Nowcast / {name}: {ratio:.2f}, at least {GOALS[name]:g} wanted"
        for name, ratio in ratios.items()
        if ratio < GOALS[name]
    ]
    if "nowcast" in latencies and latencies["nowcast"].p99_ms >= GOAL_P99_MS:
        missed.append(f"p99 latency: {latencies['nowcast'].p99_ms:.1f} ms, below {GOAL_P99_MS:g} ms wanted")
    return missed


def format_table(
    runs: Mapping[str, Sequence[Throughput]], latencies: Mapping[str, Latency], ratios: Mapping[str, float]
) -> str:
    """Return the figures as text."""
    lines = [
        f"{'':40} {'events/s':>9} {'CPU s/100k':>10} {'peak MB':>8} {'p50 ms':>7} {'p99 ms':>7} {'runs':>5}"
    ]
    for name, of_one in runs.items():
        figures, latency = middle(of_one), latencies.get(name)
        times = f"{latency.p50_ms:7.1f} {latency.p99_ms:7.1f}" if latency else f"{'-':>7} {'-':>7}"
        lines.append(
            f"{DESCRIPTIONS[name]:40} {figures.events_per_second:9,.0f} {figures.cpu_seconds_per_100k:10.2f} "
            f"{figures.peak_rss_mb:8.0f} {times} {len(of_one):5}"
        )
    if ratios:
        lines += ["", "Nowcast against " + ", ".join(f"{name}: {r:.2f}x" for name, r in ratios.items())]
    return "\n".join(lines)


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on: machine, versions, commit."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{platform.system()} {platform.machine()}, {_read_cpu()}, {os.cpu_count()} cores",
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
        "commit": _read_commit(),
    }


def write(
    job: Job,
    runs: Mapping[str, Sequence[Throughput]],
    latencies: Mapping[str, Latency],
    ratios: Mapping[str, float],
    faults: Sequence[str],
) -> Path:
    """Write everything that was measured, each run by itself."""
    document = {
        **describe_machine(),
        "job": vars(job),
        "medians": {name: middle(of_one) for name, of_one in runs.items()},
        "runs": runs,
        "latency": latencies,
        "ratios": ratios,
        "faults": faults,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    return RESULTS


def _read_cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _read_commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
