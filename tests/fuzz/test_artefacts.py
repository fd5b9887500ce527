"""Whatever arrives on `models`: loaded, or refused with one line, in bounded time and memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from compute.artefact import ArtefactError, Metadata, load_artefact, version_of
from tables import artefact_trial
from tables.artefact_trial import ArtefactTrial
from tests.artefacts import converted, fields, linear, looping
from tests.fuzz.amount import amount
from tests.fuzz.graphs import damaged
from tests.fuzz.mutations import mutated

MAX_BYTES = 1_000_000
SECONDS = 10.0
MAX_RESIDENT_BYTES = 1_500_000_000


@cache
def valid() -> list[tuple[bytes, dict[str, Any]]]:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 2))
    side = (rows[:, 0] > 0).astype(int)
    forest = RandomForestClassifier(3, max_depth=3, random_state=1).fit(rows, side)
    outliers = IsolationForest(n_estimators=3, random_state=1).fit(rows)
    named = np.array(["calm", "odd"])[side]
    return [
        (linear([1.0, 2.0]).SerializeToString(), fields()),
        (looping().SerializeToString(), fields()),
        (converted(LogisticRegression().fit(rows, named), rows), fields(kind="classification")),
        (converted(forest, rows, zipmap=True), fields(kind="classification", missing="nan")),
        (
            converted(outliers, rows),
            fields(kind="anomaly", output={"score": "scores", "sign": -1}, threshold=0.5),
        ),
    ]


@pytest.fixture(scope="module")
def attempt() -> Iterator[Any]:
    """Give a function that tries an artefact in the process for that, and says what was said of it."""
    loop, trial = asyncio.new_event_loop(), ArtefactTrial(MAX_BYTES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artefact_trial, "TRIAL_SECONDS", SECONDS)

        def attempt(onnx_bytes: bytes, metadata_json: bytes) -> str:
            started = time.monotonic()
            try:
                loop.run_until_complete(trial.attempt(onnx_bytes, metadata_json))
                said = ""
            except ArtefactError as error:
                said = str(error)
            assert said.isprintable()
            assert time.monotonic() - started < SECONDS + 20
            process = trial._process
            if process is not None and (status := Path(f"/proc/{process.pid}/statm")).exists():
                assert int(status.read_text().split()[1]) * 4096 < MAX_RESIDENT_BYTES
            return said

        yield attempt
        loop.run_until_complete(trial.close())
    loop.close()


def test_what_is_made_wrong_here_was_right(attempt: Any) -> None:
    assert [attempt(onnx_bytes, json.dumps(of).encode()) for onnx_bytes, of in valid()] == [""] * len(valid())


@amount(250)
@given(st.integers(0, 4), st.integers(0, 2**32), st.booleans())
def test_a_damaged_graph_is_loaded_or_refused(attempt: Any, which: int, seed: int, versioned: bool) -> None:
    onnx_bytes, of = valid()[which]
    wrong = damaged(onnx_bytes, Random(seed))
    version = {"version": version_of(wrong, of)} if versioned else {}
    attempt(wrong, json.dumps({**of, **version}).encode())


@amount(150)
@given(st.data(), st.integers(0, 4))
def test_damaged_bytes_are_loaded_or_refused(attempt: Any, data: st.DataObject, which: int) -> None:
    onnx_bytes, of = valid()[which]
    attempt(data.draw(mutated(onnx_bytes)), json.dumps(of).encode())


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just("f0"))
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from([*Metadata.__struct_fields__, "unknown"])


@amount(150)
@given(st.integers(0, 4), st.dictionaries(FIELDS, JSON, min_size=1, max_size=3), st.data())
def test_damaged_metadata_is_taken_or_refused(
    which: int, changes: dict[str, Any], data: st.DataObject
) -> None:
    onnx_bytes, of = valid()[which]
    metadata = json.dumps({**of, **changes}).encode()
    if data.draw(st.booleans()):
        metadata = data.draw(mutated(metadata))
    try:
        load_artefact(onnx_bytes, metadata, max_bytes=MAX_BYTES)
    except ArtefactError:
        return


@amount(100)
@given(st.binary(max_size=300), st.one_of(st.just(json.dumps(fields()).encode()), st.binary(max_size=60)))
def test_arbitrary_bytes_are_refused(onnx_bytes: bytes, metadata_json: bytes) -> None:
    with pytest.raises(ArtefactError):
        load_artefact(onnx_bytes, metadata_json, max_bytes=MAX_BYTES)
