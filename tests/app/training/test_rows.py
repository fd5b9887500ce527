from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from app.settings import Settings
from app.training.request import Request
from app.training.rows import CHUNK_EVENTS, Rows
from compute.training.sample import Sample
from tests.agents.recording import NOW_MS, Worker, batch, event, record

T0 = NOW_MS / 1000 - 10_000
SETTINGS = Settings(warmup_events=3, include_normalised=True, cached_entities=100)


def stream(n: int, n_entities: int = 5, seed: int = 1, step: float = 10.0) -> list[Any]:
    """Return records of an entity's heat and flow, some without flow, some late, some no events at all."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(n):
        key = b"sensor-%d" % rng.integers(n_entities)
        late = 5_000.0 if i > 100 and rng.random() < 0.02 else 0.0
        features = {
            "heat": float(rng.normal(20, 3)),
            "flow": None if rng.random() < 0.1 else float(rng.normal()),
        }
        value = json.dumps({"timestamp": T0 + i * step - late, "features": features, "label": i}).encode()
        records.append(record(i, key, b"{" if rng.random() < 0.02 else value))
    return records


def read(records: list[Any], wanted: Request, sizes: int = 10**6, settings: Settings = SETTINGS) -> Rows:
    rows = Rows(settings, wanted)
    for start in range(0, len(records), sizes):
        rows.add(0, records[start : start + sizes])
    rows.finish()
    return rows


def wanted(**changed: Any) -> Request:
    return Request(**{"task": "regression", "target": "label", "name": "t", "max_events": 10**6, **changed})


def sample_of(rows: Rows, normaliser: str = "window", missing: str = "mean", **options: Any) -> Sample:
    return rows.newest.take(normaliser=normaliser, missing=missing, **options)


def predictions(records: list[Any]) -> dict[int, Any]:
    """Return by offset what a worker publishes."""
    worker = Worker(SETTINGS)

    async def run() -> None:
        for start in range(0, len(records), 170):
            await worker.scorer.score(batch(records[start : start + 170]))

    asyncio.run(run())
    return {int(told["id"].rsplit("-", 1)[1]): told for told in worker.predictions()}


def test_rows_are_what_a_model_would_be_given_while_serving() -> None:
    records = stream(800)
    published = predictions(records)
    rows = read(records, wanted())
    sample = sample_of(rows)
    served = {offset: told for offset, told in published.items() if not told["warming_up"]}
    assert sample.features == ("heat", "flow")
    assert sorted(sample.targets.astype(int).tolist()) == sorted(served)  # the label is the offset
    for offset, inputs in zip(sample.targets.astype(int).tolist(), sample.inputs.tolist(), strict=True):
        told = {"flow": 0.0, **served[offset]["normalised"]}  # a missing feature is at its mean
        assert inputs == pytest.approx([told["heat"], told["flow"]], rel=1e-9, abs=1e-9)
    n_refused = len(records) - len(published)
    assert rows.tally.n_rejected == n_refused > 10
    assert f"refused as dead letters ({', '.join(sorted(rows.tally.rejected))})" in str(rows.tally)
    assert rows.tally.n_warming_up == len(published) - len(served) > 0


def test_any_fetches_give_the_same_rows_to_the_last_bit() -> None:
    records = stream(2 * CHUNK_EVENTS + 500, n_entities=300)
    whole, parts = (sample_of(read(records, wanted(), sizes)) for sizes in (10**6, 77))
    assert np.array_equal(whole.inputs, parts.inputs)
    assert np.array_equal(whole.targets, parts.targets)


def test_entities_that_leave_memory_come_back_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    records = stream(3 * CHUNK_EVENTS, n_entities=400, step=0.5)
    kept = sample_of(read(records, wanted(), settings=SETTINGS.model_copy(update={"cached_entities": 10**6})))
    monkeypatch.setattr("app.training.rows.CHECKPOINT_CHUNKS", 1)
    rows = read(records, wanted())
    assert len(rows._partitions[0].partition) <= 100
    found = sample_of(rows)
    np.testing.assert_allclose(found.inputs, kept.inputs, rtol=1e-9, atol=1e-12)
    assert len(found.inputs) > 2 * CHUNK_EVENTS


def test_raw_features_need_no_warming_up() -> None:
    records = [record(i, b"a", event_with_label(i, "x", heat=i)) for i in range(5)]
    rows = read(records, wanted(normaliser="none", task="classification"))
    assert sample_of(rows, "none").inputs.ravel().tolist() == [0, 1, 2, 3, 4]


def event_with_label(i: int, label: Any, **features: Any) -> bytes:
    return json.dumps({"timestamp": T0 + i, "features": features, "label": label}).encode()


@pytest.mark.parametrize(
    ("task", "labels", "targets", "n_unusable"),
    [
        ("classification", [1, 1.0, True, "1", 0], [1, 1, 1, 1, 0], 0),
        ("classification", ["spam", 2, "ham", None, "spam"], ["spam", "2", "ham", "spam"], 0),
        ("regression", [1, 2.5, "3", True, None], [1.0, 2.5], 2),
    ],
)
def test_a_label_counts_as_it_does_in_evaluation(
    task: str, labels: list[Any], targets: list[Any], n_unusable: int
) -> None:
    records = [record(i, b"a", event_with_label(i, label, heat=i)) for i, label in enumerate(labels)]
    rows = read(records, wanted(task=task, normaliser="none"))
    assert sample_of(rows, "none").targets.tolist() == targets
    assert rows.tally.n_unusable == n_unusable
    assert rows.tally.n_unlabelled == labels.count(None)


def test_a_feature_can_be_the_target() -> None:
    records = [record(i, b"a", event(T0 + i, heat=i, flow=None if i == 2 else i * 10)) for i in range(4)]
    rows = read(records, wanted(target="flow", normaliser="none"))
    sample = sample_of(rows, "none", without="flow")
    assert (sample.features, sample.inputs.ravel().tolist()) == (("heat",), [0, 1, 3])
    assert sample.targets.tolist() == [0, 10, 30]
    assert read(records, wanted(target="absent")).tally.n_unlabelled == 4


def test_a_label_of_its_own_wins_over_a_later_one() -> None:
    records = [record(i, b"a", event_with_label(i, None if i else 5, heat=i)) for i in range(3)]
    later = {0: 50, 1: 51}
    rows = Rows(SETTINGS, wanted(normaliser="none"), lambda found: later.get(found.offset))
    rows.add(0, records)
    rows.finish()
    assert sample_of(rows, "none").targets.tolist() == [5, 51]


def test_events_outside_of_the_time_asked_for_teach_the_statistics_and_are_no_rows() -> None:
    records = stream(300)
    inside = wanted(from_seconds=T0 + 1_000, to_seconds=T0 + 2_000)
    rows, whole = read(records, inside), sample_of(read(records, wanted()))
    sample = sample_of(rows)
    chosen = (whole.timestamps >= T0 + 1_000) & (whole.timestamps < T0 + 2_000)
    assert np.array_equal(sample.inputs, whole.inputs[chosen])
    assert 90 < len(sample.inputs) <= 100
    assert rows.tally.n_outside > 150
    assert "outside of --from and --to" in str(rows.tally)


def test_what_was_left_out_is_told() -> None:
    records = stream(100)
    told = str(read(records, wanted()).tally)
    assert told.startswith("100 events read, ")
    assert "warming up" in told
    assert "refused as dead letters" in told
    assert str(read([], wanted()).tally) == "0 events read, none left out"
