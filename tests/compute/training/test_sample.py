from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.training.fault import TrainingError
from compute.training.sample import MAX_CLASSES, NewestRows


def add(
    newest: NewestRows, rows: list[tuple[float, int, int]], names: tuple[str, ...] = ("x",), target: str = ""
) -> None:
    """Add rows (time, partition, offset) one by one; their only feature is their time."""
    for seconds, partition, offset in rows:
        inputs = np.full((1, len(names)), seconds)
        targets = [target] if target else [float(offset)]
        newest.add(names, inputs, inputs, targets, np.array([seconds]), partition, np.array([offset]))


ROWS = st.lists(
    st.tuples(st.integers(0, 9).map(float), st.integers(0, 2), st.integers(0, 10**6)),
    max_size=60,
    unique=True,
)


@given(rows=ROWS, n_most=st.integers(1, 20), seed=st.integers(0, 5))
def test_the_newest_rows_stay_in_order_of_time_whatever_the_order_of_reading(
    rows: list[tuple[float, int, int]], n_most: int, seed: int
) -> None:
    newest = NewestRows("regression", n_most)
    add(newest, [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))])
    assert newest.n_added == len(rows)
    if not rows:
        with pytest.raises(TrainingError, match="no labelled event"):
            newest.take(normaliser="none", missing="reject")
        return
    expected = sorted(rows)[-n_most:]
    sample = newest.take(normaliser="none", missing="reject")
    assert sample.timestamps.tolist() == [row[0] for row in expected]
    assert sample.targets.tolist() == [row[2] for row in expected]
    assert newest.oldest_seconds() == {
        partition: min(row[0] for row in expected if row[1] == partition)
        for partition in {row[1] for row in expected}
    }


def test_no_more_than_twice_the_rows_are_ever_held() -> None:
    newest = NewestRows("regression", 100)
    for start in range(0, 5_000, 50):
        times = np.arange(start, start + 50.0)
        block = times[:, np.newaxis]
        newest.add(["x"], block, block, times.tolist(), times, 0, times.astype(np.int64))
        assert sum(len(chunk.targets) for chunk in newest._chunks) < 200
    assert len(newest) == 100
    assert newest.take(normaliser="none", missing="reject").timestamps.tolist() == list(range(4_900, 5_000))


def sample_with_gaps(missing: str, normaliser: str, features: tuple[str, ...] = ()) -> list[list[float]]:
    newest = NewestRows("regression", 10)
    inputs = np.array([[1.0, np.nan], [2.0, 5.0]])
    means = np.array([[7.0, 8.0], [7.0, 8.0]])
    newest.add(["a", "b"], inputs, means, [0.0, 0.0], np.array([1.0, 2.0]), 0, np.array([1, 2]))
    more = np.array([[6.0, 3.0]])  # another partition knows the features in another order
    newest.add(["b", "a"], more, more, [0.0], np.array([3.0]), 1, np.array([1]))
    return newest.take(normaliser=normaliser, missing=missing, features=features).inputs.tolist()


def test_a_missing_feature_becomes_what_it_becomes_in_serving() -> None:
    assert sample_with_gaps("reject", "none") == [[2, 5], [3, 6]]
    assert sample_with_gaps("mean", "none") == [[1, 8], [2, 5], [3, 6]]
    assert sample_with_gaps("mean", "window") == [[1, 0], [2, 5], [3, 6]]
    assert sample_with_gaps("mean", "none", ("b",)) == [[8], [5], [6]]


def test_features_come_in_the_order_that_was_asked_for() -> None:
    assert sample_with_gaps("reject", "none", ("b", "a")) == [[5, 2], [6, 3]]


def test_a_feature_that_few_events_have_is_left_out_unless_it_is_named() -> None:
    newest = NewestRows("regression", 10)
    add(newest, [(1.0, 0, 1), (2.0, 0, 2)])
    add(newest, [(3.0, 0, 3)], ("x", "rare"))
    sample = newest.take(normaliser="none", missing="mean")
    assert (sample.features, sample.left_out) == (("x",), {"rare": pytest.approx(1 / 3)})
    named = newest.take(normaliser="none", missing="reject", features=["rare"])
    assert (named.inputs.tolist(), named.n_incomplete) == ([[3.0]], 2)


