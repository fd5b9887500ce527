from __future__ import annotations

from agents.metrics import RATE_SECONDS, Metrics


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_two_workers_of_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.batch_scored(5, 5, 0.1)
    assert (one.totals()["n_events"], other.totals()["n_events"]) == (5, 0)


def test_totals_add_up_over_labels_and_an_alert_counts_once() -> None:
    metrics = Metrics()
    metrics.batch_scored(
        5, 3, 0.1, {"late-event": 1, "not-finite": 1}, [("firing", "warning"), ("resolved", "warning")]
    )
    metrics.batch_scored(2, 1, 0.1, {"late-event": 1}, [("firing", "critical")])
    totals = metrics.totals()
    assert (totals["n_events"], totals["n_predictions"], totals["n_alerts"]) == (7, 4, 2)
    assert totals["n_dead_letters"] == {"late-event": 2, "not-finite": 1}


def test_the_rate_is_the_mean_over_the_last_full_seconds() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    assert metrics.events_per_second() == 0
    for _ in range(3 * RATE_SECONDS):
        metrics.batch_scored(40, 40, 0.1)
        metrics.batch_scored(60, 60, 0.1)
        clock.now += 1
    assert metrics.events_per_second() == 100
    clock.now += RATE_SECONDS / 2
    assert metrics.events_per_second() == 50
    clock.now += RATE_SECONDS
    assert metrics.events_per_second() == 0


def test_what_is_remembered_for_the_rate_stays_bounded() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    for _ in range(1000):
        metrics.batch_scored(1, 1, 0.1)
        clock.now += 0.5
    assert len(metrics._recent) <= RATE_SECONDS + 1


def test_only_the_model_that_serves_is_shown() -> None:
    metrics = Metrics()
    metrics.model_serving("pumps", "1")
    metrics.model_serving("pumps", "2")
    samples = next(m for m in metrics.registry.collect() if m.name == "nowcast_model_info").samples
    assert [sample.labels for sample in samples] == [{"model": "pumps", "version": "2"}]


def test_checkpoints_are_timed() -> None:
    metrics = Metrics()
    metrics.checkpoint_taken(12, 0.02)
    assert metrics.registry.get_sample_value("nowcast_checkpoint_entities_total") == 12
    assert metrics.registry.get_sample_value("nowcast_checkpoint_seconds_count") == 1


def test_calls_of_a_model_are_timed_and_those_given_up_counted() -> None:
    metrics = Metrics()
    metrics.model_called(0.3)
    metrics.model_timed_out()
    sample = metrics.registry.get_sample_value
    assert sample("nowcast_model_seconds_bucket", {"le": "0.25"}) == 0
    assert sample("nowcast_model_seconds_bucket", {"le": "0.5"}) == 1
    assert sample("nowcast_model_timeouts_total") == 1
