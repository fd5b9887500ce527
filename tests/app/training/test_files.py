from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.replay import Partitioner
from app.settings import Settings
from app.sources import SourceError, SourceOptions, open_source
from app.training.files import open_training_source, read_source
from app.training.request import Request
from compute.training.sample import Sample

CSV = "sensor,time,heat,rpm,state,wear\n" + "".join(
    f"s{i % 3},{1_000 + i},{i},{i * 2},{'ok' if i % 4 else 'bad'},{i / 10}\n" for i in range(40)
)


def read(path: Path | str, target: str, task: str = "classification", limit: int | None = None) -> Sample:
    source, found = open_training_source(str(path), SourceOptions(), target, limit)
    wanted = Request(task, found, "t", normaliser="none")
    rows = read_source(source, Settings(partitions=2), wanted, limit)
    return rows.newest.take(normaliser="none", missing="mean", without=target)


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    path = tmp_path / "plant.csv"
    path.write_text(CSV)
    return path


def test_a_column_of_text_is_a_label_by_its_name(plant: Path) -> None:
    sample = read(plant, "state")
    assert (sample.features, sample.classes) == (("heat", "rpm", "wear"), ("bad", "ok"))
    assert sample.targets.tolist() == ["ok" if i % 4 else "bad" for i in range(40)]


def test_a_column_of_numbers_is_predicted_from_the_others(plant: Path) -> None:
    sample = read(plant, "wear", "regression")
    assert sample.features == ("heat", "rpm")
    assert sample.targets.tolist() == [i / 10 for i in range(40)]


def test_rows_are_in_order_of_time_whatever_their_partition(plant: Path) -> None:
    partition_of = Partitioner(range(2))
    assert len({partition_of(b"s%d" % i) for i in range(3)}) == 2
    assert read(plant, "wear", "regression").inputs[:, 0].tolist() == list(range(40))


def test_a_limit_ends_the_reading(plant: Path) -> None:
    assert len(read(plant, "state", limit=10).targets) == 10


def test_a_column_that_does_not_exist_shows_those_that_do(plant: Path) -> None:
    with pytest.raises(SourceError, match="no column 'colour'; there are: sensor, time, heat"):
        read(plant, "colour")


def test_events_of_the_contract_have_labels_and_features(tmp_path: Path) -> None:
    path = tmp_path / "plant.jsonl"
    lines: list[dict[str, Any]] = [
        {"key": "a", "timestamp": i, "features": {"x": i, **({"y": -i} if i else {})}, "label": i % 2 == 1}
        for i in range(6)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert read(path, "label").targets.tolist() == [0, 1, 0, 1, 0, 1]
    # The first event lacks it.
    assert read(path, "y", "regression").targets.tolist() == [-1, -2, -3, -4, -5]


def test_what_is_simulated_needs_an_end() -> None:
    with pytest.raises(SourceError, match="fleet has no end: --limit needed"):
        open_training_source("fleet", SourceOptions(), "label", None)
    source, target = open_training_source("fleet", SourceOptions(), "label", 100)
    assert (source.name, target) == ("fleet", "label")


def test_events_are_those_that_a_replay_sends(plant: Path) -> None:
    source = open_source(str(plant))
    rows = read_source(source, Settings(), Request("regression", "heat", "t", normaliser="none"))
    assert rows.tally.n_events == 40
    assert rows.tally.n_rejected == 0
