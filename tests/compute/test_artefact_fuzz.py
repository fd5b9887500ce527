"""Artefacts of whatever bytes: refused, or a model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from compute.artefact import ArtefactError, load_artefact
from compute.metadata import read_metadata
from tables.artefact_records import pack_metadata
from tests.artefacts import MAX_BYTES, as_json, converted, fields, linear
from tests.compute.artefact_samples import N_FEATURES, TRUTH, X, load

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WHOLE = linear([1, 1, 1, 1]).SerializeToString()
CLASSIFIER = converted(LogisticRegression().fit(X, TRUTH), X, zipmap=True)


def load_or_refuse(onnx_bytes: bytes, metadata: bytes) -> None:
    try:
        load_artefact(onnx_bytes, metadata, max_bytes=MAX_BYTES)
    except ArtefactError as error:
        assert str(error).isprintable()  # noqa: PT017  (both ends are right)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ArtefactError):
        load(content)


def test_every_truncation_is_refused() -> None:
    undeclared = as_json(n_features=N_FEATURES, kind="classification")
    declared = pack_metadata(CLASSIFIER, json.loads(undeclared))
    for size in range(len(CLASSIFIER)):
        # Cut between two fields it may be a whole message still: the hash tells.
        load_or_refuse(CLASSIFIER[:size], undeclared)
        with pytest.raises(ArtefactError):
            load_artefact(CLASSIFIER[:size], declared, max_bytes=MAX_BYTES)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_still_a_model(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from([WHOLE, CLASSIFIER])))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    kind = data.draw(st.sampled_from(["regression", "classification", "anomaly"]))
    load_or_refuse(bytes(damaged), as_json(n_features=N_FEATURES, kind=kind))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_random_metadata_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ArtefactError):
        load_artefact(WHOLE, content, max_bytes=MAX_BYTES)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*read_metadata(fields()).__struct_fields__, "other"]), ANY_JSON)
def test_random_metadata_fields_are_refused_or_fit(name: str, value: Any) -> None:
    changed = {**fields(n_features=N_FEATURES), name: value}
    load_or_refuse(WHOLE, json.dumps(changed).encode())
