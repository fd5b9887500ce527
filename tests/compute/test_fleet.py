from __future__ import annotations

import time
from itertools import islice

import numpy as np
import pytest

from compute.fleet import (
    DEFAULT_START_SECONDS,
    FAULT_KINDS,
    FEATURE_NAMES,
    QUIET_STEPS,
    FleetBlock,
    simulate,
)


def gather(blocks: list[FleetBlock]) -> FleetBlock:
    return FleetBlock(
        *(
            np.concatenate([getattr(block, name) for block in blocks])
            for name in ("entities", "timestamps", "features", "labels", "kinds")
        )
    )


def run(n_entities: int, seed: int, n_events: int, **options: float) -> FleetBlock:
    return gather(list(simulate(n_entities, seed, n_events=n_events, **options)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fleet() -> FleetBlock:
    return run(50, 3, 300_000)


def same(one: FleetBlock, other: FleetBlock) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "features")
        for name in ("entities", "timestamps", "features", "labels", "kinds")
    )


def test_the_same_seed_gives_the_same_events() -> None:
    assert same(run(7, 11, 20_000), run(7, 11, 20_000))


def test_another_seed_gives_other_events() -> None:
    assert not np.array_equal(run(7, 11, 100).features, run(7, 12, 100).features)


@pytest.mark.parametrize("n_entities", [1, 3, 100, 70_000])
def test_a_longer_run_starts_with_the_shorter_one(n_entities: int) -> None:
    short, long = run(n_entities, 5, 100_001), run(n_entities, 5, 150_000)
    head = FleetBlock(
        *(getattr(long, name)[:100_001] for name in ("entities", "timestamps", "features", "labels", "kinds"))
    )
    assert same(short, head)


@pytest.mark.parametrize("n_events", [0, 1, 65_535, 65_536, 65_537])
def test_as_many_events_as_asked_for(n_events: int) -> None:
    assert sum(len(block.entities) for block in simulate(4, n_events=n_events)) == n_events


def test_without_a_number_of_events_there_is_no_end() -> None:
    assert sum(len(block.entities) for block in islice(simulate(100), 5)) > 200_000


def test_time_never_goes_back_and_each_machine_reports_once_a_step(fleet: FleetBlock) -> None:
    assert (np.diff(fleet.timestamps) >= 0).all()
    steps = np.floor(fleet.timestamps - DEFAULT_START_SECONDS + 1e-6)
    assert len(set(zip(fleet.entities.tolist(), steps.tolist(), strict=True))) == len(steps)


def test_interval_and_start_set_the_clock() -> None:
    block = run(1, 0, 10, start_seconds=1_000.0, interval_seconds=60.0)
    assert 1_000.0 <= block.timestamps[0] < 1_060.0
    assert np.allclose(np.diff(block.timestamps), 60.0)


def test_every_kind_of_fault_occurs_and_is_labelled(fleet: FleetBlock) -> None:
    assert set(np.unique(fleet.kinds)) == set(range(len(FAULT_KINDS)))
    assert np.array_equal(fleet.labels == 1, fleet.kinds > 0)
    assert 0.005 < fleet.labels.mean() < 0.05


def test_without_faults_nothing_is_labelled_or_missing() -> None:
    block = run(20, 1, 50_000, fault_probability=0.0)
    assert not block.labels.any()
    assert np.isfinite(block.features).all()


def test_faults_leave_a_quiet_start() -> None:
    block = run(20, 1, 20 * QUIET_STEPS, fault_probability=1.0)
    assert not block.labels.any()


def test_only_a_dropout_has_missing_values_and_in_one_feature(fleet: FleetBlock) -> None:
    missing = np.isnan(fleet.features).sum(axis=1)
    dropout = fleet.kinds == FAULT_KINDS.index("dropout")
    assert (missing[dropout] == 1).all()
    assert (missing[~dropout] == 0).all()


def test_values_are_physical(fleet: FleetBlock) -> None:
    low, high = np.nanmin(fleet.features, axis=0), np.nanmax(fleet.features, axis=0)
    assert (low >= 0).all()
    normal = fleet.features[fleet.labels == 0]
    bounds = {
        "temperature": (30, 95),
        "vibration": (0.5, 5),
        "pressure": (3, 9),
        "current": (2, 40),
        "speed": (1_100, 1_900),
    }
    for column, name in enumerate(FEATURE_NAMES):
        assert normal[:, column].min() > bounds[name][0], name
        assert normal[:, column].max() < bounds[name][1], name
    assert (high < 5_000).all()


def test_features_of_a_machine_move_together_with_its_load() -> None:
    block = run(1, 2, 86_400, fault_probability=0.0)
    correlation = np.corrcoef(block.features.T)
    temperature, pressure, current = (FEATURE_NAMES.index(n) for n in ("temperature", "pressure", "current"))
    assert correlation[temperature, current] > 0.9
    assert correlation[temperature, pressure] < -0.8


def test_a_day_repeats_itself() -> None:
    block = run(1, 2, 3 * 1_440, interval_seconds=60.0, fault_probability=0.0)
    days = block.features[:, 0].reshape(3, 24, 60).mean(axis=2)
    assert np.corrcoef(days)[0, 1] > 0.95
    assert np.ptp(days[0]) > 5


def faulty_values(kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of one machine's sensor with a fault and the same without, from onset to end."""
    number = FAULT_KINDS.index(kind)
    pairs = []
    for seed in range(6):
        with_faults = run(20, seed, 20 * 512, fault_probability=1.0)
        without = run(20, seed, 20 * 512, fault_probability=0.0)
        for entity in range(20):
            rows = (with_faults.entities == entity) & (with_faults.kinds == number)
            changed = (with_faults.features[rows] != without.features[rows]).any(axis=0)
            if rows.any():
                column = int(np.argmax(changed))
                pairs.append((with_faults.features[rows, column], without.features[rows, column]))
    assert pairs
    return pairs


def test_a_stuck_sensor_says_the_same_number_again() -> None:
    assert all(len(np.unique(faulty)) == 1 for faulty, _ in faulty_values("stuck"))


def test_a_drift_grows() -> None:
    for faulty, normal in faulty_values("drift"):
        gap = np.abs(faulty - normal)
        assert gap[-1] > gap[0] or faulty[-1] == 0.0  # a value that drifts below zero stays there


def test_a_level_shift_stays_and_a_spike_is_short() -> None:
    for faulty, normal in faulty_values("level-shift"):
        gap = (faulty - normal)[faulty > 0]
        assert np.allclose(gap, gap[0] if len(gap) else 0, atol=0.01)
    assert all(1 <= len(faulty) <= 3 for faulty, _ in faulty_values("spike"))


def test_a_noise_burst_is_louder_than_usual() -> None:
    ratios = [
        np.std(np.diff(faulty)) / np.std(np.diff(normal)) for faulty, normal in faulty_values("noise-burst")
    ]
    assert min(ratios) > 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_entities": 0}, "n_entities must be from 1 to 10,000,000, received 0"),
        ({"seed": -1}, "seed must be 0 or more, received -1"),
        ({"interval_seconds": 0.0}, "interval_seconds must be above 0, received 0.0"),
        ({"n_events": -1}, "n_events must be 0 or more, received -1"),
        ({"fault_probability": 1.5}, "fault_probability must be from 0 to 1, received 1.5"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        next(simulate(**options))  # type: ignore[arg-type]
    assert str(error.value) == message


def test_generation_is_far_faster_than_any_replay() -> None:
    start = time.perf_counter()
    n_events = sum(len(block.entities) for block in simulate(1_000, n_events=500_000))
    assert n_events / (time.perf_counter() - start) > 200_000
