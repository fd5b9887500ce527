"""Alerts of entities that fall silent: a rule of the stream, whatever batches and checkpoints do."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agents.meet
import agents.score
import tables.partition
from agents.decide import Decision
from app.settings import Settings
from tests.agents.recording import NOW_MS, DictStore, Worker, batch, event, record

T0 = NOW_MS / 1000 - 1_000_000
WINDOW, KEPT_WINDOWS = 40.0, 3
SETTINGS = Settings(
    window_seconds=WINDOW, panes=4, future_seconds=0, alert_min_support=1, alert_cooldown_seconds=70
)


def decide(rows: Any, rule: Any) -> Decision:
    """Take the feature for the score; a score above 1 cannot be decided."""
    scores = rows.matrix[:, 0]
    faults = {int(row): ("model-error", "no") for row in np.flatnonzero(scores > 1)}
    return Decision("plain", "1", scores, scores.tolist(), rule=rule, faults=faults)


@pytest.fixture(autouse=True)
def plain_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    use_plain_scores(monkeypatch)


def use_plain_scores(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agents.score, "decide_by_detector", decide)
    for module in (agents.meet, tables.partition):
        patch.setattr(module, "KEPT_WINDOWS", KEPT_WINDOWS)


def run(events: list[tuple[bytes, float, float]], actions: dict[int, str]) -> list[tuple[Any, ...]]:
    """Score events; before the one at a position end the batch, take a checkpoint, or start again."""

    async def whole() -> list[tuple[Any, ...]]:
        store = DictStore()
        worker = Worker(SETTINGS, store)
        alerts: list[Any] = []
        waiting: list[Any] = []

        async def end(action: str) -> None:
            if waiting:
                await worker.scorer.score(batch(list(waiting)))
                waiting.clear()
            if action != "batch" and (changes := worker.table.take_changes()):
                worker.table.write(0, changes[0], 0)
            if action == "restart":
                alerts.extend(worker.alerts())

        for offset, (key, seconds, score) in enumerate(events):
            if offset in actions:
                await end(actions[offset])
                if actions[offset] == "restart":
                    worker = Worker(SETTINGS, store)
            waiting.append(record(offset, key, event(T0 + seconds, score=score)))
        await end("batch")
        alerts.extend(worker.alerts())
        return [(a["id"], a["key"], a["severity"], a["suppressed"]) for a in alerts]

    return asyncio.run(whole())


def states(events: list[tuple[bytes, float, float]], **actions: str) -> list[str]:
    found = run(events, {int(name[1:]): action for name, action in actions.items()})
    return [alert_id.removeprefix("events-0-") for alert_id, *_ in found]


@pytest.mark.parametrize("before_it_speaks", ["batch", "checkpoint", "restart"])
@pytest.mark.parametrize("silence", [WINDOW + 11, KEPT_WINDOWS * WINDOW - 11])
def test_a_firing_alert_outlives_its_window_and_is_resolved_when_the_entity_speaks_again(
    before_it_speaks: str, silence: float
) -> None:
    events = [
        (b"pump", 0.0, 0.1),
        (b"pump", 1.0, 0.95),
        (b"other", silence, 0.1),
        (b"pump", silence + 1, 0.1),
    ]
    assert states(events, _3=before_it_speaks) == ["1-score-firing", "3-score-resolved"]


@pytest.mark.parametrize("before_it_speaks", ["batch", "checkpoint", "restart"])
def test_an_alert_is_forgotten_after_many_windows_of_silence(before_it_speaks: str) -> None:
    late = (KEPT_WINDOWS + 1) * WINDOW
    events = [
        (b"pump", 0.0, 0.1),
        (b"pump", 1.0, 0.95),
        (b"other", late, 0.1),
        (b"pump", late, 0.1),
        (b"pump", late + 1, 0.95),
    ]
    assert states(events, _3=before_it_speaks) == ["1-score-firing", "4-score-firing"]


@pytest.mark.parametrize("before_it_speaks", ["batch", "checkpoint", "restart"])
def test_a_cool_down_longer_than_the_window_holds_through_silence(before_it_speaks: str) -> None:
    events = [
        (b"pump", 0.0, 0.1),
        (b"pump", 1.0, 0.95),
        (b"pump", 2.0, 0.1),
        (b"other", 55.0, 0.1),
        (b"pump", 55.0, 0.1),
        (b"pump", 56.0, 0.95),  # within 70 s of the alert
        (b"pump", 72.0, 0.95),
    ]
    expected = ["1-score-firing", "2-score-resolved", "6-score-firing"]
    assert states(events, _4=before_it_speaks) == expected


def test_an_entity_that_never_speaks_again_leaves_the_state_in_the_end() -> None:
    store = DictStore()
    worker = Worker(SETTINGS, store)

    async def whole() -> None:
        await worker.scorer.score(
            batch([record(0, b"pump", event(T0, score=0.1)), record(1, b"pump", event(T0, score=0.95))])
        )
        for offset in range(2, 22):
            await worker.scorer.score(batch([record(offset, b"other", event(T0 + 10 * offset, score=0.1))]))
            worker.table.write(0, worker.table.take_changes()[0], 0)
            kept = offset * 10 < KEPT_WINDOWS * WINDOW
            assert (b"pump" in store.values) == kept

    asyncio.run(whole())


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"a", b"b", b"c"]),
            st.sampled_from([0, 0, 1, 1, 5, 9, 10, 11, 39, 41, 80, 119, 121, 300]),
            st.sampled_from([0.1, 0.1, 0.6, 0.85, 0.95, 0.95, 2.0]),
        ),
        max_size=30,
    ),
    st.dictionaries(st.integers(0, 30), st.sampled_from(["batch", "checkpoint", "restart"]), max_size=8),
)
def test_no_split_into_batches_and_no_checkpoint_changes_an_alert(
    steps: list[tuple[bytes, int, float]], actions: dict[int, str]
) -> None:
    seconds = np.cumsum([step for _, step, _ in steps]).tolist()
    events = [(key, float(at), score) for (key, _, score), at in zip(steps, seconds, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        use_plain_scores(patch)
        one_by_one = run(events, dict.fromkeys(range(len(events)), "batch"))
        assert run(events, actions) == one_by_one
        assert run(events, dict.fromkeys(range(len(events)), "checkpoint")) == one_by_one
        assert run(events, {}) == one_by_one
