from __future__ import annotations

import io
import itertools
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compute.training.candidates import NAMES, choose_candidates
from compute.training.fault import TrainingError
from compute.training.plan import METRICS, Plan
from compute.training.plot import draw
from compute.training.report import describe, headers, tell_rows, winner_metrics
from compute.training.sample import Sample
from compute.training.training import Outcome, count_steps, train
from tests.compute.training.samples import sample_from, sample_of
from tests.compute.training.test_finalists import ties


def trained(
    sample: Sample, plan: Plan, names: tuple[str, ...] = ("linear", "tree"), **options: Any
) -> Outcome:
    fields = {"name": "t", "kind": plan.task, "features": list(sample.features), "normaliser": "none"}
    candidates = choose_candidates(names, plan.task, "none", plan.seed)
    clock = itertools.count().__next__
    return train(sample, candidates, plan, fields, clock, max_bytes=10**7, **options)


@pytest.fixture(scope="module", params=["classification", "regression"])
def whole(request: pytest.FixtureRequest) -> tuple[Plan, Outcome]:
    plan = Plan(request.param, n_folds=3, n_trials=2)
    return plan, trained(sample_of(request.param, 500), plan, ())


def test_all_candidates_are_in_the_table_best_first(whole: tuple[Plan, Outcome]) -> None:
    plan, outcome = whole
    assert sorted(item.name for item in outcome.finalists) == sorted(["baseline", *NAMES])
    ranks = [item.trial.rank(plan) for item in outcome.finalists]
    assert ranks == sorted(ranks, reverse=True)
    assert outcome.winner is outcome.finalists[0]
    assert outcome.beats_baseline
    assert outcome.n_folds == 3


def test_the_report_is_plain_json_with_every_number(whole: tuple[Plan, Outcome]) -> None:
    plan, outcome = whole
    report = describe(outcome, plan)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert len(json.dumps(report)) < 16_000
    for item in report["candidates"]:
        assert set(item["cross_validation"]) == set(item["held_out"]) == set(METRICS[plan.task])
        assert len(item["folds"]) == 3
        assert item["fit_seconds"] == 1.0
    states = [item["state"] for item in report["candidates"]]
    assert states[0] == "winner"
    assert sorted(states[1:]) == ["baseline"] + ["converted"] * 5
    told = winner_metrics(outcome, plan)
    assert told["held_out"] == report["candidates"][0]["held_out"]
    assert "seconds" not in json.dumps(told)


def test_the_printed_table_has_a_cell_for_every_header(whole: tuple[Plan, Outcome]) -> None:
    plan, outcome = whole
    rows = tell_rows(outcome, plan)
    assert {len(row) for row in rows} == {len(headers(plan))}
    assert [row[0].endswith("*") for row in rows] == [True] + [False] * 6
    assert all("±" in row[1] for row in rows)


def test_the_plot_is_a_small_picture_of_the_report(whole: tuple[Plan, Outcome]) -> None:
    plan, outcome = whole
    report = describe(outcome, plan)
    png = draw(report, "trained")
    assert png == draw(report, "trained")
    assert png != draw(report, "other")
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    assert 600 < picture.width < 1_200
    assert len(png) < 40_000
    assert len({pixel for _, pixel in picture.convert("RGB").getcolors(100_000)}) > 10


def test_the_same_data_and_seed_give_the_same_model_and_the_same_metrics() -> None:
    plan = Plan("classification", n_folds=2, n_trials=3, seed=4)
    one, other = (trained(sample_of("classification", 300), plan, ("boosting", "forest")) for _ in range(2))
    assert one.winner is not None
    assert other.winner is not None
    assert one.winner.onnx_bytes == other.winner.onnx_bytes
    assert winner_metrics(one, plan) == winner_metrics(other, plan)


def test_noise_does_not_beat_the_baseline() -> None:
    rng = np.random.default_rng(0)
    sample = sample_from(rng.normal(size=(400, 4)), [str(label) for label in rng.integers(2, size=400)])
    assert not trained(sample, Plan("classification"), ("linear", "tree")).beats_baseline


def test_a_refused_candidate_is_in_the_table_and_another_one_wins() -> None:
    plan = Plan("classification")
    outcome = trained(ties(), plan, ("neighbours", "tree"))
    states = {item["candidate"]: item["state"] for item in describe(outcome, plan)["candidates"]}
    assert states == {"neighbours": "refused", "tree": "winner", "baseline": "baseline"}
    assert any("labels differ" in row[-1] for row in tell_rows(outcome, plan))
    assert draw(describe(outcome, plan), "refused")


def test_every_step_is_told_and_counted() -> None:
    plan = Plan("regression", n_folds=2, n_trials=3)
    steps: list[str] = []
    finalists: list[str] = []
    trained(
        sample_of("regression", 200),
        plan,
        on_step=steps.append,
        on_finalist=lambda item: finalists.append(item.name),
    )
    assert steps == ["baseline"] * 2 + ["linear"] * 4 + ["tree"] * 4
    assert finalists == ["baseline", "linear", "tree"]
    assert count_steps(choose_candidates(["linear", "tree"], "regression", "none", 0), plan) == len(steps)


def test_too_few_events_are_told_with_numbers() -> None:
    with pytest.raises(TrainingError, match=r"need at least 77, received 50$"):
        trained(sample_of("regression", 50), Plan("regression"))
