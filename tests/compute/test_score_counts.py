from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from compute.score_counts import LARGEST, MIN_BOUND, ScoreCounts, score_keys

any_score = st.one_of(
    st.floats(0, 1),
    st.floats(-LARGEST, LARGEST),
    st.sampled_from([-0.0, 0.5, np.nextafter(0.5, 1), np.nextafter(1, 0), 1.0, np.nextafter(1, 2), 5e-324]),
)


def counted(scores, positive, bound=MIN_BOUND, batch=None):
    counts = ScoreCounts(bound)
    batch = batch or max(len(scores), 1)
    for i in range(0, len(scores), batch):
        part = slice(i, i + batch)
        counts.add(score_keys(scores[part, None]), np.array([3]), positive[part, None])
    return counts


def assert_equal_counts(one, other):
    assert (one.level, one.n_rows) == (other.level, other.n_rows)
    for name in ("owners", "keys", "positive", "negative"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@given(st.lists(any_score, min_size=2))
def test_keys_are_ordered_as_scores_are(scores):
    scores = np.array(scores)
    keys = score_keys(scores)
    np.testing.assert_array_equal(keys[1:] > keys[:-1], scores[1:] > scores[:-1])
    np.testing.assert_array_equal(keys[1:] == keys[:-1], scores[1:] == scores[:-1])


def test_scores_beyond_the_largest_are_kept_as_the_largest():
    np.testing.assert_array_equal(
        score_keys(np.array([np.inf, -1e300])), score_keys(np.array([1e290, -1e290]))
    )


@given(st.lists(st.tuples(any_score, st.booleans()), min_size=1, max_size=80))
def test_the_area_is_that_of_scikit_learn_at_every_prefix(events):
    scores, positive = np.array([e[0] for e in events]), np.array([e[1] for e in events])
    counts = ScoreCounts(MIN_BOUND)
    for i in range(len(events)):
        counts.add(score_keys(scores[i : i + 1, None]), np.array([0]), positive[i : i + 1, None])
        seen = positive[: i + 1]
        area = counts.areas().area[0]
        if seen.all() or not seen.any():
            assert np.isnan(area)
        else:
            assert area == pytest.approx(roc_auc_score(seen, scores[: i + 1]), rel=1e-12)
            assert counts.areas().error[0] == 0.0


DISTRIBUTIONS = {
    "probabilities": lambda random, n: random.beta(0.5, 2.0, n),
    "sure": lambda random, n: 1.0 - 10.0 ** -random.uniform(1, 15, n),
    "rare": lambda random, n: 10.0 ** -random.uniform(2, 9, n),
    "distances": lambda random, n: np.exp(5.0 * random.normal(size=n)),
    "around zero": lambda random, n: random.normal(size=n),
    "far from zero": lambda random, n: 1e9 + random.normal(size=n),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("bound", [256, 682, 4096])
def test_beyond_the_bound_the_area_is_off_by_less_than_is_reported(name, bound):
    random = np.random.default_rng(8)
    scores = DISTRIBUTIONS[name](random, 30_000)
    ranks = scores.argsort().argsort() / len(scores)
    positive = random.random(len(scores)) < 0.6 * ranks
    counts = counted(scores, positive, bound, batch=4_000)
    assert bound / 4 < len(counts.keys) <= bound
    (area,), (error,) = counts.areas().area, counts.areas().error
    off = abs(area - roc_auc_score(positive, scores))
    assert 0 < error < 5 / bound
    assert off <= error
    assert off < 5e-4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1, width=16), st.integers(0, 2), st.integers(0, 3)), max_size=600),
    st.integers(1, 100),
    st.permutations(range(4)),
)
def test_what_is_kept_depends_on_the_scores_alone(events, batch, order):
    """Not on batches, partitions, or the order in which these are merged."""
    scores = np.array([e[0] for e in events], np.float64)
    scores = np.column_stack([scores, scores**3])
    labels, partitions = np.array([e[1] for e in events]), np.array([e[2] for e in events])
    owners = np.array([0, 1])
    at_once = ScoreCounts(MIN_BOUND)
    at_once.add(score_keys(scores), owners, labels[:, None] == owners)
    merged = ScoreCounts(MIN_BOUND)
    for partition in order:
        mine = np.flatnonzero(partitions == partition)
        part = ScoreCounts(MIN_BOUND)
        for i in range(0, len(mine), batch):
            rows = mine[i : i + batch]
            part.add(score_keys(scores[rows]), owners, labels[rows, None] == owners)
        merged.merge(part)
    assert_equal_counts(merged, at_once)
    assert len(merged.keys) <= MIN_BOUND


def test_no_more_bits_go_than_must():
    # 256 keys that differ in their highest byte, and one that differs from one of them in all other bits.
    keys = np.r_[np.arange(256, dtype=np.uint64) << np.uint64(56), np.uint64((6 << 56) - 1)]
    counts = ScoreCounts(256)
    counts.add(keys[:256, None], np.array([0]), np.zeros((256, 1), bool))
    assert (counts.level, len(counts.keys)) == (0, 256)
    counts.add(keys[256:, None], np.array([0]), np.ones((1, 1), bool))
    assert (counts.level, len(counts.keys)) == (56, 256)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=250, max_size=400), st.integers(0, 40))
def test_the_level_is_the_lowest_that_fits(keys, n_low_bits):
    keys = np.array(keys, np.uint64) >> np.uint64(n_low_bits)
    counts = ScoreCounts(256)
    counts.add(keys[:, None], np.array([0]), np.zeros((len(keys), 1), bool))
    levels = (level for level in range(64) if len(np.unique(keys >> np.uint64(level))) <= 256)
    assert counts.level == next(levels)
    np.testing.assert_array_equal(counts.keys, np.unique(keys >> np.uint64(counts.level)))


def test_merging_leaves_the_other_as_it_was():
    parts = []
    for seed in (1, 2, 2):
        random = np.random.default_rng(seed)
        parts.append(counted(random.random(500), random.random(500) < 0.5))
    one, other, again = parts
    one.merge(other)
    assert_equal_counts(other, again)
    one.merge(one)
    assert one.n_rows == 2000


def test_a_class_that_comes_up_late_had_a_score_of_0_before():
    random = np.random.default_rng(3)
    scores, labels = random.random((90, 3)), random.integers(0, 3, 90)
    scores[:60, 2] = 0.0
    counts = ScoreCounts(MIN_BOUND)
    for rows, n_classes in ((slice(0, 30), 1), (slice(30, 60), 2), (slice(60, 90), 3)):
        owners = np.arange(n_classes)
        counts.add(score_keys(scores[rows, :n_classes]), owners, labels[rows, None] == owners)
    scores[:30, 1] = 0.0
    areas = counts.areas()
    assert areas.owners.tolist() == [0, 1, 2]
    # Only the columns that were given count labels: a class has its events from then on.
    for code, first in ((0, 0), (1, 30), (2, 60)):
        positive = (labels == code) & (np.arange(90) >= first)
        assert areas.area[code] == pytest.approx(roc_auc_score(positive, scores[:, code]), rel=1e-12)


def test_two_keys_for_each_of_101_classes_fit_the_smallest_bound():
    random = np.random.default_rng(4)
    counts = ScoreCounts(MIN_BOUND)
    owners = np.arange(101)
    counts.add(
        score_keys(random.normal(size=(300, 101))), owners, random.integers(0, 101, (300, 1)) == owners
    )
    assert len(counts.keys) <= MIN_BOUND
    assert counts.positive.sum() == 300
    assert np.nanmin(counts.areas().error) > 0.2  # it says how little is left
