from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from compute.class_names import MAX_CLASSES, OTHER
from compute.evaluation import Evaluation, merge_all

# scikit-learn warns of a single class, which every stream begins with.
pytestmark = pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")

N_PANES, PANE_SECONDS = 3, 60.0
MODELS = {
    "two classes": ("ham", "spam"),
    "three classes": ("a", "b", "c"),
    "none: it learns online": (),
}


@dataclass
class Outcome:
    timestamp: float
    label: str
    prediction: str
    probabilities: tuple[float, ...]
    part: int = 0


def defined(metric, *arguments, **options):
    """What scikit-learn answers; None where it raises, or answers NaN or infinity."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = metric(*arguments, **options)
        except ValueError:
            return None
    return found if math.isfinite(found) else None


def oracle(outcomes, classes, columns, known):
    """The metrics from raw outcomes; `known` are all classes that ever came up."""
    names = ["accuracy", "balanced_accuracy", "precision", "recall", "f1", "log_loss", "roc_auc"]
    if not outcomes:
        return dict.fromkeys(names)
    labels, predictions = [o.label for o in outcomes], [o.prediction for o in outcomes]
    by_class = {name: np.zeros(len(outcomes)) for name in known}
    for i, name in enumerate(columns):
        by_class[name] = np.array([o.probabilities[i] for o in outcomes])
    found = {
        "accuracy": metrics.accuracy_score(labels, predictions),
        "balanced_accuracy": defined(metrics.balanced_accuracy_score, labels, predictions),
    }
    positive = classes[-1] if classes else max(known)
    average = {"pos_label": positive} if len(known) == 2 else {"average": "macro"}
    for name in ("precision", "recall", "f1"):
        score = getattr(metrics, f"{name}_score")
        found[name] = None if len(known) < 2 else score(labels, predictions, zero_division=0, **average)
    in_order = sorted(known)
    matrix = np.column_stack([by_class[name] for name in in_order])
    found["log_loss"] = defined(metrics.log_loss, labels, matrix, labels=in_order)
    present = sorted({*classes, *labels, *predictions})
    if len(classes) == 2 or (not classes and len(known) == 2):
        found["roc_auc"] = defined(metrics.roc_auc_score, np.array(labels) == positive, by_class[positive])
    elif len(known) == 1:
        found["roc_auc"] = None
    elif len(present) > 2 and np.allclose(sum(by_class[name] for name in present), 1):
        matrix = np.column_stack([by_class[name] for name in present])
        found["roc_auc"] = defined(metrics.roc_auc_score, labels, matrix, labels=present, multi_class="ovr")
    else:
        each = [defined(metrics.roc_auc_score, np.array(labels) == name, by_class[name]) for name in present]
        found["roc_auc"] = None if None in each else np.mean(each)
    return found


def assert_described(described, outcomes, classes, columns, known):
    wanted = oracle(outcomes, classes, columns, known)
    for name, metric in wanted.items():
        assert described[name] == (None if metric is None else pytest.approx(metric, rel=1e-9, abs=1e-12)), (
            name
        )
    assert described["n_labels"] == len(outcomes)
    assert set(described["classes"]) == set(known)
    labels, predictions = [o.label for o in outcomes], [o.prediction for o in outcomes]
    if outcomes:
        matrix = metrics.confusion_matrix(labels, predictions, labels=described["classes"])
        assert described["confusion_matrix"] == matrix.tolist()
        by_class = metrics.precision_recall_fscore_support(
            labels, predictions, labels=described["classes"], zero_division=0
        )
        rows = [list(row.values()) for row in described["per_class"].values()]
        np.testing.assert_allclose(rows, np.transpose(by_class), rtol=1e-12)


def add(evaluation, outcomes, columns=None, with_probabilities=True):
    probabilities = np.array([o.probabilities for o in outcomes], float).reshape(len(outcomes), -1)
    evaluation.add(
        np.array([o.timestamp for o in outcomes]),
        [o.label for o in outcomes],
        [o.prediction for o in outcomes],
        probabilities[:, -1],
        probabilities if with_probabilities else None,
        columns,
    )


def in_window(outcomes):
    panes = [math.floor(o.timestamp / PANE_SECONDS) for o in outcomes]
    return [o for o, pane in zip(outcomes, panes, strict=True) if pane > max(panes) - N_PANES]


@st.composite
def streams(draw, classes, max_size=24, further=("other",)):
    """Outcomes of a model; some labels, and predictions where it has no classes, are none of its own."""
    columns = classes or ("x", "y")[: draw(st.integers(1, 2))]
    named = st.sampled_from((*columns, *columns, *columns, *further))
    outcomes = []
    for _ in range(draw(st.integers(1, max_size))):
        chances = np.array([draw(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9])) for _ in columns]) + 1e-3
        chances /= chances.sum()
        outcomes.append(
            Outcome(
                draw(st.sampled_from([0.0, 30.0, 60.0, 100.0, 200.0, 390.0])),
                draw(named),
                draw(st.sampled_from(columns) if classes else named),
                tuple(chances.tolist()),
                draw(st.integers(0, 2)),
            )
        )
    return columns, outcomes


def known_of(classes, columns, outcomes):
    return list(dict.fromkeys([*classes, *columns, *(n for o in outcomes for n in (o.label, o.prediction))]))


@pytest.mark.parametrize("model", MODELS)
def test_metrics_are_those_of_scikit_learn_at_every_prefix(model):
    classes = MODELS[model]

    @settings(max_examples=10, deadline=None)  # some dozen calls of scikit-learn for each prefix
    @given(streams(classes, max_size=12))
    def check(stream):
        columns, outcomes = stream
        evaluation = Evaluation("classification", N_PANES, PANE_SECONDS, classes)
        for i in range(len(outcomes)):
            add(evaluation, outcomes[i : i + 1], columns)
            seen = outcomes[: i + 1]
            described = evaluation.describe()
            known = known_of(classes, columns, seen)
            assert described["since_start"]["classes"] == known
            assert_described(described["since_start"], seen, classes, columns, known)
            assert_described(described["window"], in_window(seen), classes, columns, known)

    check()


@pytest.mark.parametrize("model", MODELS)
def test_any_split_merged_in_any_order_gives_the_same(model):
    classes = MODELS[model]

    @settings(max_examples=30, deadline=None)
    @given(streams(classes, max_size=50), st.permutations(range(3)), st.integers(1, 20), st.booleans())
    def check(stream, order, batch, stored):
        columns, outcomes = stream
        parts = []
        for part in order:
            evaluation = Evaluation("classification", N_PANES, PANE_SECONDS, classes)
            mine = [o for o in outcomes if o.part == part]
            for i in range(0, len(mine), batch):
                add(evaluation, mine[i : i + batch], columns)
                if stored:
                    evaluation = Evaluation.decode(evaluation.encode())
            parts.append(evaluation)
        before = [part.encode() for part in parts]
        described = merge_all(parts).describe()
        assert [part.encode() for part in parts] == before
        known = known_of(classes, columns, outcomes)
        window = in_window(outcomes)
        assert_described(described["since_start"], outcomes, classes, columns, known)
        assert_described(described["window"], window, classes, columns, known)
        newest = math.floor(max(o.timestamp for o in outcomes) / PANE_SECONDS)
        assert described["window"]["end"] == (newest + 1) * PANE_SECONDS
        assert described["window"]["start"] == (newest + 1 - N_PANES) * PANE_SECONDS
        json.dumps(described, allow_nan=False)

    check()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_learners_that_know_different_classes_are_merged_as_if_each_knew_the_others_at_0(order):
    random = np.random.default_rng(6)
    parts, matrix, told = [], np.zeros((120, 4)), []
    for part, columns in enumerate(("xy", "xz", "wyz")):
        rows = slice(40 * part, 40 * (part + 1))
        chances = random.dirichlet(np.ones(len(columns)), 40)
        matrix[rows, ["wxyz".index(name) for name in columns]] = chances
        labels = [columns[i] for i in random.integers(0, len(columns), 40)]
        predictions = [columns[i] for i in chances.argmax(axis=1)]
        told += labels
        evaluation = Evaluation("classification", 1, 60.0)
        for i in range(0, 40, 8):  # not even each batch names all
            some = slice(i, i + 8)
            evaluation.add(
                np.zeros(8), labels[some], predictions[some], np.zeros(8), chances[some], list(columns)
            )
        parts.append(evaluation)
    described = merge_all([parts[i] for i in order]).describe()["since_start"]
    options = {"labels": list("wxyz"), "multi_class": "ovr"}
    assert described["roc_auc"] == pytest.approx(metrics.roc_auc_score(told, matrix, **options), rel=1e-12)
    assert described["log_loss"] == pytest.approx(metrics.log_loss(told, matrix, labels=list("wxyz")))


def test_an_area_beyond_the_bound_is_the_same_for_any_split_and_says_how_exact_it_is():
    random = np.random.default_rng(1)
    n = 20_000
    scores, labels = random.beta(1, 4, n), np.array(["0", "1"], object)
    told = labels[(random.random(n) < scores).astype(int)]
    timestamps, parts = random.uniform(0, 1_200, n), random.integers(0, 3, n)
    described = []
    for order, batch in ((range(1), 1_000), ((0, 1, 2), 4_000), ((2, 0, 1), 333)):
        evaluations = []
        for part in order:
            mine = np.flatnonzero(parts == part) if len(order) > 1 else random.permutation(n)
            evaluation = Evaluation("classification", 12, 60.0, ("0", "1"))
            for i in range(0, len(mine), batch):
                rows = mine[i : i + batch]
                guesses = labels[(scores[rows] > 0.3).astype(int)]
                evaluation.add(timestamps[rows], told[rows], guesses, scores[rows])
            evaluations.append(evaluation)
        described.append(merge_all(evaluations).describe())
    assert described[0] == described[1] == described[2]
    window = timestamps >= described[0]["window"]["start"]
    for name, rows in (("since_start", slice(None)), ("window", window)):
        found = described[0][name]
        wanted = metrics.roc_auc_score(told[rows] == "1", scores[rows])
        assert 0 < found["roc_auc_resolution"] < 0.005
        assert abs(found["roc_auc"] - wanted) <= found["roc_auc_resolution"]
        assert found["roc_auc"] == pytest.approx(wanted, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 70.0, 200.0, 500.0]),
            st.one_of(st.floats(-100, 100), st.sampled_from([0.0, 1e9])),
            st.sampled_from([0.0, 0.0, 0.5, -3.0, 1e3]),
            st.integers(0, 2),
        ),
        min_size=1,
        max_size=15,
    ),
    st.permutations(range(3)),
)
def test_errors_of_numbers_are_those_of_scikit_learn_at_every_prefix_and_merged(rows, order):
    outcomes = [Outcome(time, label, label + error, (), part) for time, label, error, part in rows]

    def check(described, seen):
        labels, predictions = [o.label for o in seen], [o.prediction for o in seen]
        assert described["n_labels"] == len(seen)
        assert described["mae"] == pytest.approx(metrics.mean_absolute_error(labels, predictions), rel=1e-9)
        assert described["rmse"] == pytest.approx(
            metrics.root_mean_squared_error(labels, predictions), rel=1e-9
        )
        r2 = defined(metrics.r2_score, labels, predictions)
        if len(set(labels)) == 1 and r2 is not None:
            # scikit-learn's mean of equal labels may differ from them in the last digit.
            r2 = 1.0 if labels == predictions else 0.0
        assert described["r2"] == (None if r2 is None else pytest.approx(r2, rel=1e-6, abs=1e-9))

    def fed(some):
        evaluation = Evaluation("regression", N_PANES, PANE_SECONDS)
        for o in some:
            evaluation.add(np.array([o.timestamp]), [o.label], [o.prediction], np.zeros(1))
        return evaluation

    evaluation = fed([])
    for i, o in enumerate(outcomes):
        evaluation.add(np.array([o.timestamp]), [o.label], [o.prediction], np.zeros(1))
        check(evaluation.describe()["since_start"], outcomes[: i + 1])
        check(evaluation.describe()["window"], in_window(outcomes[: i + 1]))
    merged = merge_all([fed([o for o in outcomes if o.part == part]) for part in order])
    check(merged.describe()["since_start"], outcomes)
    check(merged.describe()["window"], in_window(outcomes))


def test_without_labels_nothing_is_defined():
    described = Evaluation("classification", 12, 300.0, ("0", "1")).describe()
    assert described["since_start"] == {
        "n_labels": 0,
        **dict.fromkeys(("accuracy", "balanced_accuracy", "precision", "recall", "f1")),
        **dict.fromkeys(("log_loss", "roc_auc", "roc_auc_resolution")),
        "classes": ["0", "1"],
        "positive": "1",
        "per_class": {
            name: {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n_labels": 0} for name in ("0", "1")
        },
        "confusion_matrix": [[0, 0], [0, 0]],
    }
    assert described["window"] == {"start": None, "end": None, **described["since_start"]}
    nothing = {"n_labels": 0, "mae": None, "rmse": None, "r2": None}
    assert Evaluation("regression", 12, 300.0).describe()["since_start"] == nothing


def test_the_model_says_which_class_is_positive():
    evaluation = Evaluation("classification", 1, 60.0, (True, False), positive=True)
    evaluation.add(np.zeros(3), ["1", "0", "1"], ["1", "1", "0"], np.array([0.9, 0.8, 0.3]))
    described = evaluation.describe()["since_start"]
    assert (described["positive"], described["recall"], described["roc_auc"]) == ("1", 0.5, 0.5)


def test_one_that_learns_online_is_told_which_class_is_positive():
    evaluation = Evaluation("classification", 1, 60.0, positive="faulty")
    faulty = np.array([0.9, 0.8, 0.3, 0.1])
    outcomes = ["faulty", "ok", "faulty", "ok"], ["faulty", "faulty", "ok", "ok"]
    evaluation.add(
        np.zeros(4), *outcomes, faulty, np.stack([1 - faulty, faulty], 1), columns=("ok", "faulty")
    )
    described = Evaluation.decode(evaluation.encode()).describe()["since_start"]
    assert described["positive"] == "faulty"
    assert described["precision"] == metrics.precision_score(*outcomes, pos_label="faulty")
    assert described["recall"] == metrics.recall_score(*outcomes, pos_label="faulty")
    assert described["roc_auc"] == metrics.roc_auc_score([1, 0, 1, 0], faulty)
    other = Evaluation("classification", 1, 60.0, positive="ok")  # of a worker that has another setting
    other.merge(evaluation)
    assert other.describe()["since_start"]["positive"] == "ok"
    assert other.describe()["since_start"]["log_loss"] == described["log_loss"]
    evaluation.name_positive("no such class")
    assert evaluation.describe()["since_start"]["positive"] == "ok"
    evaluation.name_positive(None)
    assert evaluation.describe()["since_start"]["positive"] == "ok"
    evaluation.name_positive("faulty")
    evaluation.add(np.zeros(1), ["broken"], ["ok"], np.zeros(1))
    assert evaluation.describe()["since_start"]["positive"] is None
    known = Evaluation("classification", 1, 60.0, ("ok", "faulty"))
    known.name_positive("ok")
    assert known.head.positive is None


def test_labels_that_two_classes_do_not_have_are_the_others_in_the_curve_and_make_means_of_the_rest():
    evaluation = Evaluation("classification", 1, 60.0, ("0", "1"))
    labels, predictions = ["0", "1", "2", "1"], ["0", "1", "1", "0"]
    scores = np.array([0.2, 0.9, 0.6, 0.4])
    evaluation.add(np.zeros(4), labels, predictions, scores)
    described = evaluation.describe()["since_start"]
    assert described["roc_auc"] == metrics.roc_auc_score([0, 1, 0, 1], scores)
    assert described["f1"] == metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    assert described["positive"] is None


def test_certainty_costs_what_scikit_learn_says_right_or_wrong():
    for label, chances in (("1", [0.0, 1.0]), ("0", [0.0, 1.0]), ("0", [1e-17, 1.0])):
        evaluation = Evaluation("classification", 1, 60.0, ("0", "1"))
        evaluation.add(np.zeros(1), [label], ["1"], np.ones(1), np.array([chances]))
        wanted = metrics.log_loss([label], [chances], labels=["0", "1"])
        assert evaluation.describe()["since_start"]["log_loss"] == wanted > 0


def test_a_label_without_a_column_costs_what_a_probability_of_0_costs():
    evaluation = Evaluation("classification", 1, 60.0, ("0", "1"))
    evaluation.add(np.zeros(1), ["2"], ["1"], np.array([0.6]), np.array([[0.4, 0.6]]))
    assert evaluation.describe()["since_start"]["log_loss"] == -math.log(2.0**-52)


def test_log_loss_counts_the_events_that_have_probabilities_and_the_curve_those_that_have_scores():
    evaluation = Evaluation("classification", 1, 60.0, ("0", "1"))
    evaluation.add(np.zeros(2), ["0", "1"], ["0", "1"], np.array([0.5, np.nan]))
    assert evaluation.describe()["since_start"]["log_loss"] is None
    chances = np.array([[0.5, 0.5], [np.nan, np.nan], [0.8, 0.2]])
    evaluation.add(np.zeros(3), ["1", "1", "0"], ["1", "1", "0"], np.array([0.5, np.nan, 0.2]), chances)
    described = evaluation.describe()["since_start"]
    assert described["log_loss"] == metrics.log_loss(["1", "0"], [[0.5, 0.5], [0.8, 0.2]])
    assert described["roc_auc"] == metrics.roc_auc_score([0, 1, 0], [0.5, 0.5, 0.2])
    assert described["n_labels"] == 5


def test_scores_of_a_detector_rank_whatever_their_scale():
    evaluation = Evaluation("classification", 1, 60.0, ("0", "1"))
    scores, labels = np.array([-1e3, 5.0, np.inf, 7e5, -np.inf]), ["0", "1", "1", "0", "0"]
    evaluation.add(np.zeros(5), labels, labels, scores)
    wanted = metrics.roc_auc_score([0, 1, 1, 0, 0], np.clip(scores, -1e9, 1e9))
    assert evaluation.describe()["since_start"]["roc_auc"] == wanted


def test_events_older_than_the_window_count_since_the_start_only():
    evaluation = Evaluation("regression", 2, 60.0)
    evaluation.add(np.array([600.0]), [1.0], [1.0], np.zeros(1))
    evaluation.add(np.array([539.0, 540.0]), [1.0, 1.0], [3.0, 2.0], np.zeros(2))
    described = evaluation.describe()
    assert (described["since_start"]["n_labels"], described["since_start"]["mae"]) == (3, 1.0)
    assert (described["window"]["n_labels"], described["window"]["mae"]) == (2, 0.5)
    assert (described["window"]["start"], described["window"]["end"]) == (540.0, 660.0)


def test_a_partition_that_fell_behind_is_not_in_the_window_of_the_whole():
    ahead, behind = (Evaluation("regression", 2, 60.0) for _ in range(2))
    ahead.add(np.array([6000.0]), [1.0], [1.0], np.zeros(1))
    behind.add(np.array([0.0]), [1.0], [9.0], np.zeros(1))
    for parts in ([ahead, behind], [behind, ahead]):
        described = merge_all(parts).describe()
        assert described["window"]["n_labels"] == 1
        assert described["since_start"]["n_labels"] == 2


def test_more_classes_than_are_told_apart_are_one():
    evaluation = Evaluation("classification", 2, 60.0, ("a", "b", "c"))
    labels = ["a", "b", "c", *(f"label-{i}" for i in range(297))]
    chances = np.tile([0.2, 0.3, 0.5], (300, 1))
    evaluation.add(np.zeros(300), labels, ["c"] * 300, np.zeros(300), chances)
    described = evaluation.describe()["since_start"]
    assert len(described["classes"]) == MAX_CLASSES + 1
    assert described["classes"][-1] == OTHER
    assert described["per_class"][OTHER]["n_labels"] == 300 - MAX_CLASSES
    assert described["roc_auc"] is None
    assert len(evaluation.encode()) < 5_000
    evaluation.add(np.zeros(1), ["never seen"], [OTHER], np.zeros(1))
    assert evaluation.describe()["since_start"]["per_class"][OTHER]["recall"] > 0


def test_merging_unites_classes_by_name_also_beyond_the_bound():
    parts = []
    for first in (0, 60):
        evaluation = Evaluation("classification", 2, 60.0)
        names = [f"label-{i}" for i in range(first, first + 80)]
        chances = np.eye(80)
        evaluation.add(np.zeros(80), names, names, np.zeros(80), chances, names)
        assert evaluation.describe()["since_start"]["roc_auc"] == 1.0
        parts.append(evaluation)
    described = merge_all(parts).describe()["since_start"]
    assert described["classes"] == [*(f"label-{i}" for i in range(100)), OTHER]
    assert described["per_class"]["label-70"]["n_labels"] == 2
    assert described["per_class"][OTHER]["n_labels"] == 40
    assert (described["accuracy"], described["roc_auc"]) == (1.0, None)


def test_a_model_of_many_classes_is_evaluated_on_the_first_and_the_rest():
    names = [str(i) for i in range(150)]
    evaluation = Evaluation("classification", 1, 60.0, names)
    chances = np.full((2, 150), 1 / 150)
    evaluation.add(np.zeros(2), ["3", "140"], ["3", "120"], np.zeros(2), chances)
    described = Evaluation.decode(evaluation.encode()).describe()["since_start"]
    assert (described["accuracy"], described["roc_auc"]) == (1.0, None)
    assert described["log_loss"] == pytest.approx((math.log(150) + math.log(3)) / 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": ["0"]}, "labels: must be 2, one for each timestamp, received 1"),
        ({"predictions": ["0"]}, "predictions: must be 2, one for each timestamp, received 1"),
        ({"scores": np.zeros(3)}, "scores: must be 2, one for each timestamp, received 3"),
        ({"probabilities": np.zeros((1, 2))}, "probabilities: must be 2, one for each timestamp, received 1"),
        ({"probabilities": np.zeros((2, 3))}, r"probabilities: shape \(n, 2\) needed, received \(2, 3\)"),
        ({"labels": ["0", None]}, "label: must be a string, boolean or finite number, received None"),
        ({"timestamps": np.array([0.0, np.nan])}, "timestamp: must lie within .* received nan"),
    ],
)
def test_wrong_columns_are_refused_and_nothing_is_counted(wrong, message):
    evaluation = Evaluation("classification", 1, 60.0, ("0", "1"))
    columns = {
        "timestamps": np.zeros(2),
        "labels": ["0", "1"],
        "predictions": ["0", "1"],
        "scores": np.zeros(2),
    }
    with pytest.raises(ValueError, match=message):
        evaluation.add(**{**columns, **wrong})
    assert evaluation.encode() == Evaluation("classification", 1, 60.0, ("0", "1")).encode()


@pytest.mark.parametrize("name", ["labels", "predictions"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused_and_nothing_is_counted(name, number):
    evaluation = Evaluation("regression", 1, 60.0)
    columns = {"timestamps": np.zeros(1), "labels": [1.0], "predictions": [1.0], "scores": np.zeros(1)}
    with pytest.raises(ValueError, match=f"{name}: must be finite, received {number}"):
        evaluation.add(**{**columns, name: [number]})
    assert evaluation.n_labels == 0


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [([1e308, -1e308], [0.0, 0.0]), ([1e300, -1e300], [-1.7e308, 1.7e308]), ([1e155, 1e160], [2.0, 1e308])],
)
def test_numbers_too_large_to_be_squared_count_as_the_largest_and_leave_the_metrics_of_others(
    labels: list[float], predictions: list[float]
):
    evaluation = Evaluation("regression", 1, 60.0)
    with np.errstate(all="raise"):
        for label, prediction in zip(labels, predictions, strict=True):  # batch by batch
            evaluation.add(np.zeros(1), [label], [prediction], np.zeros(1))
        evaluation.add(np.full(3, 90.0), [1.0, 2.0, 4.0], [1.0, 2.0, 3.0], np.zeros(3))
        described = Evaluation.decode(evaluation.encode()).describe()
        assert merge_all([evaluation, evaluation]).describe()["since_start"]["n_labels"] == 10
    since_start = described["since_start"]
    errors = np.abs(np.clip(labels, -1e100, 1e100) - np.clip(predictions, -1e100, 1e100))
    assert since_start["rmse"] == pytest.approx(np.sqrt(np.square(errors).sum() / 5))
    assert since_start["r2"] is not None
    assert described["window"]["mae"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        (("classification", 12, 60.0), ("regression", 12, 60.0), "task"),
        (("regression", 12, 60.0), ("regression", 11, 60.0), "n_panes"),
        (("regression", 12, 60.0), ("regression", 12, 61.0), "pane_seconds"),
        (("classification", 12, 60.0, ("a", "b")), ("classification", 12, 60.0, ("b", "a")), "classes"),
        (
            ("classification", 12, 60.0, (), None, 256),
            ("classification", 12, 60.0, (), None, 512),
            "max_scores",
        ),
    ],
)
def test_only_evaluations_of_the_same_are_merged(one, other, name):
    with pytest.raises(ValueError, match=f"{name}: must be equal to be merged, received "):
        Evaluation(*one).merge(Evaluation(*other))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ranking", 12, 60.0), "task: must be one of "),
        (("regression", 0, 60.0), "n_panes: must be between 1 and 1000, received 0"),
        (("regression", 12, math.inf), "pane_seconds: must be above 0 and finite, received inf"),
        (("regression", 12, 60.0, ("a",)), "classes: a regression has none, received "),
        (("classification", 12, 60.0, ("a", "b"), "c"), "positive: must be one of "),
        (
            ("classification", 12, 60.0, (), None, 100),
            "max_scores: must be between 256 and 1048576, received 100",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(*arguments)


def test_merging_nothing_is_refused():
    with pytest.raises(ValueError, match="evaluations: at least one needed to merge, received none"):
        merge_all([])
