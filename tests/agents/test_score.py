"""The score hop without a broker: what comes out of record batches."""

from __future__ import annotations

import asyncio
import itertools
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents.score import TopicEndError
from app.settings import Settings
from tests.agents.recording import NOW_MS, DictStore, Worker, batch, event, record

T0 = NOW_MS / 1000 - 10_000


@pytest.fixture
def settings() -> Settings:
    return Settings(warmup_events=3, alert_min_support=3, alert_cooldown_seconds=100)


def score(worker: Worker, *batches: list[Any]) -> None:
    async def run() -> None:
        for records in batches:
            await worker.scorer.score(batch(records))

    asyncio.run(run())


def stream(n: int, n_entities: int = 3, first_offset: int = 0, seed: int = 1) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        record(
            first_offset + i,
            b"sensor-%d" % rng.integers(n_entities),
            event(T0 + first_offset + i, heat=float(rng.normal()), flow=float(rng.normal(5, 2))),
        )
        for i in range(n)
    ]


def test_every_event_has_a_prediction_with_its_id_key_and_time(settings: Settings) -> None:
    worker, records = Worker(settings), stream(50)
    score(worker, records)
    assert [p["id"] for p in worker.predictions()] == [f"events-0-{i}" for i in range(50)]
    assert [p["key"].encode() for p in worker.predictions()] == [r.key for r in records]
    assert [p["timestamp"] for p in worker.predictions()] == [T0 + i for i in range(50)]
    assert [sent.key for sent in worker.producer.of("predictions")] == [r.key for r in records]
    assert {p["model"] for p in worker.predictions()} == {"detector"}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
@hypothesis_settings(deadline=None, max_examples=25)
def test_any_split_into_batches_gives_the_same_predictions(sizes: list[int]) -> None:
    settings = Settings(warmup_events=3, alert_min_support=3)
    records = stream(sum(sizes))
    whole, split = Worker(settings), Worker(settings)
    score(whole, records)
    cut = np.cumsum([0, *sizes]).tolist()
    score(split, *[records[a:b] for a, b in itertools.pairwise(cut)])
    for one, other in zip(whole.predictions(), split.predictions(), strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), rel=1e-9, abs=1e-12)
        assert one == other


def test_scores_are_normalised_by_what_came_before(settings: Settings) -> None:
    worker = Worker(settings)
    values = [10.0, 12.0, 11.0, 13.0, 30.0]
    score(worker, [record(i, b"a", event(T0 + i, heat=v)) for i, v in enumerate(values)])
    z = (30.0 - np.mean(values[:4])) / np.std(values[:4])
    assert worker.predictions()[-1]["score"] == pytest.approx(z**2 / (z**2 + 9))
    assert [p["warming_up"] for p in worker.predictions()] == [True, True, True, False, False]
    assert [p["score"] for p in worker.predictions()[:3]] == [0.0, 0.0, 0.0]


BAD = [
    (None, event(T0, heat=1), "missing-key"),
    (b"a", b"{", "invalid-json"),
    (b"a", None, "invalid-json"),
    (b"a", event(None, heat=1), "invalid-timestamp"),
    (b"a", event("yesterday", heat=1), "invalid-timestamp"),
    (b"a", event(T0, heat="hot"), "invalid-features"),
    (b"a", json.dumps({"timestamp": T0, "features": [1]}).encode(), "invalid-features"),
    (b"a", event(T0, heat=float("nan")), "not-finite"),
    (b"a", event(T0, heat=float("inf")), "not-finite"),
    (b"a", event(T0, **{f"f{i}": 1.0 for i in range(300)}), "too-many-features"),
    (b"a", event(T0, heat=1, pad="x" * 2_000_000), "too-large"),
    (b"a", event(T0 * 1000, heat=1), "future-event"),
    (b"\xff" * 20_000, event(T0, heat=1), "too-large"),
]


