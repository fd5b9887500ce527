from __future__ import annotations

import random

from app.demo.ledger import Ledger


def test_an_event_is_open_until_it_is_answered() -> None:
    ledger = Ledger({0: 0})
    ledger.add_event(0, 0, 100)
    assert ledger.n_open == 1
    ledger.add_answer(0, 0, 105)
    assert (ledger.n_open, ledger.n_predictions, ledger.latency_ms(0.5)) == (0, 1, 5)


def test_a_dead_letter_is_an_answer_without_latency() -> None:
    ledger = Ledger({0: 0})
    ledger.add_event(0, 0, 100)
    ledger.add_answer(0, 0, None)
    assert (ledger.n_open, ledger.n_predictions, ledger.n_dead_letters) == (0, 0, 1)
    assert ledger.latency_ms(0.99) is None


def test_an_answer_may_be_seen_before_its_event() -> None:
    ledger = Ledger({0: 0})
    ledger.add_answer(0, 0, 105)
    assert ledger.n_predictions == 0
    ledger.add_event(0, 0, 100)
    assert (ledger.n_open, ledger.n_predictions, ledger.latency_ms(1.0)) == (0, 1, 5)


def test_a_second_answer_is_a_repeat() -> None:
    ledger = Ledger({0: 0})
    ledger.add_event(0, 0, 100)
    ledger.add_answer(0, 0, 105)
    ledger.add_answer(0, 0, 205)
    assert (ledger.n_predictions, ledger.n_repeats, ledger.latency_ms(1.0)) == (1, 1, 5)


def test_answers_to_events_before_the_run_do_not_count() -> None:
    ledger = Ledger({0: 10})
    ledger.add_answer(0, 9, 100)
    assert (ledger.n_predictions, ledger.n_repeats, ledger.n_open) == (0, 0, 0)


def test_quantiles_are_those_of_the_sorted_latencies() -> None:
    ledger = Ledger({0: 0})
    latencies = list(range(1, 101))
    random.Random(1).shuffle(latencies)
    for offset, latency in enumerate(latencies):
        ledger.add_event(0, offset, 1_000)
        ledger.add_answer(0, offset, 1_000 + latency)
    assert [ledger.latency_ms(q) for q in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
