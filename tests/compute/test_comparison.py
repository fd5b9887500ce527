from __future__ import annotations

import json
import math
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from compute.comparison import Comparison
from compute.evidence import log_e_value
from tests.fuzz.amount import amount
from tests.fuzz.mutations import mutated

names = st.sampled_from(["a", "b", "c"])
numbers = st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(-100, 100))


def paired(task, rows):
    comparison = Comparison(task)
    comparison.add(*(list(column) for column in zip(*rows, strict=True)))
    return comparison


@given(st.lists(st.tuples(names, names, names), min_size=1, max_size=40))
def test_classes_are_counted_as_one_by_one(rows):
    described = paired("classification", rows).describe()
    labels, champion, challenger = zip(*rows, strict=True)
    pairs = [(c == label, d == label) for label, c, d in rows]
    for name, wanted in (
        ("both_right", (True, True)),
        ("champion_only", (True, False)),
        ("challenger_only", (False, True)),
        ("both_wrong", (False, False)),
    ):
        assert described[name] == pairs.count(wanted)
    before, after = (metrics.accuracy_score(labels, column) for column in (champion, challenger))
    assert described["champion"] == {"accuracy": pytest.approx(before)}
    assert described["challenger"] == {"accuracy": pytest.approx(after)}
    assert described["difference"] == pytest.approx(after - before)
    won, lost = described["challenger_only"], described["champion_only"]
    assert described["p_value"] == pytest.approx(binomtest(won, won + lost).pvalue if won + lost else 1.0)


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=40))
def test_numbers_are_counted_as_one_by_one(rows):
    described = paired("regression", rows).describe()
    labels, champion, challenger = zip(*rows, strict=True)
    errors = [(abs(c - label), abs(d - label)) for label, c, d in rows]
    assert described["champion_only"] == sum(c < d for c, d in errors)
    assert described["challenger_only"] == sum(d < c for c, d in errors)
    assert described["both_right"] == sum(c == d == 0 for c, d in errors)
    assert described["n_labels"] == len(rows)
    for name, column in (("champion", champion), ("challenger", challenger)):
        assert described[name] == {
            "mae": pytest.approx(metrics.mean_absolute_error(labels, column)),
            "rmse": pytest.approx(metrics.root_mean_squared_error(labels, column)),
        }
    before, after = described["champion"]["rmse"], described["challenger"]["rmse"]
    wanted = 1 - after / before if before else (None if after else 0.0)
    assert described["difference"] == wanted


@settings(deadline=None)
@given(
    st.sampled_from(["classification", "regression"]),
    st.data(),
    st.permutations(range(3)),
    st.booleans(),
)
def test_any_split_merged_in_any_order_gives_the_same(task, data, order, stored):
    one = names if task == "classification" else st.integers(-5, 5).map(float)
    rows = data.draw(st.lists(st.tuples(one, one, one, st.integers(0, 2)), max_size=30))
    at_once, merged = Comparison(task), Comparison(task)
    for label, champion, challenger, _ in rows:
        at_once.add([label], [champion], [challenger])
    for part in order:
        mine = [row[:3] for row in rows if row[3] == part]
        other = paired(task, mine) if mine else Comparison(task)
        before = other.encode()
        merged.merge(Comparison.decode(before) if stored else other)
        assert other.encode() == before
    assert merged.encode() == at_once.encode()
    assert merged.describe() == at_once.describe()
    assert Comparison.decode(merged.encode()).describe() == merged.describe()


def of_counts(both_right=0, champion_only=0, challenger_only=0, both_wrong=0):
    comparison = Comparison("classification")
    comparison.both_right, comparison.both_wrong = both_right, both_wrong
    comparison.champion_only, comparison.challenger_only = champion_only, challenger_only
    return comparison


def test_a_challenger_is_better_by_labels_margin_and_evidence():
    comparison = of_counts(both_right=800, champion_only=40, challenger_only=100, both_wrong=60)
    better, evidence = comparison.verdict(margin=0.05, significance=0.01, min_labels=1000)
    assert better
    assert evidence["difference"] == 0.06
    assert evidence["e_value"] > evidence["e_value_needed"] == pytest.approx(200)
    assert (evidence["better"], evidence["margin"], evidence["min_labels"]) == (True, 0.05, 1000)
    assert evidence["challenger_number"] == 1
    json.dumps(evidence, allow_nan=False)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"min_labels": 1001}, "1000 labels, 1001 needed"),
        ({"margin": 0.061}, "the difference is 0.06, at least 0.061 and above 0 needed"),
        ({"significance": 1e-9}, "the evidence is .*, 2e\\+09 needed"),
        ({"number": 100}, "the evidence is .*, 1.01e\\+06 needed"),
    ],
)
def test_what_is_missing_is_said(options, reason):
    comparison = of_counts(both_right=800, champion_only=40, challenger_only=100, both_wrong=60)
    better, evidence = comparison.verdict(
        **{"margin": 0.0, "significance": 0.01, "min_labels": 200, **options}
    )
    assert not better
    assert re.fullmatch(reason, evidence["reason"])


def test_a_worse_challenger_is_never_better_whatever_the_margin():
    assert not of_counts(champion_only=100, challenger_only=10).verdict(0.0, 0.5, 0)[0]
    assert not of_counts(both_right=1000).verdict(0.0, 0.5, 0)[0]
    assert not of_counts().verdict(0.0, 0.5, 0)[0]


def test_smaller_errors_mostly_are_not_better_when_the_rest_are_huge():
    comparison = Comparison("regression")
    comparison.add(np.zeros(1000), np.ones(1000), np.r_[np.full(999, 0.9), 1e3])
    better, evidence = comparison.verdict(0.0, 0.01, 200)
    assert evidence["e_value"] > 100
    assert evidence["difference"] < 0
    assert not better