def test_bad_events_become_dead_letters_and_stop_nothing(settings: Settings) -> None:
    worker = Worker(settings)
    headers = (("trace", b"7"),)
    records = [record(2 * i + 1, key, value, headers) for i, (key, value, _) in enumerate(BAD)]
    records += [record(2 * i, b"a", event(T0 + i, heat=1.0)) for i in range(len(BAD) + 1)]
    score(worker, sorted(records, key=lambda r: r.offset))
    assert len(worker.predictions()) == len(BAD) + 1
    letters = worker.dead_letters()
    assert [dict(letter.headers)["error"].decode() for letter in letters] == [code for _, _, code in BAD]
    for i, (letter, (key, value, _)) in enumerate(zip(letters, BAD, strict=True)):
        assert (letter.key, letter.value) == (key, value)  # the original bytes
        assert letter.headers[0] == ("trace", b"7")
        found = dict(letter.headers)
        assert found["source-topic"] == b"events"
        assert found["source-partition"] == b"0"
        assert found["source-offset"] == str(2 * i + 1).encode()
        assert found["error-message"]
        assert found["stage"]
    assert worker.metrics.totals()["n_dead_letters"]["future-event"] == 1


def test_a_dead_letter_larger_than_its_topic_takes_is_cut_and_says_so(settings: Settings) -> None:
    worker = Worker(settings)
    value = b"x" * 5_000_000  # a producer that compresses can send it
    score(worker, [record(0, b"k" * 3_000_000, value, (("trace", b"y" * 1_000_000),))])
    (letter,) = worker.dead_letters()
    headers = dict(letter.headers)
    assert headers["error"] == b"too-large"
    assert headers["truncated"] == b"9000005"
    assert "trace" not in headers
    size = len(letter.key or b"") + len(letter.value or b"")
    assert size == settings.max_dead_letter_bytes


def test_the_stage_says_whether_an_event_could_be_decoded(settings: Settings) -> None:
    worker = Worker(settings)
    records = [
        record(0, b"a", event(T0 + 5000, heat=1.0)),
        record(1, b"a", event(T0, heat=1.0)),
        record(2, b"a", b"{"),
    ]
    score(worker, records)
    stages = [dict(letter.headers)["stage"] for letter in worker.dead_letters()]
    assert stages == [b"score", b"decode"]


def test_milliseconds_given_as_seconds_do_not_empty_the_window(settings: Settings) -> None:
    worker = Worker(settings)
    score(worker, [record(i, b"a", event(T0 + i, heat=float(i % 3))) for i in range(20)])
    score(worker, [record(20, b"a", event((T0 + 20) * 1000, heat=1.0))])
    score(worker, [record(21, b"a", event(T0 + 21, heat=1.0))])
    assert worker.predictions()[-1]["warming_up"] is False


def test_an_event_older_than_the_window_is_a_late_dead_letter(settings: Settings) -> None:
    worker = Worker(settings)
    score(
        worker,
        [
            record(0, b"a", event(T0 + 5000, heat=1.0)),
            record(1, b"a", event(T0 + 1000, heat=1.0)),
            record(2, b"b", event(T0 + 1000, heat=1.0)),
        ],
    )
    assert [p["id"] for p in worker.predictions()] == ["events-0-0", "events-0-2"]
    assert [dict(letter.headers)["error"] for letter in worker.dead_letters()] == [b"late-event"]


def test_an_outlier_fires_once_and_resolves(settings: Settings) -> None:
    worker = Worker(settings)
    rng = np.random.default_rng(3)
    values = [*rng.normal(20, 1, 40), 80.0, 80.0, *rng.normal(20, 1, 3)]
    score(worker, [record(i, b"a", event(T0 + i, heat=v, flow=1.0)) for i, v in enumerate(values)])
    firing, *more, resolved = worker.alerts()
    assert firing["id"] == "events-0-40-score-firing"
    assert firing["state"] == "firing"
    assert firing["severity"] == "critical"
    assert firing["threshold"] == settings.alert_threshold
    assert resolved["state"] == "resolved"
    assert not more
    reason = firing["reasons"][0]
    assert reason["feature"] == "heat"
    assert reason["value"] == 80.0
    assert reason["mean"] == pytest.approx(np.mean(values[:40]))
    assert reason["z"] == pytest.approx((80 - np.mean(values[:40])) / np.std(values[:40]))
    assert sum(r["share"] for r in firing["reasons"]) == pytest.approx(1)
    assert worker.scorer.recent_alerts()[0]["id"] == resolved["id"]


