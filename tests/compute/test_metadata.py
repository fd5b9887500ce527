"""Metadata of artefacts, as a mapping and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from onnx import helper

from compute.artefact import ArtefactError, embedded_metadata
from compute.metadata import parse_metadata, read_metadata
from tests.artefacts import fields, linear


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "a/b"}, r"metadata: .*matching regex.*\$\.name"),
        ({"kind": "guess"}, r"\$\.kind"),
        ({"features": []}, r"length >= 1.*\$\.features"),
        ({"features": ["a", "a"]}, "features must differ, received 'a' twice"),
        ({"features": ["a", ""]}, r"\$\.features"),
        ({"features": "a,b"}, r"Expected `array`, got `str`"),
        ({"normaliser": "zscore"}, r"\$\.normaliser"),
        ({"missing": "ignore"}, r"\$\.missing"),
        ({"threshold": "high"}, r"\$\.threshold"),
        ({"treshold": 0.5}, "unknown field `treshold`"),
        ({"output": {"scores": "x"}}, "unknown field `scores`"),
        ({"output": {"sign": 2}}, r"\$\.output\.sign"),
        ({"output": {"sign": -1}}, "output.sign belongs to kind 'anomaly', received 'regression'"),
        ({"classes": [0, 1]}, "classes belong to kind 'classification', received 'regression'"),
        ({"kind": "classification", "classes": ["a", "a"]}, "classes must differ"),
        ({"version": "newest"}, r"\$\.version"),
    ],
)
def test_metadata_is_refused_with_field_and_bound(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        read_metadata({**fields(), **changed})


@pytest.mark.parametrize("missing", ["name", "kind", "features"])
def test_metadata_needs(missing: str) -> None:
    with pytest.raises(ArtefactError, match=f"missing required field `{missing}`"):
        read_metadata({name: value for name, value in fields().items() if name != missing})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_metadata_that_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(ArtefactError, match="metadata: "):
        parse_metadata(content)


def test_onnx_may_carry_its_metadata() -> None:
    model = linear([1, 1])
    assert embedded_metadata(model.SerializeToString()) == {}
    helper.set_model_props(model, {"producer": "x", "nowcast": json.dumps(fields())})
    assert embedded_metadata(model.SerializeToString()) == fields()
