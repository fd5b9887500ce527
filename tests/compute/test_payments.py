from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from compute.payments import (
    BLOCK_EVENTS,
    DEFAULT_START_SECONDS,
    FEATURE_NAMES,
    FEATURE_UNITS,
    FRAUD_SHARE,
    PaymentBlock,
    simulate,
)

COLUMNS = ("entities", "timestamps", "features", "labels")
CHANGE = 20_000


def run(n_events: int, seed: int = 1, **options: float) -> PaymentBlock:
    blocks = list(simulate(40, seed, n_events=n_events, **options))  # type: ignore[arg-type]
    return PaymentBlock(*(np.concatenate([getattr(block, name) for block in blocks]) for name in COLUMNS))


def head(block: PaymentBlock, n: int) -> PaymentBlock:
    return PaymentBlock(*(getattr(block, name)[:n] for name in COLUMNS))


def same(one: PaymentBlock, other: PaymentBlock) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


@pytest.fixture(scope="module")
def payments() -> PaymentBlock:
    return run(2 * CHANGE, change_after=CHANGE)


def test_the_same_seed_gives_the_same_events_and_another_gives_others() -> None:
    assert same(run(9_000), run(9_000))
    assert not np.array_equal(run(100).features, run(100, seed=2).features)


@pytest.mark.parametrize("n_events", [1, BLOCK_EVENTS - 1, BLOCK_EVENTS, BLOCK_EVENTS + 1, 10_000])
def test_a_longer_run_starts_with_the_shorter_one(n_events: int) -> None:
    short = run(n_events, change_after=3_000)
    assert len(short.labels) == n_events
    assert same(short, head(run(n_events + 7_000, change_after=3_000), n_events))


def test_no_events_are_no_blocks_and_without_a_number_there_is_no_end() -> None:
    assert list(simulate(3, n_events=0)) == []
    assert sum(len(block.labels) for block in islice(simulate(3), 5)) == 5 * BLOCK_EVENTS


@pytest.mark.parametrize("change_after", [0, 1, 5_000, BLOCK_EVENTS])
def test_until_the_change_the_events_are_those_of_a_world_without_one(change_after: int) -> None:
    changed, unchanged = run(12_000, change_after=change_after), run(12_000)
    assert same(head(changed, change_after), head(unchanged, change_after))
    differs = (changed.features != unchanged.features).any(axis=1)
    assert differs[change_after:].mean() > 0.99
    # Who pays when, and what is fraud, is the same in both.
    assert np.array_equal(changed.entities, unchanged.entities)
    assert np.array_equal(changed.labels, unchanged.labels)


def test_time_never_goes_back_and_cards_pay_as_often_as_asked(payments: PaymentBlock) -> None:
    assert (np.diff(payments.timestamps) >= 0).all()
    assert payments.timestamps[0] >= DEFAULT_START_SECONDS
    block = run(10_000, interval_seconds=60.0, start_seconds=1_000.0)
    assert np.ptp(block.timestamps) == pytest.approx(10_000 * 60.0 / 40, rel=0.01)
    assert 1_000.0 <= block.timestamps[0] < 1_002.0
    assert np.bincount(block.entities, minlength=40).min() > 150


def test_values_are_possible(payments: PaymentBlock) -> None:
    assert len(FEATURE_NAMES) == len(FEATURE_UNITS) == payments.features.shape[1]
    amount, distance, hour, n_recent, risk = payments.features.T
    assert np.isfinite(payments.features).all()
    assert amount.min() >= 0
    assert distance.min() >= 0
    assert hour.min() >= 0
    assert hour.max() < 24
    assert np.array_equal(n_recent, np.round(n_recent))
    assert risk.min() >= 0
    assert risk.max() <= 1


def test_the_share_of_fraud_is_the_same_before_and_after(payments: PaymentBlock) -> None:
    for labels in (payments.labels[:CHANGE], payments.labels[CHANGE:]):
        assert labels.mean() == pytest.approx(FRAUD_SHARE, abs=0.02)


def test_what_was_learnt_is_wrong_after_the_change_and_can_be_learnt_anew(payments: PaymentBlock) -> None:
    def learn(rows: slice) -> HistGradientBoostingClassifier:
        model = HistGradientBoostingClassifier(random_state=0)
        return model.fit(payments.features[rows], payments.labels[rows])

    def accuracy(model: HistGradientBoostingClassifier, rows: slice) -> float:
        return float(model.score(payments.features[rows], payments.labels[rows]))

    before, after = slice(CHANGE // 2, CHANGE), slice(CHANGE + CHANGE // 2, None)
    old = learn(slice(0, 4_000))
    new = learn(slice(CHANGE, CHANGE + 4_000))
    # Good, and never perfect; always saying "no fraud" would be right 0.81 of the time.
    assert 0.92 < accuracy(old, before) < 0.96
    assert accuracy(old, after) < 0.75
    assert 0.92 < accuracy(new, after) < 0.96


def test_features_drift_with_the_change(payments: PaymentBlock) -> None:
    logs = np.log1p(payments.features)
    moved = np.abs(logs[CHANGE:].mean(axis=0) - logs[:CHANGE].mean(axis=0)) / logs[:CHANGE].std(axis=0)
    assert moved[FEATURE_NAMES.index("n_recent")] > 0.3
    assert moved[FEATURE_NAMES.index("distance")] > 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_entities": 0}, "n_entities must be from 1 to 10,000,000, received 0"),
        ({"seed": -1}, "seed must be 0 or more, received -1"),
        ({"interval_seconds": 0.0}, "interval_seconds must be above 0, received 0.0"),
        ({"n_events": -1}, "n_events must be 0 or more, received -1"),
        ({"change_after": -1}, "change_after must be 0 or more, received -1"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        next(simulate(**options))  # type: ignore[arg-type]
    assert str(error.value) == message
