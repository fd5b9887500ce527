from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.online import OnlineLearner
from compute.online_block import MAX_BLOCK, block_size
from compute.online_classes import MAX_CLASSES
from compute.online_codec import decode_state
from compute.online_columns import MAX_FEATURES

TASKS = ["classification", "regression"]
NAMES = ["a", "b", "c", "d"]


def stream(task, n=400, seed=1, n_features=4, n_classes=3, unlabelled=0.2, missing=0.1, wild=0.0):
    """Return features and labels of which some are missing; the last feature and the last class come late.

    Some numbers are wild, if that is wanted.
    """
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, n_features))
    told = np.sin(2.0 * z[:, 0]) + z[:, 1] * (1.0 + z[:, -1])
    z[random.random(z.shape) < missing] = math.nan
    z[: n // 3, -1] = math.nan
    if task == "regression":
        told[10:][random.random(n - 10) < wild] *= 1e3
        labels = (1e6 + 10.0 * told).tolist()
    else:
        classes = np.clip(np.floor(told + n_classes / 2), 0, n_classes - 1).astype(int)
        classes[: n // 2] = np.minimum(classes[: n // 2], n_classes - 2)
        labels = [f"class {number}" for number in classes]
    return z, [None if random.random() < unlabelled else label for label in labels]


def answers_in_parts(learner, z, labels, cuts, orders):
    """Return scores and predictions of a stream that is cut, each part with its columns in another order."""
    scores, predictions = [], []
    for i, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(z)], strict=True)):
        order = orders[i % len(orders)]
        answers = learner.score_and_learn(
            [NAMES[j] for j in order], z[start:end][:, order], labels[start:end]
        )
        scores.append(answers.scores)
        predictions += list(answers.predictions)
    return np.concatenate(scores), predictions


def assert_same_state(one, other, atol=1e-4):
    versions = {task: OnlineLearner(task).version for task in TASKS}
    left, right = (decode_state(learner.encode(), versions) for learner in (one, other))
    for field in left.__dataclass_fields__:
        mine, its = getattr(left, field), getattr(right, field)
        if field == "packed":  # of these some follow from answers, the offsets after the last label
            np.testing.assert_allclose(mine, its, rtol=1e-9, atol=atol)
        else:
            np.testing.assert_array_equal(mine, its, err_msg=field)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(TASKS),
    st.integers(0, 5),
    st.lists(st.integers(0, 400), max_size=12).map(sorted),
    st.lists(st.permutations(range(4)), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.03]),
)
def test_any_split_and_order_of_columns_gives_the_same(task, seed, cuts, orders, wild):
    z, labels = stream(task, seed=seed, wild=wild)
    whole, parts = OnlineLearner(task), OnlineLearner(task)
    answers = whole.score_and_learn(NAMES, z, labels)
    scores, predictions = answers_in_parts(parts, z, labels, cuts, orders)
    # What is wild makes weights larger, and with them the rounding of float32.
    atol = 1e-5 if task == "classification" else 1e-2 if wild else 1e-3
    np.testing.assert_allclose(scores, answers.scores, rtol=1e-9, atol=atol)
    if task == "classification":
        odds = np.sort(answers.probabilities, axis=1)
        sure = odds[:, -1] - odds[:, -2] > 1e-4
        assert [p for p, s in zip(predictions, sure, strict=True) if s] == [
            p for p, s in zip(answers.predictions, sure, strict=True) if s
        ]
    assert_same_state(whole, parts, atol=1e-2 if wild else 1e-4)