def test_what_is_read_again_in_the_same_session_is_answered_once(settings: Settings) -> None:
    worker, records = Worker(settings), stream(30)
    score(worker, records[:10], records[:20], records[5:10], records[15:])
    assert [p["id"] for p in worker.predictions()] == [f"events-0-{i}" for i in range(30)]
    assert worker.metrics.totals()["n_events"] == 30


def test_what_is_in_the_state_was_answered_and_is_left_out_when_it_is_read_again(settings: Settings) -> None:
    worker = Worker(settings)
    records = [record(i, b"a", event(T0 + i, heat=float(i % 3))) for i in range(40)]
    records.append(record(40, b"a", event(T0 + 40, heat=500.0)))
    score(worker, records)
    partition = worker.table.partition(0)
    before = partition.columns.window.count.copy(), partition.columns.window.mean.copy()
    n_predictions, n_alerts = len(worker.predictions()), len(worker.alerts())
    assert n_alerts == 1
    worker.scorer.next_offsets.clear()  # a new session: after a rebalance, or a crash
    score(worker, records)
    assert len(worker.predictions()) == n_predictions
    assert len(worker.alerts()) == n_alerts
    assert worker.scorer.next_offsets == {TP("events", 0): 41}  # it is to be committed all the same
    np.testing.assert_array_equal(partition.columns.window.count, before[0])
    np.testing.assert_array_equal(partition.columns.window.mean, before[1])


def test_an_entity_ahead_of_its_partition_learns_and_answers_nothing_again(settings: Settings) -> None:
    store = DictStore()
    first = Worker(settings, store)
    records = [record(i, b"ab"[i % 2 : i % 2 + 1], event(T0 + i, heat=float(i % 3))) for i in range(20)]
    score(first, records)
    # A crash amid the changelog: one entity of a checkpoint is there, its partition's record is not.
    ((key, value), *_) = first.table.take_changes()[0]
    store.write(0, [(key, value)], 0)
    second = Worker(settings, store)
    score(second, records)
    assert key == b"a"
    assert [p["id"] for p in second.predictions()] == [f"events-0-{i}" for i in range(1, 20, 2)]
    score(first, [record(20, b"a", event(T0 + 20, heat=7.0))])
    score(second, [record(20, b"a", event(T0 + 20, heat=7.0))])
    assert second.predictions()[-1] == first.predictions()[-1]


def test_a_feature_may_appear_later_and_be_missing(settings: Settings) -> None:
    worker = Worker(settings)
    score(worker, [record(0, b"a", event(T0, heat=1.0))])
    score(worker, [record(1, b"b", event(T0, flow=2.0)), record(2, b"a", event(T0, heat=None, flow=3.0))])
    partition = worker.table.partition(0)
    assert partition.columns.features == ("heat", "flow")
    assert partition.columns.window.count[partition.find(b"a")].tolist() == [1.0, 1.0]


def test_features_of_an_entity_from_the_store_join_those_of_the_batch(settings: Settings) -> None:
    store = DictStore()
    first = Worker(settings, store)
    score(first, [record(0, b"old", event(T0, pressure=1.0))])
    store.write(0, first.table.take_changes()[0], 0)
    second = Worker(settings, store)
    score(second, [record(1, b"new", event(T0, heat=1.0)), record(2, b"old", event(T0 + 1, heat=2.0))])
    assert [p["id"] for p in second.predictions()] == ["events-0-1", "events-0-2"]
    assert second.table.partition(0).columns.features == ("heat", "pressure")


