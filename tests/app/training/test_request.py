from __future__ import annotations

import math
from typing import Any

import pytest

from app.settings import Settings
from app.topics import StartError
from app.training.request import read_request

GIVEN: dict[str, Any] = {
    "task": "regression",
    "target": "label",
    "name": None,
    "positive": None,
    "features": None,
    "normaliser": "window",
    "missing": "mean",
    "max_events": None,
    "candidates": None,
    "from_": None,
    "to": None,
}


def test_settings_stand_behind_the_options() -> None:
    settings = Settings(train_task="classification", train_name="pump", train_events=500)
    found = read_request(settings, {**GIVEN, "task": None})
    assert (found.task, found.name, found.max_events) == ("classification", "pump", 500)
    found = read_request(settings, {**GIVEN, "name": "own", "max_events": 7})
    assert (found.task, found.name, found.max_events) == ("regression", "own", 7)


def test_the_positive_class_is_that_of_the_setting_unless_an_option_names_another() -> None:
    settings, options = Settings(positive_class="faulty"), {**GIVEN, "task": "classification"}
    assert read_request(settings, options).positive == "faulty"
    assert read_request(settings, {**options, "positive": "stolen"}).positive == "stolen"
    assert read_request(Settings(), options).positive == ""


def test_bounds_are_times_or_offsets() -> None:
    found = read_request(Settings(), {**GIVEN, "from_": "2026-01-01", "to": "1767225601.5"})
    assert (found.from_seconds, found.to_seconds) == (1_767_225_600.0, 1_767_225_601.5)
    found = read_request(Settings(), {**GIVEN, "from_": "offset:0=5,2=9", "to": "offset:100"})
    assert (found.from_seconds, found.to_seconds) == (-math.inf, math.inf)
    assert (found.from_offsets, found.to_offsets) == ({0: 5, 2: 9}, {None: 100})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"task": None}, "--task: classification or regression needed"),
        ({"name": "a b"}, "--name: 1 to 200 letters, .* received 'a b'"),
        ({"features": "x,y,x"}, "--features: names must differ, received x, y, x"),
        ({"features": "x,heat", "target": "heat"}, "--features: must not name the target 'heat'"),
        ({"positive": "faulty"}, "--positive: a regression has no classes, received 'faulty'"),
        ({"from_": "soon"}, "--from: epoch seconds, ISO 8601, offset:N .* received 'soon'"),
        ({"to": "offset:0=x"}, "--to: offset:N or offset:PARTITION=N,... needed, received 'offset:0=x'"),
        ({"to": "offset:-1"}, "--to: offset:N"),
        ({"from_": "200", "to": "100"}, r"--to: must be after --from \(200\), received 100"),
    ],
)
def test_a_wrong_option_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(StartError, match=message):
        read_request(Settings(), {**GIVEN, **changed})