@pytest.mark.parametrize(
    ("task", "wild"), [("classification", 0.0), ("regression", 0.0), ("regression", 0.02)]
)
def test_one_by_one_is_all_at_once(task, wild):
    z, labels = stream(task, n=700, wild=wild)
    whole, single = OnlineLearner(task), OnlineLearner(task)
    answers = whole.score_and_learn(NAMES, z, labels)
    scores, _ = answers_in_parts(single, z, labels, list(range(1, 700)), [range(4)])
    np.testing.assert_allclose(scores, answers.scores, rtol=1e-9, atol=1e-2 if wild else 1e-3)
    assert_same_state(whole, single, atol=1e-2 if wild else 1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_an_answer_does_not_depend_on_what_comes_later(task):
    z, labels = stream(task, n=60)
    answers = OnlineLearner(task).score_and_learn(NAMES, z, labels)
    for n in range(1, 60):
        learner = OnlineLearner(task)
        learner.learn(NAMES, z[:n], labels[:n])
        np.testing.assert_allclose(
            learner.score(NAMES, z[n : n + 1]).scores, answers.scores[n : n + 1], rtol=1e-9, atol=1e-3
        )


@pytest.mark.parametrize("task", TASKS)
def test_scoring_changes_nothing(task):
    z, labels = stream(task)
    learner = OnlineLearner(task)
    learner.learn(NAMES, z[:333], labels[:333])
    before = learner.encode()
    learner.score([*NAMES, "new"], np.ones((10, 5)))
    assert learner.encode() == before


@pytest.mark.parametrize("task", TASKS)
def test_the_callers_arrays_stay_as_they_are(task):
    z, labels = stream(task)
    kept = z.copy()
    OnlineLearner(task).score_and_learn(NAMES, z, labels)
    np.testing.assert_array_equal(z, kept)


def test_before_the_first_label_there_is_an_answer():
    answers = OnlineLearner("classification").score(NAMES, np.zeros((2, 4)))
    assert (answers.scores.tolist(), answers.predictions, answers.classes) == ([0.5, 0.5], [None, None], ())
    assert answers.probabilities.shape == (2, 0)
    answers = OnlineLearner("regression").score(NAMES, np.zeros((2, 4)))
    assert (answers.scores.tolist(), answers.predictions) == ([0.0, 0.0], [0.0, 0.0])
    assert answers.probabilities is None


@pytest.mark.parametrize("task", TASKS)
def test_no_events_and_no_features_are_answered(task):
    learner, label = OnlineLearner(task), "1" if task == "classification" else 5.0
    assert not len(learner.score_and_learn([], np.zeros((0, 0)), []).scores)
    assert len(learner.score_and_learn([], np.zeros((3, 0)), [label] * 3).scores) == 3
    assert learner.score([], np.zeros((1, 0))).predictions == [label]
    assert not len(learner.score(NAMES, np.zeros((0, 4))).scores)


def test_the_second_event_is_predicted_from_the_first():
    classes = OnlineLearner("classification").score_and_learn(NAMES, np.zeros((2, 4)), ["spam", "spam"])
    assert (classes.predictions, classes.scores.tolist()) == ([None, "spam"], [0.5, 0.5])
    assert classes.probabilities.tolist() == [[0.0], [1.0]]
    numbers = OnlineLearner("regression").score_and_learn(NAMES, np.zeros((2, 4)), [7.0, 7.0])
    assert numbers.predictions == [0.0, 7.0]


def test_scores_are_of_the_last_class_in_sorted_order():
    z, labels = stream("classification", unlabelled=0.0)
    answers = OnlineLearner("classification").score_and_learn(NAMES, z, labels)
    last = [answers.classes.index(name) for name in ("class 1", "class 2")]
    is_learnt = answers.probabilities[:, last[1]] > 0
    assert 190 < np.argmax(is_learnt) < 300
    np.testing.assert_array_equal(answers.scores[is_learnt], answers.probabilities[is_learnt, last[1]])
    np.testing.assert_array_equal(answers.scores[50:190], answers.probabilities[50:190, last[0]])


@pytest.mark.parametrize("positive", ["class 0", "class 1", "class 2"])
def test_scores_are_of_the_class_that_is_named_once_it_is_learnt(positive):
    z, labels = stream("classification", unlabelled=0.0)
    usual = OnlineLearner("classification").score_and_learn(NAMES, z, labels)
    learner = OnlineLearner("classification", positive)
    answers = learner.score_and_learn(NAMES, z, labels)
    np.testing.assert_array_equal(answers.probabilities, usual.probabilities)
    named = answers.classes.index(positive)
    n_learnt = np.count_nonzero(answers.probabilities, axis=1)
    is_learnt = (answers.probabilities[:, named] > 0) & (n_learnt > 1)
    assert answers.positive == learner.score(NAMES, z[:1]).positive == named
    assert 100 < np.count_nonzero(is_learnt) < 400
    np.testing.assert_array_equal(answers.scores[is_learnt], answers.probabilities[is_learnt, named])
    np.testing.assert_array_equal(answers.scores[~is_learnt], usual.scores[~is_learnt])


def test_the_class_that_is_named_is_no_part_of_what_is_learnt():
    z, labels = stream("classification")
    named, usual = OnlineLearner("classification", "class 0"), OnlineLearner("classification")
    for learner in (named, usual):
        learner.learn(NAMES, z, labels)
    assert (named.version, named.encode()) == (usual.version, usual.encode())
    back = OnlineLearner.decode(usual.encode(), "class 0")
    np.testing.assert_array_equal(back.score(NAMES, z).scores, named.score(NAMES, z).scores)
    never = OnlineLearner.decode(usual.encode(), "no such class").score(NAMES, z)
    np.testing.assert_array_equal(never.scores, usual.score(NAMES, z).scores)
    assert never.positive == usual.score(NAMES, z).positive == never.classes.index("class 2")


def test_probabilities_sum_to_one_and_name_the_prediction():
    z, labels = stream("classification", unlabelled=0.0)
    answers = OnlineLearner("classification").score_and_learn(NAMES, z, labels)
    np.testing.assert_allclose(answers.probabilities[1:].sum(axis=1), 1.0)
    best = [answers.classes[i] for i in answers.probabilities[1:].argmax(axis=1)]
    assert best == answers.predictions[1:]


def test_a_class_is_there_from_its_block_on():
    learner = OnlineLearner("classification")
    answers = learner.score_and_learn(["x"], np.zeros((3, 1)), ["0", "1", "0"])
    assert answers.classes == ("0", "1")
    assert answers.probabilities[1].tolist() == [1.0, 0.0]
    assert answers.probabilities[2, 1] > 0.0


def test_a_label_that_comes_later_teaches_the_same():
    z, labels = stream("classification", unlabelled=0.0)
    early, late = OnlineLearner("classification"), OnlineLearner("classification")
    early.score_and_learn(NAMES, z, labels)
    late.score_and_learn(NAMES, z, [None] * len(z))
    late.learn(NAMES, z.astype(np.float32), labels)  # the form in which they wait for labels
    assert early.encode() == late.encode()


def test_classes_are_bounded():
    n = MAX_CLASSES + 10
    learner = OnlineLearner("classification")
    labels = [f"{i}" for i in range(n)] * 3 + [5, "x" * 2000, "\ud800", math.nan, ["a"]]
    z = np.tile(np.arange(n)[:, None], (3, 1)) * np.ones((1, 2))
    answers = learner.score_and_learn(["a", "b"], np.vstack([z, z[:5]]), labels)
    assert answers.classes == tuple(f"{i}" for i in range(MAX_CLASSES))
    assert learner.n_ignored == 3 * 10 + 5
    assert np.isfinite(answers.scores).all()


def test_features_are_bounded_and_the_first_stay():
    n = MAX_FEATURES + 20
    names = [f"f{i:03}" for i in range(n)]
    learner, other = OnlineLearner("regression"), OnlineLearner("regression")
    z = np.random.default_rng(1).normal(size=(300, n))
    numbers = z[:, 5].tolist()
    learner.learn([*names, "\ud800", "x" * 2000], np.hstack([z, z[:, :2]]), numbers)
    other.learn(names[:MAX_FEATURES], z[:, :MAX_FEATURES], numbers)
    assert learner.encode() == other.encode()


def test_a_feature_that_was_never_there_is_not_missed():
    z, labels = stream("regression")
    with_it, without = OnlineLearner("regression"), OnlineLearner("regression")
    with_it.learn([*NAMES, "e"], np.hstack([z, np.full((len(z), 1), math.nan)]), labels)
    without.learn(NAMES, z, labels)
    assert with_it.encode() == without.encode()


def test_a_feature_that_comes_late_is_learnt_from():
    random = np.random.default_rng(3)
    z = random.normal(size=(3000, 2))
    labels = [str(int(x > 0)) for x in z[:, 1]]
    learner = OnlineLearner("classification")
    learner.learn(["a"], z[:1000, :1], labels[:1000])
    answers = learner.score_and_learn(["b", "a"], z[1000:, ::-1], labels[1000:])
    right = np.array([p == label for p, label in zip(answers.predictions, labels[1000:], strict=True)])
    assert right[:100].mean() < 0.7
    assert right[-1000:].mean() > 0.95


@pytest.mark.parametrize("task", TASKS)
def test_outliers_and_infinity_give_finite_answers(task):
    random = np.random.default_rng(4)
    z = random.standard_t(1.0, size=(2000, 4)) * 10.0 ** random.integers(-200, 200, (2000, 1))
    z[::50], z[7::50] = np.inf, -np.inf
    labels = [str(i % 3) for i in range(2000)]
    if task == "regression":
        labels = (random.normal(size=2000) * 10.0 ** random.integers(-90, 59, 2000)).tolist()
    learner = OnlineLearner(task)
    for start in range(0, 2000, 500):
        part = slice(start, start + 500)
        assert np.isfinite(learner.score_and_learn(NAMES, z[part], labels[part]).scores).all()
    assert learner.n_resets == 0


def test_numbers_that_are_none_are_ignored():
    learner = OnlineLearner("regression")
    labels = [math.nan, math.inf, 1e61, None, "x", "1.5", 10**400, True, [1.0], 3.0]
    learner.learn(["a"], np.zeros((10, 1)), labels)
    assert (learner.n_ignored, learner.n_learnt) == (8, 1)
    assert learner.score(["a"], np.zeros((1, 1))).predictions == [3.0]
    learner.learn(["a"], np.zeros((2, 1)), [3, np.float32(3.0)])
    assert (learner.n_ignored, learner.n_learnt) == (8, 3)


def test_large_labels_keep_their_small_differences():
    random = np.random.default_rng(5)
    z = random.normal(size=(3000, 3))
    labels = 1.7e9 + z @ [1.0, -2.0, 0.5]
    answers = OnlineLearner("regression").score_and_learn(["a", "b", "c"], z, labels.tolist())
    assert np.abs(answers.scores - labels)[-1000:].mean() < 0.3


@pytest.mark.parametrize("task", TASKS)
def test_numbers_gone_bad_start_learning_anew(task):
    z, labels = stream(task, n=2000, unlabelled=0.0)
    learner = OnlineLearner(task)
    learner.learn(NAMES, z[:1000], labels[:1000])
    learner._memory.gram[:] = math.nan
    answers = learner.score_and_learn(NAMES, z[1000:], labels[1000:])
    assert learner.n_resets == 1
    assert np.isfinite(answers.scores).all()
    assert 500 < learner.n_learnt < 1000
    assert OnlineLearner.decode(learner.encode()).n_resets == 1


def test_blocks_grow_with_what_is_known():
    n, ends = 0, []
    while n < 5000:
        n += block_size(n, is_changing=False)
        ends.append(n)
    assert ends[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    assert np.diff(ends).max() == MAX_BLOCK
    assert all(end <= max(1.25 * start, start + 1) for start, end in pairwise(ends))


@pytest.mark.parametrize("task", TASKS)
def test_the_version_is_of_the_algorithm(task):
    learner = OnlineLearner(task)
    before = learner.version
    learner.learn(["a"], np.ones((5, 1)), ["1"] * 5 if task == "classification" else [1.0] * 5)
    assert learner.version == before == OnlineLearner(task).version
    assert len(before) == 16
    assert int(before, 16)
    assert OnlineLearner("regression").version != OnlineLearner("classification").version


@pytest.mark.parametrize(
    ("names", "z", "labels", "message"),
    [
        (["a"], np.zeros((2, 2)), [None, None], r"z: must have shape \(n, 1\)"),
        (["a", "b"], np.zeros((2, 2)), [None], "labels: must have 2 items"),
        (["a", "a"], np.zeros((2, 2)), [None, None], "names: must differ"),
        (["a"], np.zeros(2), [None, None], "z: must have shape"),
    ],
)
def test_what_does_not_fit_is_refused(names, z, labels, message):
    with pytest.raises(ValueError, match=message):
        OnlineLearner("classification").score_and_learn(names, z, labels)


def test_an_unknown_task_is_refused():
    with pytest.raises(
        ValueError, match="task: must be one of classification, regression, received 'anomaly'"
    ):
        OnlineLearner("anomaly")
