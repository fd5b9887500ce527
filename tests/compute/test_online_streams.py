"""What the online learner learns: on streams that River ships, against River, and on worlds that change."""

from __future__ import annotations

import numpy as np
import pytest

from compute.online import OnlineLearner
from compute.statistics import EntityColumns, normalise, score_and_learn


def streaming_z(matrix):
    columns = EntityColumns(12, 1e9, [str(i) for i in range(matrix.shape[1])], 1)
    nothing = np.zeros(len(matrix), np.int64)
    _, scored = score_and_learn(columns, nothing, np.arange(len(matrix)), nothing, matrix)
    return normalise(matrix, scored.mean, scored.stddev)


def read(name):
    datasets = pytest.importorskip("river.datasets")
    rows = list(getattr(datasets, name)())
    names = list(rows[0][0])
    matrix = np.array([[x[feature] for feature in names] for x, _ in rows], float)
    return rows, names, streaming_z(matrix), [y for _, y in rows]


def share_right(names, z, labels):
    answers = OnlineLearner("classification").score_and_learn(names, z, labels)
    return np.array([p == label for p, label in zip(answers.predictions, labels, strict=True)])


def river_right(rows, model):
    right = []
    for x, y in rows:
        right.append(model.predict_one(x) == y)
        model.learn_one(x, y)
    return np.array(right)


# River's best linear or tree model on each stream, as `python -m benchmarks.online` tells it.
@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("Phishing", lambda r: r.preprocessing.StandardScaler() | r.linear_model.LogisticRegression()),
        ("Bananas", lambda r: r.tree.SGTClassifier()),
        ("ImageSegments", lambda r: r.preprocessing.StandardScaler() | r.linear_model.SoftmaxRegression()),
        ("Shuttle", lambda r: r.preprocessing.StandardScaler() | r.linear_model.LogisticRegression()),
    ],
)
def test_classes_are_told_at_least_as_well_as_by_rivers_best(name, best):
    rows, names, z, labels = read(name)
    import river.linear_model
    import river.preprocessing
    import river.tree

    if name == "Shuttle":
        rows = [(x, bool(y)) for x, y in rows]
    its = river_right(rows, best(river)).mean()
    assert share_right(names, z, [str(y) for y in labels]).mean() >= its


def test_numbers_are_told_at_least_as_well_as_by_rivers_best():
    rows, names, z, labels = read("TrumpApproval")
    from river.linear_model import LinearRegression
    from river.preprocessing import StandardScaler

    model, its = StandardScaler() | LinearRegression(intercept_lr=0.1), []
    for x, y in rows:
        its.append(abs(model.predict_one(x) - y))
        model.learn_one(x, y)
    answers = OnlineLearner("regression").score_and_learn(names, z, labels)
    assert np.abs(answers.scores - labels).mean() < 0.5 * np.mean(its)


def test_a_border_that_is_curved_is_found():
    z = np.random.default_rng(1).normal(size=(3000, 2))
    right = share_right(["a", "b"], z, [str(int(x)) for x in np.hypot(*z.T) > 1.2])
    assert right[1000:].mean() > 0.95


def test_noise_is_not_mistaken_for_more():
    random = np.random.default_rng(2)
    z = random.normal(size=(6000, 5))
    answers = OnlineLearner("classification").score_and_learn(
        list("abcde"), z, [str(int(x)) for x in random.random(6000) < 0.3]
    )
    assert np.abs(answers.scores[3000:] - 0.3).mean() < 0.08


@pytest.mark.parametrize("n_before", [1_000, 30_000])
def test_a_world_that_turns_round_is_followed(n_before):
    z = np.random.default_rng(3).normal(size=(n_before + 3_000, 4))
    labels = z[:, 0] + 0.5 * z[:, 1] > 0
    labels[n_before:] ^= True
    right = share_right(list("abcd"), z, [str(int(x)) for x in labels])
    assert right[n_before - 500 : n_before].mean() > 0.95
    assert right[n_before : n_before + 100].mean() < 0.6
    assert right[n_before + 1_500 :].mean() > 0.93


def test_a_world_that_always_changes_is_learnt_from_in_small_blocks():
    random = np.random.default_rng(4)
    z = random.normal(size=(20_000, 2))
    turn = np.arange(20_000) / 800
    labels = [str(int(x)) for x in z[:, 0] * np.cos(turn) + z[:, 1] * np.sin(turn) > 0]
    learner = OnlineLearner("classification")
    answers = learner.score_and_learn(["a", "b"], z, labels)
    right = np.array([p == label for p, label in zip(answers.predictions, labels, strict=True)])
    assert learner._block_size == 128
    assert right[5_000:].mean() > 0.8


def test_numbers_that_wander_are_followed():
    random = np.random.default_rng(5)
    z = random.normal(size=(4000, 3))
    labels = 20.0 + random.normal(size=4000).cumsum()
    answers = OnlineLearner("regression").score_and_learn(list("abc"), z, labels.tolist())
    persistence = np.abs(np.diff(labels)).mean()
    assert np.abs(answers.scores - labels)[500:].mean() < 1.35 * persistence


def test_numbers_that_features_tell_are_not_spoilt_by_offsets():
    random = np.random.default_rng(6)
    z = random.normal(size=(4000, 3))
    labels = 5.0 * z[:, 0] - 2.0 * z[:, 2] + random.normal(size=4000)
    answers = OnlineLearner("regression").score_and_learn(list("abc"), z, labels.tolist())
    noise = np.sqrt(2 / np.pi)
    assert np.abs(answers.scores - labels)[2000:].mean() < 1.1 * noise


def test_one_wild_number_is_no_lesson():
    random = np.random.default_rng(7)
    z = random.normal(size=(3000, 2))
    labels = 2.0 * z[:, 0] + z[:, 1] + 0.5 * random.normal(size=3000)
    told = {}
    for wild in (labels[1000], 1e3, 1e9, -1e60):
        numbers = labels.copy()
        numbers[1000] = wild
        scores = OnlineLearner("regression").score_and_learn(["a", "b"], z, numbers.tolist()).scores
        told[wild] = np.abs(scores - 2.0 * z[:, 0] - z[:, 1])
    calm = told.pop(labels[1000])
    for errors in told.values():
        np.testing.assert_array_equal(errors[:1001], calm[:1001])
        assert errors[1001:1500].mean() < 1.2 * calm[1001:1500].mean()
        assert errors[1500:].mean() < 1.1 * calm[1500:].mean()


@pytest.mark.parametrize("n_stddevs", [30.0, 1e3])
def test_another_level_is_learnt_within_some_hundred_labels(n_stddevs):
    random = np.random.default_rng(8)
    z = random.normal(size=(4000, 2))
    labels = 2.0 * z[:, 0] + z[:, 1] + 0.5 * random.normal(size=4000)
    labels[2000:] += 0.5 * n_stddevs
    scores = OnlineLearner("regression").score_and_learn(["a", "b"], z, labels.tolist()).scores
    errors = np.abs(scores - labels) / 0.5
    assert errors[2000:2100].mean() > 0.9 * n_stddevs
    assert errors[2600:].mean() < 0.02 * n_stddevs + 1.5


def test_numbers_that_are_rarely_other_than_0_are_learnt():
    random = np.random.default_rng(9)
    z = random.normal(size=(10_000, 2))
    labels = np.where(z[:, 0] > 2.0, 1_000.0, 0.0)
    scores = OnlineLearner("regression").score_and_learn(["a", "b"], z, labels.tolist()).scores
    assert np.mean((scores - labels)[5000:] ** 2) < 0.6 * labels[5000:].var()
