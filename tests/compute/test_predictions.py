from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.predictions import encode_predictions


def encode(**changes: Any) -> list[dict[str, Any]]:
    columns: dict[str, Any] = {
        "topic": "events",
        "partition": 2,
        "offsets": np.array([1841, 1842]),
        "keys": [b"pump-1", b"pump-2"],
        "timestamps": np.array([1700000000.25, 5.0]),
        "scores": np.array([0.1, 0.9]),
        "predictions": np.array([0, 1]),
        "warming_up": np.array([True, False]),
        "model": "detector",
        "version": "builtin-1",
    }
    return [json.loads(value) for value in encode_predictions(**(columns | changes))]


def test_a_prediction_has_the_fields_of_the_contract() -> None:
    assert encode()[0] == {
        "id": "events-2-1841",
        "key": "pump-1",
        "timestamp": 1700000000.25,
        "model": "detector",
        "version": "builtin-1",
        "prediction": 0,
        "score": 0.1,
        "warming_up": True,
    }


def test_no_events_are_no_predictions() -> None:
    none = np.empty(0)
    columns = {"timestamps": none, "scores": none, "predictions": [], "warming_up": none}
    assert encode(offsets=np.empty(0, np.int64), keys=[], **columns) == []


def test_probabilities_are_named_by_class() -> None:
    predictions = encode(
        probabilities=np.array([[0.25, 0.75], [1.0, 0.0]]),
        class_names=["ok", "broken"],
        predictions=["broken", "ok"],
    )
    assert predictions[0]["probabilities"] == {"ok": 0.25, "broken": 0.75}
    assert predictions[1]["prediction"] == "ok"
    assert "normalised" not in predictions[0]


def test_normalised_features_that_are_missing_are_left_out() -> None:
    normalised = np.array([[1.5, np.nan], [np.nan, np.nan]])
    predictions = encode(normalised=normalised, feature_names=["flow", "heat"])
    assert [prediction["normalised"] for prediction in predictions] == [{"flow": 1.5}, {}]


def test_what_is_not_a_number_is_null() -> None:
    assert [prediction["score"] for prediction in encode(scores=np.array([np.nan, np.inf]))] == [None, None]


def test_a_model_may_answer_with_numpy_scalars_in_a_list() -> None:
    predictions = encode(predictions=[np.int64(3), np.float32(0.5)])
    assert [prediction["prediction"] for prediction in predictions] == [3, 0.5]


def test_a_key_that_is_not_utf_8_is_shown_with_escapes() -> None:
    assert encode(keys=[b"\xffpump", "Größe".encode()])[0]["key"] == "\\xffpump"


@pytest.mark.parametrize(
    "column", ["keys", "timestamps", "scores", "predictions", "warming_up", "normalised"]
)
def test_columns_of_different_lengths_are_refused(column: str) -> None:
    with pytest.raises(ValueError, match=f"{column}: must be 2, one for each offset, received 1"):
        encode(
            **{
                column: [b"x"]
                if column == "keys"
                else np.ones((1, 1))
                if column == "normalised"
                else np.ones(1)
            }
        )


def test_names_that_do_not_match_their_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="names: must be 3, one for each column, received 1"):
        encode(probabilities=np.ones((2, 3)), class_names=["ok"])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.binary(min_size=1), st.floats(allow_nan=False, allow_infinity=False)), min_size=1),
    st.text(st.characters(codec="utf-8")),
)
def test_any_key_name_and_number_survives_exactly(rows: list[tuple[bytes, float]], name: str) -> None:
    keys, numbers = zip(*rows, strict=True)
    predictions = encode(
        offsets=np.arange(len(rows)),
        keys=keys,
        timestamps=np.array(numbers),
        scores=np.array(numbers),
        predictions=list(numbers),
        warming_up=np.zeros(len(rows), bool),
        model=name,
        version=name,
        topic=name,
    )
    for offset, (prediction, key, number) in enumerate(zip(predictions, keys, numbers, strict=True)):
        assert prediction["id"] == f"{name}-2-{offset}"
        assert prediction["key"] == key.decode("utf-8", "backslashreplace")
        assert prediction["model"] == prediction["version"] == name
        assert prediction["timestamp"] == prediction["score"] == prediction["prediction"] == number
        assert math.copysign(1, prediction["score"]) == math.copysign(1, number)
