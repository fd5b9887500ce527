from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from compute.training.candidates import NAMES, Candidate, choose_candidates
from compute.training.conversion import to_onnx
from compute.training.finalists import TOLERANCE, Finalist, beats, choose, finish
from compute.training.plan import Plan, split_by_time
from compute.training.sample import Sample
from compute.training.selection import Trial, judge
from tests.compute.training.samples import sample_from, sample_of

FIELDS = {"name": "test", "features": ["heat", "flow", "load", "speed"], "normaliser": "none"}


def finished(sample: Sample, candidate: Candidate, parameters: Any = None, **options: Any) -> Finalist:
    task = "classification" if sample.classes else "regression"
    fields = {**FIELDS, "kind": task, "features": list(sample.features)}
    split = split_by_time(len(sample.targets), Plan(task))
    clock = itertools.count().__next__
    return finish(
        Trial(candidate, parameters or {}), sample, split, fields, clock, max_bytes=10**7, **options
    )


@pytest.mark.parametrize("kind", ["normal", "far"])
@pytest.mark.parametrize(
    ("task", "classes"),
    [
        ("classification", ("0", "1")),
        ("classification", ("2", "5", "7")),
        ("classification", ("no", "perhaps", "yes")),
        ("regression", ()),
    ],
)
def test_every_candidate_is_served_as_it_was_fitted(task: str, classes: tuple[str, ...], kind: str) -> None:
    sample = sample_of(task, 400, kind=kind, classes=classes)
    split = split_by_time(400, Plan(task))
    for candidate in choose_candidates([], task, "none", seed=1)[1:]:
        done = finished(sample, candidate)
        assert done.refusal == ""
        assert done.difference is not None
        assert done.difference.largest < TOLERANCE / 10
        assert done.difference.n_rows == len(split.held)
        original = candidate.estimator.fit(sample.inputs[split.train], sample.targets[split.train])
        # A rank that float32 cannot tell from the next one changes the ROC AUC of few events a little.
        assert done.held_out == pytest.approx(judge(original, sample, split.held), abs=5e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_target_far_from_zero_is_no_matter(name: str, offset: float) -> None:
    sample = sample_of("regression", 400)
    far = sample_from(sample.inputs, (sample.targets.astype(float) * 25 + offset).tolist())
    done = finished(far, choose_candidates([name], "regression", "none", seed=1)[1])
    assert done.refusal == ""
    assert done.held_out["r2"] > 0.3


def ties() -> Sample:
    """Return rows that are at equal distances from many others with different labels."""
    sample = sample_of("classification", 600)
    labels = np.random.default_rng(3).integers(2, size=600)
    return sample_from(np.round(sample.inputs), [str(label) for label in labels])


def test_a_model_that_answers_differently_once_it_is_onnx_is_refused() -> None:
    # Which of equally near neighbours are asked, each side decides in its own way.
    candidate = choose_candidates(["neighbours"], "classification", "none", seed=0)[1]
    done = finished(ties(), candidate, {"model__n_neighbors": 4})
    assert done.difference is not None
    assert done.difference.largest > 0.2
    assert done.refusal.startswith("differs by up to ")
    assert f"{TOLERANCE:g} allowed, {done.difference.n_labels} of 120 labels differ" in done.refusal
    assert done.onnx_bytes
    assert done.held_out["accuracy"] < 0.7


@pytest.mark.parametrize("share", [0.5, 2.0])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_tolerance_is_a_bound(task: str, share: float) -> None:
    sample = sample_of(task, 400)
    candidate = choose_candidates(["linear"], task, "none", seed=0)[1]
    unit = sample.targets[-80:].astype(float).std() if task == "regression" else 1.0
    done = finished(sample, candidate, convert=_shifted(share * TOLERANCE * unit))
    assert done.difference is not None
    assert done.difference.largest == pytest.approx(share * TOLERANCE, rel=0.01)
    assert bool(done.refusal) == (share > 1)


def _shifted(amount: float) -> Any:
    """Return a converter whose numbers are off by an amount, or whose probabilities are."""
    import onnx
    from onnx import helper, numpy_helper

    def convert(estimator: Any, n_features: int) -> bytes:
        model = onnx.load_from_string(to_onnx(estimator, n_features))
        output = model.graph.output[-1]
        shift = [[amount, -amount]] if hasattr(estimator, "classes_") else [[amount]]
        model.graph.initializer.append(numpy_helper.from_array(np.array(shift), "shift"))
        model.graph.node.append(helper.make_node("Add", [output.name, "shift"], ["shifted"]))
        output.name = "shifted"
        return model.SerializeToString()

    return convert


def test_what_cannot_be_converted_is_refused_with_the_reason() -> None:
    def convert(estimator: Any, n_features: int) -> bytes:
        raise RuntimeError("no converter\nfor Magic")

    candidate = choose_candidates(["linear"], "regression", "none", seed=0)[1]
    done = finished(sample_of("regression", 400), candidate, convert=convert)
    assert (done.refusal, done.onnx_bytes) == ("cannot be converted: no converter for Magic", b"")
    assert done.held_out["mae"] > 0


def test_what_no_worker_would_load_is_refused() -> None:
    candidate = choose_candidates(["forest"], "regression", "none", seed=0)[1]
    sample = sample_of("regression", 400)
    fields = {**FIELDS, "kind": "regression"}
    split = split_by_time(400, Plan("regression"))
    clock = itertools.count().__next__
    done = finish(Trial(candidate, {}), sample, split, fields, clock, max_bytes=1_000)
    assert done.refusal.startswith("cannot be converted: too large: at most 1000 bytes")


def test_the_time_of_an_event_is_that_of_the_clock() -> None:
    candidate = choose_candidates(["linear"], "regression", "none", seed=0)[1]
    assert finished(sample_of("regression", 400), candidate).event_microseconds == pytest.approx(1e6 / 80)


def test_a_class_that_comes_only_at_the_end_is_no_class_of_the_model() -> None:
    sample = sample_of("classification", 400, classes=("0", "1"))
    labels = np.where(np.arange(400) < 380, sample.targets, 2)
    done = finished(
        sample_from(sample.inputs, labels.astype(str).tolist()),
        choose_candidates(["linear"], "classification", "none", seed=0)[1],
    )
    assert (done.refusal, done.classes) == ("", (0, 1))
    assert done.held_out["accuracy"] < 0.8
    assert done.held_out["log_loss"] > 3


def finalist(
    name: str, mean: float, held_out: float, refusal: str = "", onnx_bytes: bytes = b"x"
) -> Finalist:
    trial = Trial(Candidate(name, None), {}, {"mae": np.array([mean])})
    return Finalist(trial, {"mae": held_out}, onnx_bytes, refusal=refusal)


def test_the_next_best_is_taken_where_the_best_is_refused() -> None:
    plan = Plan("regression")
    finalists = [
        finalist("baseline", 9.0, 9.0, onnx_bytes=b""),
        finalist("best", 1.0, 1.0, refusal="differs"),
        finalist("third", 3.0, 0.1),
        finalist("second", 2.0, 5.0),
        Finalist(Trial(Candidate("broken", None), {}, failure="no")),
    ]
    winner = choose(finalists, plan)
    assert winner is not None
    assert winner.name == "second"  # whatever the held-out events say
    assert choose(finalists[:2], plan) is None


@pytest.mark.parametrize(
    ("mean", "held_out", "better"),
    [(1.0, 1.0, True), (3.0, 1.0, False), (1.0, 3.0, False), (2.0, 2.0, False)],
)
def test_the_baseline_is_beaten_over_the_folds_and_at_the_end(
    mean: float, held_out: float, better: bool
) -> None:
    baseline = finalist("baseline", 2.0, 2.0)
    assert beats(finalist("linear", mean, held_out), baseline, Plan("regression")) is better