def model(**changes: Any) -> Any:
    def predict(inputs: Any, options: Any) -> Any:
        failed = dict.fromkeys(np.flatnonzero(inputs[:, 0] < 0).tolist(), "negative")
        scores = inputs.sum(axis=1)
        return SimpleNamespace(scores=scores, predictions=scores, probabilities=None), failed

    fields = {
        "name": "sum",
        "version": "abc",
        "kind": "regression",
        "features": ("heat", "flow"),
        "normaliser": "none",
        "missing": "reject",
        "threshold": None,
        "classes": None,
        "predict": predict,
    }
    return SimpleNamespace(**{**fields, **changes})


def test_a_new_version_serves_from_the_next_batch_on(settings: Settings) -> None:
    worker = Worker(settings)
    score(worker, stream(5))
    worker.models.serving = model()
    score(worker, [record(5, b"a", event(T0, heat=1.0, flow=2.0))])
    *before, last = worker.predictions()
    assert {p["model"] for p in before} == {"detector"}
    assert (last["model"], last["version"], last["score"], last["prediction"]) == ("sum", "abc", 3.0, 3.0)


def test_model_errors_and_missing_features_are_that_events_dead_letter(settings: Settings) -> None:
    worker = Worker(settings, model=model())
    score(
        worker,
        [
            record(0, b"a", event(T0, heat=1.0, flow=2.0)),
            record(1, b"a", event(T0, heat=-1.0, flow=2.0)),
            record(2, b"a", event(T0, heat=1.0)),
            record(3, b"a", event(T0, heat=2.0, flow=2.0)),
        ],
    )
    assert [(p["id"], p["score"]) for p in worker.predictions()] == [("events-0-0", 3.0), ("events-0-3", 4.0)]
    codes = [dict(letter.headers)["error"] for letter in worker.dead_letters()]
    assert codes == [b"model-error", b"missing-feature"]
    assert b"flow" in dict(worker.dead_letters()[1].headers)["error-message"]


def test_a_regression_raises_alerts_only_by_a_threshold_of_its_own(settings: Settings) -> None:
    records = [record(i, b"a", event(T0 + i, heat=1.0, flow=100.0)) for i in range(10)]
    silent, loud = Worker(settings, model=model()), Worker(settings, model=model(threshold=50.0))
    score(silent, records)
    score(loud, records)
    assert silent.alerts() == []
    (alert,) = loud.alerts()
    assert (alert["state"], alert["severity"], alert["threshold"]) == ("firing", "warning", 50.0)


def test_recent_predictions_are_those_published_newest_first(settings: Settings) -> None:
    worker = Worker(settings)
    score(worker, stream(30, n_entities=2))
    published = [p for p in worker.predictions() if p["key"] == "sensor-1"]
    assert worker.scorer.recent_predictions(b"sensor-1") == published[::-1][:10]
    assert worker.scorer.recent_predictions(b"nobody") == []


def test_an_event_from_the_future_cannot_empty_a_window_shorter_than_the_future_that_is_allowed() -> None:
    settings = Settings(window_seconds=60, panes=6, future_seconds=300, warmup_events=3)
    worker, now = Worker(settings), NOW_MS / 1000
    score(worker, [record(i, b"a", event(now - 10 + i, heat=float(i % 3))) for i in range(10)])
    score(worker, [record(10, b"a", event(now + 40, heat=1.0)), record(11, b"b", event(now + 25, heat=1.0))])
    score(worker, [record(12, b"a", event(now + 1, heat=1.0))])
    assert [dict(letter.headers)["error"] for letter in worker.dead_letters()] == [b"future-event"]
    assert worker.predictions()[-1]["warming_up"] is False


def test_a_topic_that_ends_before_what_its_state_knows_is_not_scored_in_silence(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(settings)
    score(worker, stream(30))
    made_anew = batch([record(0, b"a", event(T0 + 100, heat=1.0))], end_offset=29)
    with pytest.raises(TopicEndError, match=r"ends at offset 29, its state has the records up to offset 29"):
        asyncio.run(worker.scorer.score(made_anew))
    assert "NOWCAST_GROUP" in caplog.text
    asyncio.run(worker.scorer.score(batch([record(30, b"a", event(T0 + 100, heat=1.0))], end_offset=31)))
    assert len(worker.predictions()) == 31
