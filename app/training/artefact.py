"""What a training leaves: metadata, files, and a record on the models topic.

Owns what the metadata says of a training. It is part of the version, so it says nothing that another run on
the same data would say differently: when it was and how long it took is in the report and the record, not in
here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from importlib.metadata import version as version_of_package
from pathlib import Path
from platform import python_version
from typing import Any

from app.settings import Settings
from app.training.request import Request
from compute.metadata import VERSION_LENGTH
from compute.training.finalists import Finalist
from compute.training.plan import Plan
from compute.training.report import winner_metrics
from compute.training.sample import Sample
from compute.training.training import Outcome
from tables.artefact_records import pack_metadata

LIBRARIES = ("numpy", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")
"""Those that have a say in what the bytes are."""


def needed_fields(wanted: Request, sample: Sample) -> dict[str, Any]:
    """Return the metadata without which an artefact cannot be loaded, but for the classes."""
    return {
        "name": wanted.name,
        "kind": wanted.task,
        "features": list(sample.features),
        "normaliser": wanted.normaliser,
        "missing": wanted.missing,
        **({"output": {"positive": sample.positive}} if sample.classes and wanted.positive else {}),
    }


def describe_data(
    settings: Settings, wanted: Request, sample: Sample, plan: Plan, read: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the artefact was trained on, `read` first: where its events came from.

    The window is told because z-scores mean what they mean under its settings alone.
    """
    return {
        **read,
        "target": wanted.target,
        "n_events": len(sample.targets),
        "first_event": float(sample.timestamps[0]),
        "last_event": float(sample.timestamps[-1]),
        "seed": plan.seed,
        "window": {
            "seconds": settings.window_seconds,
            "panes": settings.panes,
            "warmup_events": settings.warmup_events,
        },
    }


def pack(
    wanted: Request, sample: Sample, plan: Plan, outcome: Outcome, trained_on: Mapping[str, Any]
) -> tuple[Finalist, bytes, str]:
    """Return the winner, its metadata with the version, and the version as it is shown."""
    winner = outcome.winner
    assert winner is not None
    fields = {
        **needed_fields(wanted, sample),
        **({"classes": list(winner.classes)} if winner.classes else {}),
        "metrics": winner_metrics(outcome, plan),
        "trained_by": "nowcast train",
        "trained_on": dict(trained_on),
        "library_versions": {
            "python": python_version(),
            **{name: version_of_package(name) for name in LIBRARIES},
        },
    }
    metadata_json = pack_metadata(winner.onnx_bytes, fields)
    return winner, metadata_json, str(json.loads(metadata_json)["version"])[:VERSION_LENGTH]


def write_files(
    folder: Path, name: str, report: Mapping[str, Any], plot: bytes, artefact: tuple[bytes, bytes] | None
) -> list[Path]:
    """Write table, plot and artefact (ONNX bytes and metadata) into a folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        f"{name}-candidates.json": json.dumps(report, indent=2).encode(),
        f"{name}-candidates.csv": _as_csv(report).encode(),
        f"{name}-candidates.png": plot,
    }
    if artefact is not None:
        contents |= {f"{name}.onnx": artefact[0], f"{name}.json": artefact[1]}
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    return [folder / file for file in contents]


def _as_csv(report: Mapping[str, Any]) -> str:
    """Return the table with a column for each number."""
    rows = []
    for item in report["candidates"]:
        row = {name: item[name] for name in ("candidate", "state")}
        row["parameters"] = json.dumps(item["parameters"])
        for metric, (mean, std) in item["cross_validation"].items():
            row |= {f"{metric}_mean": mean, f"{metric}_std": std}
        row |= {f"{metric}_held_out": value for metric, value in item["held_out"].items()}
        others = ("rows", "fit_seconds", "event_microseconds", "onnx_bytes", "difference", "refusal")
        rows.append(row | {name: item[name] for name in others})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