def test_smaller_errors_mostly_are_not_better_when_the_rest_make_up_for_it():
    comparison = Comparison("regression")
    comparison.add(np.zeros(100), np.ones(100), np.r_[np.zeros(99), 10.0])
    better, evidence = comparison.verdict(0.0, 0.01, 100)
    assert (better, evidence["difference"]) == (False, 0.0)


def test_a_margin_of_numbers_is_the_part_of_the_rmse_that_is_saved():
    comparison = Comparison("regression")
    comparison.add(np.zeros(300), np.full(300, 10.0), np.full(300, 9.0))
    assert comparison.verdict(0.09, 0.01, 200)[0]
    assert not comparison.verdict(0.11, 0.01, 200)[0]


def runs(p_win, n_runs, n_pairs, seed):
    """Wins and losses of the challenger after each pair of each run."""
    wins = np.cumsum(np.random.default_rng(seed).random((n_runs, n_pairs)) < p_win, axis=1)
    return wins, np.arange(1, n_pairs + 1) - wins


def verdicts(wins, losses):
    """What the rule says after each pair."""
    pairs = list(zip(wins.ravel().tolist(), losses.ravel().tolist(), strict=True))
    said = {
        (won, lost): of_counts(champion_only=lost, challenger_only=won).verdict(0.0, 0.01, 0)[0]
        for won, lost in set(pairs)
    }
    return np.array([said[pair] for pair in pairs]).reshape(wins.shape)


def test_a_challenger_that_is_as_good_is_rarely_promoted_though_the_rule_looks_after_every_pair():
    wins, losses = runs(0.5, n_runs=1_000, n_pairs=1_000, seed=11)
    assert verdicts(wins, losses).any(axis=1).mean() <= 0.01
    # A one-sided p-value of 0.01, valid for one look, says so to many more of them.
    assert ((wins - losses) / np.sqrt(wins + losses) > 2.326).any(axis=1).mean() > 0.08


def test_a_better_challenger_is_promoted():
    promoted = verdicts(*runs(0.6, n_runs=300, n_pairs=1_000, seed=12))
    assert promoted.any(axis=1).mean() > 0.98


def test_a_difference_is_found_soon_after_there_is_evidence():
    n_needed = next(n for n in range(1, 500) if of_counts(challenger_only=n).verdict(0.0, 0.01, 0)[0])
    assert log_e_value(n_needed, 0) >= math.log(200) > log_e_value(n_needed - 1, 0)
    assert n_needed == 11


def test_evidence_beyond_what_json_holds_is_cut():
    evidence = of_counts(challenger_only=10**8).describe()
    assert 1e299 < evidence["e_value"] < math.inf
    assert evidence["p_value"] == 0.0
    json.dumps(evidence, allow_nan=False)


def test_errors_that_overflow_have_no_metric_and_make_nobody_better():
    comparison = Comparison("regression")
    with np.errstate(all="raise"):
        comparison.add([1e300] * 50, [-1e300] * 50, [1e300] * 50)
    described = Comparison.decode(comparison.encode()).describe()
    assert described["champion"]["rmse"] is None
    assert described["difference"] is None
    assert not comparison.verdict(0.0, 0.01, 10)[0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((["a"], ["a", "b"], ["a"]), "champion_predictions: 1 needed, one for each label, received 2"),
        ((["a"], ["a"], []), "challenger_predictions: 1 needed, one for each label, received 0"),
    ],
)
def test_columns_of_other_lengths_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        Comparison("classification").add(*columns)


def test_wrong_tasks_numbers_and_levels_are_refused():
    with pytest.raises(ValueError, match="task: must be one of"):
        Comparison("ranking")
    with pytest.raises(ValueError, match="task: must be equal to be merged"):
        Comparison("regression").merge(Comparison("classification"))
    comparison = Comparison("regression")
    with pytest.raises(ValueError, match="challenger_predictions: must be finite, received nan"):
        comparison.add([1.0], [1.0], [math.nan])
    assert comparison.encode() == Comparison("regression").encode()
    with pytest.raises(ValueError, match="significance: must be between 0 and 1, received 0"):
        comparison.verdict(0.0, 0, 10)
    with pytest.raises(ValueError, match="number: must be 1 or more, received 0"):
        comparison.verdict(0.0, 0.01, 10, 0)


STORED = [
    paired("classification", [("a", "b", "a"), ("a", "a", "a")]).encode(),
    paired("regression", [(1.0, 2.0, 3.0), (2.0, 2.0, 2.5)]).encode(),
]


@amount(300)
@given(st.one_of(mutated(STORED[0]), mutated(STORED[1]), st.binary(min_size=68, max_size=68)))
def test_a_value_is_read_or_refused_in_one_line(stored):
    try:
        found = Comparison.decode(stored)
    except ValueError as error:
        found, message = None, str(error)
    if found is None:
        assert "\n" not in message
        return
    assert found.encode() == stored
    json.dumps(found.verdict(0.0, 0.01, 10)[1], allow_nan=False)
    found.merge(found)


@pytest.mark.parametrize(
    ("at", "layout", "value", "message"),
    [
        (0, "2s", b"NE", "must begin with"),
        (3, "B", 2, "must begin with"),
        (4, "Q", 2**60, "labels at most needed"),
        (36, "d", -1.0, "errors cannot be"),
        (36, "d", math.nan, "errors cannot be"),
    ],
)
def test_what_no_outcomes_lead_to_is_refused(at, layout, value, message):
    stored = bytearray(STORED[1])
    struct.pack_into(f"<{layout}", stored, at, value)
    with pytest.raises(ValueError, match=message):
        Comparison.decode(bytes(stored))
