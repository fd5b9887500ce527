from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from compute.online import OnlineLearner
from compute.online_block import block_size
from compute.online_bounds import MAX_REACH, REACH_LABELS, bound_targets
from compute.online_features import N_FREQUENCIES, bend, frequencies, lift
from compute.online_memory import MEMORIES, RIDGE, Memory
from compute.online_numbers import N_SOURCES, PACES, Numbers, Offsets


def lifted_rows(n, n_features=3, seed=1):
    random = np.random.default_rng(seed)
    rows = np.hstack([np.ones((n, 1)), bend(random.normal(size=(n, n_features)))]).astype(np.float32)
    names = [f"f{i}" for i in range(n_features)]
    return lift(rows, frequencies(names, [n_features] * n_features))


def faded(n_rows, blocks, n_labels):
    """Return how much each row still counts."""
    weight = np.ones(n_rows)
    end = 0
    for size in blocks:
        weight[:end] *= np.exp(-size / n_labels)
        end += size
    return weight


@pytest.mark.parametrize("blocks", [[1], [1, 1, 1], [40], [256, 256, 256, 31]])
def test_weights_are_those_of_scikit_learns_ridge_on_faded_labels(blocks):
    n = sum(blocks)
    lifted = lifted_rows(n + 20)
    random = np.random.default_rng(2)
    targets = np.stack(
        [lifted[:n, 1] - 3.0 * lifted[:n, -1] + random.normal(size=n), random.normal(size=n)], 1
    )
    memory = Memory(lifted.shape[1], 2)
    end = 0
    for size in blocks:
        assert memory.learn(lifted[end : end + size], targets[end : end + size])
        end += size
    said = memory.predict(lifted[n:])
    for i, n_labels in enumerate(MEMORIES):
        weight = faded(n, blocks, n_labels)
        mean = np.average(targets, axis=0, weights=weight)
        ridge = Ridge(alpha=RIDGE, fit_intercept=False)
        ridge.fit(lifted[:n].astype(float), targets - mean, sample_weight=weight)
        np.testing.assert_allclose(said[:, i], ridge.predict(lifted[n:].astype(float)) + mean, atol=2e-4)


def test_what_was_0_until_now_changes_nothing():
    lifted, targets = lifted_rows(50), np.random.default_rng(3).normal(size=(50, 1))
    small, large = Memory(lifted.shape[1], 1), Memory(lifted.shape[1], 1)
    small.learn(lifted, targets)
    large.learn(lifted, targets)
    large.grow(lifted.shape[1] + 2, 3)
    large.solve()
    wide = np.pad(lifted, ((0, 0), (0, 2)))
    np.testing.assert_allclose(large.predict(wide)[:, :, :1], small.predict(lifted), atol=1e-6)
    np.testing.assert_allclose(large.predict(wide)[:, :, 1:], 0.0, atol=1e-12)


def test_nothing_learnt_has_no_weights():
    assert not Memory(N_FREQUENCIES + 2, 1).solve()


def test_rounding_does_not_add_up():
    targets = np.random.default_rng(4).normal(size=(256, 1))
    memory, lifted = Memory(N_FREQUENCIES + 4, 1), lifted_rows(256)
    for _ in range(1_000):  # a quarter of a million labels
        assert memory.learn(lifted, targets)
    wide = lifted.astype(float)
    for i, n_labels in enumerate(MEMORIES):
        n_blocks = 1.0 / (1.0 - np.exp(-256 / n_labels))  # in the limit
        left = wide.T @ wide * n_blocks + RIDGE * np.eye(wide.shape[1])
        weights = np.linalg.solve(left, wide.T @ (targets - targets.mean()) * n_blocks)
        np.testing.assert_allclose(memory.predict(lifted)[:, i], wide @ weights + targets.mean(), atol=5e-3)


@pytest.mark.parametrize("n_features", [1, 2, 10])
def test_lifted_features_are_nearly_a_gaussian_kernel(n_features):
    random = np.random.default_rng(5)
    one, other = random.normal(size=(2, 6, n_features))
    rows = [np.hstack([np.ones((6, 1)), each]).astype(np.float32) for each in (one, other)]
    products = []
    for i in range(40):  # names enough for a mean
        of_names = frequencies([f"{i}-{j}" for j in range(n_features)], [n_features] * n_features)
        left, right = (lift(each, of_names)[:, :N_FREQUENCIES] for each in rows)
        products.append(2.0 * (left * right).mean(axis=1))
    kernel = np.exp(-0.5 * np.square(one - other).sum(axis=1) / n_features)
    np.testing.assert_allclose(np.mean(products, axis=0), kernel, atol=0.06)


def test_frequencies_are_of_names_and_stay_what_they_are():
    one = frequencies(["temperature", "pressure"], [2, 4])
    other = frequencies(["pressure"], [1])
    np.testing.assert_allclose(one[2] * 2.0, other[1], rtol=1e-6)
    np.testing.assert_array_equal(one[0], other[0])
    assert not np.allclose(one[1], one[2])
    # Made from a hash and not drawn by numpy, whose next version may draw others: stored sums hang on them.
    np.testing.assert_allclose(other[1, :3], [0.6193112, -0.6174470, 0.3874929], atol=1e-6)