def test_the_target_is_no_feature() -> None:
    newest = NewestRows("regression", 10)
    add(newest, [(1.0, 0, 1)], ("x", "y"))
    assert newest.take(normaliser="none", missing="mean", without="y").features == ("x",)
    alone = one_row("x")
    with pytest.raises(TrainingError, match="no labelled event has any; there are none"):
        alone.take(normaliser="none", missing="mean", without="x")


def one_row(name: str) -> NewestRows:
    newest = NewestRows("regression", 10)
    add(newest, [(1.0, 0, 1)], (name,))
    return newest


def test_a_feature_that_nobody_has_is_named_with_those_there_are() -> None:
    with pytest.raises(TrainingError, match="features: no labelled event has 'z'; there are x"):
        one_row("x").take(normaliser="none", missing="mean", features=["x", "z"])


def test_a_value_beyond_float32_is_no_input() -> None:
    newest = NewestRows("regression", 10)
    add(newest, [(1.0, 0, 1), (1e39, 0, 2)])
    sample = newest.take(normaliser="none", missing="mean")
    assert (sample.inputs.tolist(), sample.n_incomplete) == ([[1.0]], 1)


@pytest.mark.parametrize(
    ("labels", "classes", "targets"),
    [
        (["1", "0", "10"], (0, 1, 10), [1, 0, 10]),
        (["-3", "0"], (-3, 0), [-3, 0]),
        (["b", "a"], ("a", "b"), ["b", "a"]),
        (["1", "01"], ("01", "1"), ["1", "01"]),
        (["1", "0.5"], ("0.5", "1"), ["1", "0.5"]),
        (["1", "99999999999999999999"], ("1", "99999999999999999999"), ["1", "99999999999999999999"]),
    ],
)
def test_classes_are_integers_where_all_labels_are(
    labels: list[str], classes: tuple[str | int, ...], targets: list[str | int]
) -> None:
    newest = NewestRows("classification", 10)
    for offset, label in enumerate(labels):
        add(newest, [(float(offset), 0, offset)], target=label)
    sample = newest.take(normaliser="none", missing="mean")
    assert (sample.classes, sample.targets.tolist()) == (classes, targets)


def test_a_class_that_is_among_older_rows_only_is_none() -> None:
    newest = NewestRows("classification", 2)
    for offset, label in enumerate(["old", "1", "0"]):
        add(newest, [(float(offset), 0, offset)], target=label)
    sample = newest.take(normaliser="none", missing="mean")
    assert (sample.classes, sample.targets.tolist()) == ((0, 1), [1, 0])


def test_too_many_classes_ask_for_a_regression() -> None:
    newest = NewestRows("classification", 10)
    for offset in range(MAX_CLASSES):
        add(newest, [(float(offset), 0, offset)], target=str(offset))
    add(newest, [(0.0, 0, 0)], target="5")
    with pytest.raises(TrainingError, match=f"at most {MAX_CLASSES} classes, the next is 'x'; .*regression"):
        add(newest, [(0.0, 0, 0)], target="x")


@pytest.mark.parametrize(
    ("labels", "named", "positive"),
    [
        (["ok", "faulty"], "", "ok"),
        (["ok", "faulty"], "faulty", "faulty"),
        (["7", "1"], "1", 1),
        (["0", "1"], "false", 0),
    ],
)
def test_the_positive_class_is_the_last_one_unless_another_is_named(
    labels: list[str], named: str, positive: str | int
) -> None:
    newest = NewestRows("classification", 10)
    for offset, label in enumerate(labels):
        add(newest, [(float(offset), 0, offset)], target=label)
    assert newest.take(normaliser="none", missing="reject", positive=named).positive == positive
