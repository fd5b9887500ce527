"""Metadata of a file that is published, and what is said of it where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.commands.models import gather_metadata
from compute.artefact import ArtefactError
from tests.artefacts import fields, linear

KNOWN = "known are name, version, kind, features, normaliser, missing, output, classes, threshold, "


def onnx_with(embedded: object) -> bytes:
    model = linear([1.0, 2.0])
    if embedded is not None:
        model.metadata_props.add(key="nowcast", value=json.dumps(embedded))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("place", ["beside", "named", "within"])
def test_an_unknown_field_is_told_with_its_file_and_the_known_ones(tmp_path: Path, place: str) -> None:
    wrong = {**fields(), "treshold": 0.5}
    file = tmp_path / "pump.onnx"
    onnx_bytes = onnx_with(wrong if place == "within" else None)
    files = {"beside": tmp_path / "pump.json", "named": tmp_path / "mine.json", "within": file}
    if place != "within":
        files[place].write_text(json.dumps(wrong))
    with pytest.raises(ArtefactError) as caught:
        gather_metadata(file, onnx_bytes, files[place] if place == "named" else None, {})
    told = str(caught.value)
    assert told.startswith(f"{files[place]}: metadata: unknown field `treshold`; {KNOWN}")


def test_an_unknown_field_of_the_output_is_told_with_those_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "pump.json").write_text(json.dumps({**fields(), "output": {"scores": "x"}}))
    with pytest.raises(ArtefactError) as caught:
        gather_metadata(tmp_path / "pump.onnx", onnx_with(None), None, {})
    told = "metadata.output: unknown field `scores`; known are score, label, positive, sign"
    assert str(caught.value) == f"{tmp_path / 'pump.json'}: {told}"


def test_metadata_that_is_no_json_is_told_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "pump.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"pump\.json: metadata: not JSON"):
        gather_metadata(tmp_path / "pump.onnx", onnx_with(None), None, {})


def test_options_come_over_the_file_beside_it_over_what_the_onnx_carries(tmp_path: Path) -> None:
    (tmp_path / "pump.json").write_text(json.dumps({"kind": "regression", "missing": "mean"}))
    within = {"kind": "anomaly", "missing": "nan", "normaliser": "none"}
    found = gather_metadata(tmp_path / "pump.onnx", onnx_with(within), None, {"kind": "anomaly"})
    assert found == {"name": "pump", "kind": "anomaly", "missing": "mean", "normaliser": "none"}