def test_bent_features_keep_their_order_and_are_bounded():
    z = np.sort(np.random.default_rng(6).standard_t(1.0, size=(100, 1)) * 10, axis=0)
    bent = bend(z)[:, 0]
    assert (np.diff(bent) >= 0).all()
    assert np.abs(bent).max() <= 2.0
    np.testing.assert_allclose(bend(np.array([[0.01, -0.02]])), [[0.01, -0.02]], rtol=1e-3)


def offsets_one_by_one(said, targets, offsets, best=0, bound=np.inf, reach=1.0):
    """Return guesses, labels as they count, offsets and reach as they are defined, label by label."""
    guesses, counted, offsets = [], targets.copy(), offsets.copy()
    for t, row in enumerate(said[:, :, 0]):
        row = np.append(row, 0.0)
        guesses.append(np.concatenate([row, *(row + offsets[:, i] for i in range(len(PACES)))]))
        if np.isnan(targets[t]):
            continue
        error, limit = targets[t] - guesses[t][best], bound * reach
        counted[t] = guesses[t][best] + np.clip(error, -limit, limit)
        reach *= np.clip(abs(error) / limit, 1.0, 2.0)
        reach = 1.0 + (reach - 1.0) * np.exp(-1.0 / REACH_LABELS)
        for i, pace in enumerate(PACES):
            offsets[:, i] += pace * (counted[t] - row - offsets[:, i])
    return np.array(guesses), counted, offsets, reach


@pytest.mark.parametrize("unlabelled", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("best", range(Numbers.n_guesses))
@pytest.mark.parametrize(
    ("bound", "reach"), [(np.inf, 1.0), (1e6, 7.0), (1e3, 7.0), (3.0, 1.0), (0.1, 1.0), (0.5, 4.0)]
)
def test_offsets_follow_each_label_as_it_counts(unlabelled, best, bound, reach):
    random = np.random.default_rng(7)
    said, targets = random.normal(size=(256, len(MEMORIES), 1)), random.normal(size=256).cumsum()
    targets[100:120] += 1e4
    targets[random.random(256) < unlabelled] = np.nan
    offsets, numbers = random.normal(size=(N_SOURCES, len(PACES))), Numbers()
    numbers.best, numbers.bound = best, bound
    guesses, counted, after = numbers.guess(said, targets, Offsets(offsets, reach))
    wanted = offsets_one_by_one(said, targets, offsets, best, bound, reach)
    for mine, its in zip((guesses[:, :, 0], counted, *after), wanted, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-9, atol=1e-9)


def test_what_is_far_away_counts_for_less_and_soon_is_not_far_away():
    for distance in (1e3, 1e9, -1e9):
        (counted,), _ = bound_targets([distance], [0.0], pace=0.0, offset=0.0, bound=10.0, reach=1.0)
        assert counted == np.copysign(10.0, distance)
    counted, reach = bound_targets([1e6] * 40, [0.0] * 40, pace=0.6, offset=0.0, bound=10.0, reach=1.0)
    assert counted[:2] == [10.0, pytest.approx(6.0 + 20.0, rel=0.01)]
    assert counted[20:] == [1e6] * 20
    counted, reach = bound_targets([1e300] * 1000, [0.0] * 1000, pace=0.0, offset=0.0, bound=1e-9, reach=1.0)
    assert reach == pytest.approx(MAX_REACH, rel=0.02)
    assert np.isfinite(counted).all()


def test_offsets_at_a_blocks_end_are_the_mean_errors_of_the_new_weights():
    random = np.random.default_rng(8)
    lifted, targets = lifted_rows(900), random.normal(size=(900, 1)).cumsum(axis=0)
    numbers, memory = Numbers(), Memory(lifted.shape[1], 1)
    for start in range(0, 900, 150):
        memory.learn(lifted[start : start + 150], targets[start : start + 150])
        numbers.learn(lifted[start : start + 150], targets[start : start + 150], memory)
    errors = targets - np.insert(memory.predict(lifted)[:, :, 0], len(MEMORIES), 0.0, axis=1)
    for i, pace in enumerate(PACES):
        recent = np.average(errors, axis=0, weights=(1.0 - pace) ** np.arange(899, -1, -1.0))
        np.testing.assert_allclose(numbers.offsets.of_sources[:, i], recent, atol=1e-3)


def test_the_learner_is_what_its_parts_make_of_it():
    random = np.random.default_rng(10)
    z = random.normal(size=(300, 2))
    labels = [("no", "yes")[int(x)] for x in z[:, 0] * z[:, 1] > 0]
    learner = OnlineLearner("classification")
    learner.learn(["a", "b"], z, labels)
    memory, n = Memory(N_FREQUENCIES + 3, 2), 0
    lifted = lift(np.insert(bend(z), 0, 1.0, axis=1), frequencies(["a", "b"], [2, 2]))
    codes = np.array([list(dict.fromkeys(labels)).index(label) for label in labels])
    while n + block_size(n, is_changing=False) <= 300:
        part = slice(n, n + block_size(n, is_changing=False))
        memory.learn(lifted[part], np.eye(2)[codes[part]])
        n = part.stop
    assert learner.n_learnt == n
    new = random.normal(size=(50, 2))
    said = memory.predict(lift(np.insert(bend(new), 0, 1.0, axis=1), frequencies(["a", "b"], [2, 2])))
    answers = learner.score(["a", "b"], new)
    margin = np.diff(said[:, learner._best], axis=1)[:, 0]
    odds = np.log(answers.probabilities[:, 1] / answers.probabilities[:, 0])
    np.testing.assert_allclose(odds, margin * learner._kind.sharpness, atol=1e-3)
