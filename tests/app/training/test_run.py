from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.settings import Settings
from app.sources import SourceOptions
from app.training.request import Request
from app.training.run import Trained, Trainer
from compute.artefact import load_artefact
from compute.training.fault import TrainingError
from compute.training.plan import Plan

ROOT = Path(__file__).parents[3]
SETTINGS = Settings(warmup_events=5)


def train(source: str = "payments", limit: int = 1_500, seed: int = 0, **changed: Any) -> Trained:
    wanted = Request(
        **{
            "task": "classification",
            "target": "label",
            "name": "cards",
            "max_events": 600,
            "candidates": ("linear", "tree"),
            **changed,
        }
    )
    plan = Plan(wanted.task, n_folds=3, n_trials=2, seed=seed)
    trainer = Trainer(SETTINGS, wanted, plan, itertools.count().__next__)
    trainer.read_source(source, SourceOptions(), limit)
    trainer.describe_sample()
    return trainer.train(lambda name: None, lambda line: None, 1)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train()


def test_the_artefact_can_be_loaded_and_says_what_it_was_trained_on(trained: Trained) -> None:
    model = load_artefact(trained.onnx_bytes, trained.metadata_json, max_bytes=10**7)
    assert (model.name, model.version, model.kind) == ("cards", trained.version, "classification")
    assert (model.normaliser, model.missing, model.classes) == ("window", "mean", (0, 1))
    told = model.metadata.trained_on
    assert (told["source"], told["n_events_read"], told["n_events"], told["seed"]) == (
        "payments",
        1_500,
        600,
        0,
    )
    assert told["n_labels"] > 600
    assert told["first_event"] < told["last_event"]
    assert told["window"] == {"seconds": 3_600.0, "panes": 12, "warmup_events": 5}
    assert model.metadata.metrics["held_out"]["accuracy"] > 0.8
    assert model.metadata.metrics["candidate"] in ("linear", "tree")
    assert {"numpy", "scikit-learn", "python"} <= set(model.metadata.library_versions)


def test_the_same_data_and_seed_are_the_same_version(trained: Trained) -> None:
    assert train().metadata_json == trained.metadata_json
    assert train(seed=1).version != trained.version


def test_table_plot_and_artefact_are_written(trained: Trained, tmp_path: Path) -> None:
    files = trained.write(tmp_path / "new")
    assert sorted(file.name for file in files) == [
        "cards-candidates.csv",
        "cards-candidates.json",
        "cards-candidates.png",
        "cards.json",
        "cards.onnx",
    ]
    with (tmp_path / "new/cards-candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["candidate"] for row in rows} == {"baseline", "linear", "tree"}
    assert all(float(row["log_loss_mean"]) > 0 for row in rows)
    assert json.loads((tmp_path / "new/cards-candidates.json").read_text()) == trained.report
    assert (tmp_path / "new/cards.onnx").read_bytes() == trained.onnx_bytes


def test_the_score_is_the_probability_of_the_class_that_was_named(trained: Trained) -> None:
    other = train(positive="0")
    models = [load_artefact(one.onnx_bytes, one.metadata_json, max_bytes=10**7) for one in (trained, other)]
    inputs = np.random.default_rng(0).normal(size=(20, len(models[0].features)))
    (usual, _), (turned, _) = (model.predict(inputs) for model in models)
    assert models[1].metadata.output.positive == 0
    assert turned.scores == pytest.approx(1 - usual.scores, abs=1e-6)
    assert other.evidence["held_out"]["f1"] > trained.evidence["held_out"]["f1"]  # of what is usual
    with pytest.raises(TrainingError, match="positive class: no labelled event is 'fraud'; there are 0, 1"):
        train(positive="fraud")


def test_what_is_kept_with_an_artefact_is_small(trained: Trained) -> None:
    assert len(trained.plot) < 40_000
    assert len(json.dumps(trained.report)) < 16_000
    assert len(json.dumps(trained.evidence)) < 2_000
    assert len(trained.metadata_json) < 4_000


def test_too_little_is_told_with_what_was_left_out() -> None:
    with pytest.raises(
        TrainingError, match=r"need at least 52, received 2 \(100 events read, 98 warming up\)"
    ):
        train(limit=100)
    with pytest.raises(TrainingError, match=r"no labelled event .* \(200 events read, 200 without a label\)"):
        train(limit=200, target="colour")


def test_what_is_below_the_table_tells_parameters_and_unusable_folds(
    trained: Trained, tmp_path: Path
) -> None:
    assert trained.notes.splitlines()[0].startswith(trained.evidence["candidate"])
    assert "max_depth" in trained.notes
    assert "folds left out" not in trained.notes
    path = tmp_path / "late.csv"
    lines = [f"{i},{i % 7},{int(i > 60 and i % 2)}" for i in range(200)]
    path.write_text("\n".join(["time,x,label", *lines]))
    late = train(str(path), 200, normaliser="none")
    assert late.notes.endswith("1 of 3 folds left out: there is one class to learn from")


def test_offsets_are_those_of_topics() -> None:
    with pytest.raises(TrainingError, match="--from, --to: offsets are those of topics"):
        train(from_offsets={None: 5})


def test_a_worker_loads_none_of_the_libraries_that_train() -> None:
    code = "import app.factory, sys; print(sorted({'sklearn', 'matplotlib', 'skl2onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
