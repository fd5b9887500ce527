"""Labels without a broker: what becomes of each, and what is learnt from it."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn import metrics

from agents import label as label_hop
from agents.checkpoint import Checkpoint
from app.settings import Settings
from compute.artefact import load_artefact
from tables import pending, pending_ahead, pending_blocks
from tables.learning import Learning
from tables.reserved import PREFIX
from tests.agents.recording import NOW_MS, DictStore, Worker, batch, event, label, labels, record
from tests.artefacts import MAX_BYTES, logistic

T0 = NOW_MS / 1000 - 10_000
MODEL = load_artefact(*logistic([1.0, 0.3], name="pump"), max_bytes=MAX_BYTES)
OTHER = load_artefact(*logistic([-1.0, 0.3], name="pump"), max_bytes=MAX_BYTES)

STEPS = st.lists(
    st.tuples(st.sampled_from(["events", "labels", "checkpoint", "crash"]), st.integers(1, 9)), max_size=25
)


@pytest.fixture
def settings() -> Settings:
    return Settings(partitions=1)


def rows_of(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2))


def truth_of(rows: np.ndarray, seed: int = 2) -> list[int]:
    noise = np.random.default_rng(seed).normal(size=len(rows))
    return [int(value) for value in rows[:, 0] + 0.5 * noise > 0]


def stream(rows: np.ndarray, first_offset: int = 0, told: Any = None) -> list[Any]:
    records = []
    for i, (a, b) in enumerate(rows.tolist()):
        value = event(T0 + first_offset + i, a=a, b=b)
        if told is not None:
            value = value[:-1] + b', "label": %s}' % str(told[i]).encode()
        records.append(record(first_offset + i, key(first_offset + i), value))
    return records


def run(*steps: Any) -> None:
    async def go() -> None:
        for step in steps:
            await step

    asyncio.run(go())


def learning(worker: Worker) -> Learning:
    found = worker.table.partition(0).learning
    assert found is not None
    return found


def since_start(worker: Worker, version: str = MODEL.version, group: str = "") -> dict[str, Any]:
    (evaluation,) = [
        evaluation
        for about, evaluation in learning(worker).evaluations.items()
        if about.version == version and about.group == group
    ]
    found: dict[str, Any] = evaluation.describe()["since_start"]
    return found


def codes(worker: Worker) -> list[str]:
    return [dict(sent.headers)["error"].decode() for sent in worker.dead_letters()]


def key(i: int) -> bytes:
    return b"pump-%d" % (i % 3)


def checkpoint(worker: Worker) -> Checkpoint:
    return Checkpoint(worker.scorer, worker.table, worker.outbox, worker.metrics, lambda: None)  # type: ignore[arg-type]


def test_labels_that_come_later_and_those_of_events_give_the_metrics_of_scikit_learn(
    settings: Settings,
) -> None:
    rows = rows_of(300)
    told = truth_of(rows)
    later, own = Worker(settings, model=MODEL), Worker(settings, model=MODEL)
    answers = [label(i, key(i), i, told[i]) for i in range(300)]
    run(
        later.scorer.score(batch(stream(rows))),
        later.labeller.label(labels(answers)),
        own.scorer.score(batch(stream(rows, told=told))),
    )
    guess = [prediction["prediction"] for prediction in later.predictions()]
    score = [prediction["score"] for prediction in later.predictions()]
    for found in (since_start(later), since_start(own)):
        assert found["n_labels"] == 300
        assert found["accuracy"] == pytest.approx(metrics.accuracy_score(told, guess))
        assert found["f1"] == pytest.approx(metrics.f1_score(told, guess))
        assert found["log_loss"] == pytest.approx(metrics.log_loss(told, score))
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(told, score))
    assert learning(later).counts["joined"] == learning(own).counts["joined"] == 300
    assert later.scorer.next_offsets == {TP("events", 0): 300, TP("labels", 0): 300}
    assert not later.dead_letters()


def test_what_is_learnt_does_not_hang_on_how_labels_and_events_take_turns(settings: Settings) -> None:
    rows = rows_of(60)
    told = truth_of(rows)
    answers = [label(i, key(i), i, told[i]) for i in range(60)]
    first, turns = (Worker(settings, model=MODEL, challengers=[OTHER]) for _ in range(2))
    run(first.scorer.score(batch(stream(rows))), first.labeller.label(labels(answers)))
    for start in range(0, 60, 7):  # the labels of a part before its events: they are early, and held
        end = min(start + 7, 60)
        run(
            turns.labeller.label(labels(answers[start:end])),
            turns.scorer.score(batch(stream(rows[start:end], start))),
        )
    for version in (MODEL.version, OTHER.version):
        one, other = since_start(first, version), since_start(turns, version)
        assert one["confusion_matrix"] == other["confusion_matrix"]
        assert one["log_loss"] == pytest.approx(other["log_loss"])
    (pair,) = learning(first).comparisons.values()
    (same,) = learning(turns).comparisons.values()
    assert pair.describe() == same.describe()
    assert pair.describe()["n_labels"] == 60


def test_each_label_that_cannot_be_joined_has_its_reason(settings: Settings) -> None:
    worker = Worker(settings, model=MODEL)
    late_ms = NOW_MS + int(settings.label_delay_seconds * 1000) + 1
    late = label(6, key(4), 4, 1, record_ms=late_ms)
    answers = [
        label(0, key(0), 0, 1),
        label(1, key(0), 0, True),  # the same again
        label(2, key(0), 0, 0),
        label(3, b"fan-1", 1, 1),
        label(4, key(2), 2, None),
        late._replace(offset=5) if hasattr(late, "_replace") else label(5, key(4), 4, 1, record_ms=late_ms),
        label(6, key(1), 1, 1, partition=7),
        record(7, key(1), b"{"),
        record(8, None, b"{}"),
        label(9, key(9), 9, 1),  # a dead letter, so there was no prediction
    ]
    events = stream(rows_of(10))
    events[9] = record(9, key(9), b"nonsense")
    run(worker.scorer.score(batch(events)), worker.labeller.label(labels(answers)))
    assert codes(worker)[0] == "invalid-json"  # the event's own
    assert sorted(codes(worker)[1:]) == sorted(
        [
            "contradicting-label",
            "unknown-label",
            "invalid-label",
            "late-label",
            "unknown-label",
            "invalid-json",
            "missing-key",
            "unknown-label",
        ]
    )
    letters = worker.dead_letters()[1:]
    assert {dict(sent.headers)["source-topic"] for sent in letters} == {b"labels"}
    by_offset = {int(dict(sent.headers)["source-offset"]): sent for sent in letters}
    assert by_offset[2].value == answers[2].value
    counts = learning(worker).counts
    assert (counts["joined"], counts["repeated"], counts["contradicting"], counts["late"]) == (1, 1, 1, 1)


def test_labels_of_another_partition_are_sent_there() -> None:
    worker = Worker(Settings(partitions=3), model=MODEL)
    run(
        worker.scorer.score(batch(stream(rows_of(3)))),
        worker.labeller.label(labels([label(0, key(0), 0, 1), label(1, b"x", 5, 1, partition=2)])),
    )
    (sent,) = worker.producer.of("labels")
    assert (sent.partition, sent.key, sent.json) == (2, b"x", {"id": "events-2-5", "label": 1})
    assert not worker.dead_letters()
    assert learning(worker).counts["joined"] == 1


def test_a_label_whose_event_never_comes_is_a_dead_letter_once_the_delay_is_over(settings: Settings) -> None:
    worker = Worker(settings, model=MODEL)
    run(
        worker.scorer.score(batch(stream(rows_of(3)))),
        worker.labeller.label(labels([label(0, key(0), 50, 1)])),
    )
    assert not worker.dead_letters()
    later = stream(rows_of(1), 3)
    object.__setattr__(later[0], "timestamp", NOW_MS + 3_700_000)
    run(worker.scorer.score(batch(later)))
    assert codes(worker) == ["unknown-label"]


def test_a_label_that_no_class_can_have_for_a_name_costs_its_event_nothing(settings: Settings) -> None:
    worker = Worker(settings, model=MODEL)
    run(worker.scorer.score(batch(stream(rows_of(2), told=["1e999", "1"]))))
    assert len(worker.predictions()) + len(worker.dead_letters()) == 2
    assert learning(worker).counts["joined"] == 1


def test_one_label_with_a_wrong_clock_makes_no_other_late(settings: Settings) -> None:
    worker = Worker(settings, model=MODEL)
    run(
        worker.scorer.score(batch(stream(rows_of(3)))),
        worker.labeller.label(labels([label(0, key(0), 0, 1, record_ms=NOW_MS * 10)])),
        worker.scorer.score(batch(stream(rows_of(1), 3))),
        worker.labeller.label(labels([label(1, key(1), 1, 1)])),
    )
    assert learning(worker).counts["joined"] == 1


def test_what_a_challenger_answers_for_the_champion_waits_for_its_label_too(settings: Settings) -> None:
    needs_more = load_artefact(*logistic([1.0, 0.3, 0.1], name="more"), max_bytes=MAX_BYTES)
    worker = Worker(settings, model=needs_more, challengers=[OTHER])  # the events have no third feature
    worker.models.split = SimpleNamespace(name=OTHER.name, version=OTHER.version, share=1.0)
    run(
        worker.scorer.score(batch(stream(rows_of(3)))),
        worker.labeller.label(labels([label(0, key(0), 0, 1)])),
    )
    assert [p["version"] for p in worker.predictions()] == [OTHER.version] * 3
    assert learning(worker).counts["joined"] == 1
    assert not worker.dead_letters()


def test_labels_that_are_sent_on_keep_the_time_at_which_they_came() -> None:
    worker = Worker(Settings(partitions=3), model=MODEL)
    run(worker.labeller.label(labels([label(1, b"x", 5, 1, partition=2, record_ms=NOW_MS - 5_000)])))
    assert worker.producer.timestamps("labels") == [NOW_MS - 5_000]


def test_an_online_learner_that_serves_is_compared_and_watched() -> None:
    settings = Settings(partitions=1, online_task="classification", model="online", drift=True)
    worker = Worker(settings, challengers=[OTHER])
    rows = rows_of(40)
    for start in range(0, 40, 10):
        part = slice(start, start + 10)
        run(worker.scorer.score(batch(stream(rows[part], start, told=truth_of(rows)[part]))))
    assert {p["model"] for p in worker.predictions()[10:]} == {"online"}
    pairs = {(about.model, about.challenger_model) for about in learning(worker).comparisons}
    assert ("online", "pump") in pairs
    errors = learning(worker).errors
    assert errors is not None
    assert learning(worker).serving == worker.predictions()[-1]["version"]


@pytest.mark.parametrize("positive", ["", "faulty", "ok"])
def test_an_online_learner_scores_and_is_judged_by_the_class_that_is_positive(positive: str) -> None:
    settings = Settings(partitions=1, online_task="classification", model="online", positive_class=positive)
    worker = Worker(settings)
    rows = rows_of(80)
    told = ['"faulty"' if value else '"ok"' for value in truth_of(rows)]
    for start in range(0, 80, 10):
        part = slice(start, start + 10)
        run(worker.scorer.score(batch(stream(rows[part], start, told=told[part]))))
    wanted = positive or "ok"
    predictions = worker.predictions()[10:]
    for prediction in predictions:
        assert prediction["score"] == prediction["probabilities"][wanted]
    described = since_start(worker, predictions[-1]["version"])
    assert described["positive"] == wanted
    assert described["recall"] == described["per_class"][wanted]["recall"]
    assert described["roc_auc"] > 0.7


def test_a_label_waits_for_an_event_that_is_scored_long_after_it_came(settings: Settings) -> None:
    worker = Worker(settings, model=MODEL)
    hours = [NOW_MS + hour * 3_600_000 for hour in (0, 2, 4)]  # the delay is one, and events lag behind
    run(
        worker.labeller.label(labels([label(0, key(2), 2, 1, record_ms=hours[0])], end_offset=3)),
        worker.labeller.label(labels([label(1, key(0), 0, 1, record_ms=hours[1])], end_offset=3)),
        worker.scorer.score(batch(stream(rows_of(2)))),
        worker.labeller.label(labels([label(2, key(1), 1, 1, record_ms=hours[2])], end_offset=3)),
        worker.scorer.score(batch(stream(rows_of(1), 2))),
    )
    counts = learning(worker).counts
    assert (counts["joined"], counts["late"], counts["unknown"]) == (1, 2, 0)


@pytest.mark.parametrize(("disorder_seconds", "joined"), [(50, 1), (70, 0)])
def test_a_label_that_comes_behind_newer_ones_finds_its_event_for_a_minute(
    settings: Settings, disorder_seconds: int, joined: int
) -> None:
    worker = Worker(settings, model=MODEL)
    over = NOW_MS + 3_600_000  # the delay is an hour
    newer = stream(rows_of(1), 3)
    object.__setattr__(newer[0], "timestamp", over - 1_000 + disorder_seconds * 1_000)
    run(
        worker.scorer.score(batch(stream(rows_of(3)))),
        checkpoint(worker).take(),
        worker.scorer.score(batch(newer)),
        checkpoint(worker).take(),
        worker.labeller.label(labels([label(0, key(1), 1, 1, record_ms=over - 1_000)], end_offset=1)),
    )
    counts = learning(worker).counts
    assert (counts["joined"], counts["late"]) == (joined, 1 - joined)


def test_groups_of_entities_are_evaluated_by_themselves() -> None:
    worker = Worker(Settings(partitions=1, evaluation_groups="-([0-9])$"), model=MODEL)
    rows = rows_of(30)
    told = truth_of(rows)
    run(worker.scorer.score(batch(stream(rows, told=told))))
    guess = [prediction["prediction"] for prediction in worker.predictions()]
    for group in range(3):
        mine = slice(group, None, 3)
        found = since_start(worker, group=str(group))
        assert found["n_labels"] == 10
        assert found["accuracy"] == pytest.approx(metrics.accuracy_score(told[mine], guess[mine]))


def test_the_detector_is_judged_by_labels_that_say_alarm_or_not(settings: Settings) -> None:
    worker = Worker(settings)
    answers = [label(i, key(i), i, told) for i, told in enumerate([0, 1, "unheard of", 0])]
    run(worker.scorer.score(batch(stream(rows_of(4)))), worker.labeller.label(labels(answers)))
    assert since_start(worker, "builtin-1")["confusion_matrix"] == [[2, 0], [1, 0]]


@given(STEPS)
@hypothesis_settings(deadline=None, max_examples=25)
def test_every_label_counts_once_whatever_crashes_in_between(steps: list[tuple[str, int]]) -> None:
    check_crashes(steps, whole=True)


@given(
    STEPS,
    st.integers(0, 8),
)
@hypothesis_settings(deadline=None, max_examples=25)
def test_a_checkpoint_that_was_never_finished_counts_for_nothing(
    steps: list[tuple[str, int]], n_written: int
) -> None:
    check_crashes(steps, whole=False, n_written=n_written)


def check_crashes(steps: list[tuple[str, int]], whole: bool, n_written: int = 0) -> None:
    """Hold a worker that crashes against one that does not; a crash may leave part of a checkpoint."""
    settings = Settings(partitions=1, online_task="classification", drift=True, drift_reference_events=100)
    rows = rows_of(120)
    told = truth_of(rows)
    events = stream(rows)
    about = [*range(0, 120, 2), *range(0, 40, 4)]  # the last ones are told again
    answers = [label(offset, key(i), i, told[i]) for offset, i in enumerate(about)]
    store = DictStore()
    worker = Worker(settings, store, model=MODEL, challengers=[OTHER])
    done = committed = (0, 0)
    for step, n in [*steps, ("events", 200), ("labels", 200)]:
        n_events, n_labels = done
        if step == "events":
            part = events[n_events : n_events + n]
            if part:
                run(worker.scorer.score(batch(part)))
            done = n_events + len(part), n_labels
        elif step == "labels":
            part = answers[n_labels : n_labels + n]
            if part:
                run(worker.labeller.label(labels(part)))
            done = n_events, n_labels + len(part)
        elif step == "checkpoint":
            store.write(0, worker.table.take_changes().get(0, []), 0)
            worker.table.partition(0).shrink()
            committed = done
        else:
            if not whole:
                # Not entities: those that are ahead of their partition were answered, and are not again.
                items = worker.table.take_changes().get(0, [])[:-1]
                own = [(name, value) for name, value in items if name.startswith(PREFIX)]
                store.write(0, own[:n_written], 0)
            worker = Worker(settings, store, model=MODEL, challengers=[OTHER])
            done = committed
    clean = Worker(settings, model=MODEL, challengers=[OTHER])
    run(clean.scorer.score(batch(events)), clean.labeller.label(labels(answers)))
    mine, other = learning(worker), learning(clean)
    assert mine.counts == other.counts
    judged = {name for name in mine.evaluations if name.model != "online"}  # which learns as labels come
    assert judged == {name for name in other.evaluations if name.model != "online"}
    for name in judged:
        one, two = (of.evaluations[name].describe()["since_start"] for of in (mine, other))
        assert one["confusion_matrix"] == two["confusion_matrix"]
        assert one["log_loss"] == pytest.approx(two["log_loss"])
    for pair, comparison in mine.comparisons.items():
        if pair.challenger_model != "online":
            assert comparison.describe() == other.comparisons[pair].describe()
    assert mine.online is not None
    assert other.online is not None
    assert mine.online.n_learnt == other.online.n_learnt


def test_entities_that_a_split_gives_to_a_challenger_are_answered_by_it_alone(settings: Settings) -> None:
    worker = Worker(settings, model=MODEL, challengers=[OTHER])
    worker.models.split = SimpleNamespace(name=OTHER.name, version=OTHER.version, share=0.5)
    records = [
        record(i, b"pump-%d" % (i % 40), event(T0 + i, a=float(a), b=float(b)))
        for i, (a, b) in enumerate(rows_of(200).tolist())
    ]
    run(worker.scorer.score(batch(records)))
    found = worker.predictions()
    assert sorted(p["id"] for p in found) == sorted(f"events-0-{i}" for i in range(200))
    versions = {p["key"]: {q["version"] for q in found if q["key"] == p["key"]} for p in found}
    assert all(len(of_key) == 1 for of_key in versions.values())
    assert {version for of_key in versions.values() for version in of_key} == {MODEL.version, OTHER.version}
    for name, group in itertools.groupby(sorted(found, key=lambda p: p["key"]), lambda p: p["key"]):
        offsets = [int(p["id"].rpartition("-")[2]) for p in group]
        assert offsets == sorted(offsets), name


LABELS = st.lists(
    st.tuples(
        st.sampled_from(["its", "its", "its", "its", "other key", "late", "elsewhere", "broken", "no topic"]),
        st.integers(0, 33),
        st.sampled_from([0, 1, True, "1", "odd"]),
    ),
    max_size=25,
)


def drawn_label(offset: int, kind: str, about: int, told: Any) -> Any:
    late_ms = NOW_MS + 3_600_001
    found = {
        "its": label(offset, key(about), about, told),
        "other key": label(offset, key(about + 1), about, told),
        "late": label(offset, key(about), about, told, record_ms=late_ms),
        "elsewhere": label(offset, key(about), about, told, partition=1 + about % 2),
        "broken": record(offset, key(about), b'{"id": "events-0-%d"' % about),
        "no topic": record(offset, key(about), b'{"id": "%d", "label": 1}' % about),
    }
    return found[kind]


@given(LABELS, st.lists(st.integers(1, 12), max_size=6), st.integers(1, 5), st.integers(1, 4))
@hypothesis_settings(deadline=None, max_examples=60)
def test_labels_in_any_split_and_in_any_parts_come_to_the_same_as_one_by_one(
    drawn: list[tuple[str, int, Any]], lengths: list[int], n_at_once: int, n_read: int
) -> None:
    settings = Settings(partitions=3, online_task="classification", drift=True)
    records = [drawn_label(offset, *one) for offset, one in enumerate(drawn)]
    rows, told = rows_of(36), truth_of(rows_of(36))

    def joined(parts: list[list[Any]]) -> Worker:
        worker = Worker(settings, model=MODEL, challengers=[OTHER])
        for start, end in ((0, 9), (9, 11), (11, 20)):
            own = told[start:end] if start == 9 else None  # events with labels of their own
            run(worker.scorer.score(batch(stream(rows[start:end], start, told=own))))
            worker.table.write(0, worker.table.take_changes()[0], 0)
        run(worker.scorer.score(batch(stream(rows[20:30], 20))))
        for part in parts:
            run(worker.labeller.label(labels(part)))
        run(worker.scorer.score(batch(stream(rows[30:], 30))))  # some labels came before these
        return worker

    with pytest.MonkeyPatch.context() as patch:
        one_by_one = joined([[one] for one in records])
        patch.setattr(label_hop, "MAX_LABELS", n_at_once)
        patch.setattr(pending_ahead, "READ_AHEAD", n_read)
        patch.setattr(pending_blocks, "MAX_BLOCK_ROWS", 4)
        patch.setattr(pending, "CLOSED_ROWS", 6)
        ends = [0, *itertools.accumulate(lengths), len(records)]
        parts = [records[start:end] for start, end in itertools.pairwise(ends)]
        split = joined([part for part in parts if part])
    assert split.dead_letters() == one_by_one.dead_letters()
    by_partition = [(sent.partition, sent) for sent in split.producer.of("labels")]
    assert by_partition == [(sent.partition, sent) for sent in one_by_one.producer.of("labels")]
    assert split.scorer.next_offsets == one_by_one.scorer.next_offsets
    mine, other = learning(split), learning(one_by_one)
    assert mine.counts == other.counts
    assert list(mine.comparisons) == list(other.comparisons)
    for name in mine.comparisons:
        assert mine.comparisons[name].describe() == other.comparisons[name].describe()
    assert set(mine.evaluations) == set(other.evaluations)
    for name, evaluation in mine.evaluations.items():
        one, two = (found.describe()["since_start"] for found in (evaluation, other.evaluations[name]))
        assert one["confusion_matrix"] == two["confusion_matrix"]
        for metric in ("log_loss", "roc_auc"):
            assert one[metric] == pytest.approx(two[metric])
    offsets = np.arange(40)
    marks = [found.pending._marks.known(offsets).tolist() for found in (mine, other)]
    assert marks[0] == marks[1]


def test_everybody_else_has_a_turn_between_parts_and_a_checkpoint_then_holds_whole_parts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_hop, "MAX_LABELS", 4)
    store = DictStore()
    worker = Worker(settings, store, model=MODEL)
    rows = rows_of(20)
    told = truth_of(rows)
    answers = [label(i, key(i), i, told[i]) for i in range(20)]
    run(worker.scorer.score(batch(stream(rows))))
    seen: list[int] = []
    durable: dict[int, dict[bytes, bytes]] = {}

    async def look_and_take_checkpoints() -> None:
        while len(seen) < 1_000:
            joined = learning(worker).counts["joined"]
            assert worker.table.partition(0).next_label_offset == joined
            assert worker.scorer.next_offsets.get(TP("labels", 0), 0) == joined
            seen.append(joined)
            worker.table.write(0, worker.table.take_changes().get(0, []), 0)
            durable.setdefault(joined, dict(store.values))
            await asyncio.sleep(0)

    async def go() -> None:
        looking = asyncio.ensure_future(look_and_take_checkpoints())
        await worker.labeller.label(labels(answers))
        looking.cancel()

    asyncio.run(go())
    assert sorted(set(seen)) == [0, 4, 8, 12, 16, 20]
    for n_joined, values in durable.items():  # a crash right after this checkpoint
        again = DictStore()
        again.values = values
        successor = Worker(settings, again, model=MODEL)
        assert successor.table.partition(0).next_label_offset == n_joined
        run(successor.labeller.label(labels(answers)))
        assert +learning(successor).counts == {"joined": 20}
        assert since_start(successor)["n_labels"] == 20


@pytest.mark.parametrize("what", ["forgotten", "suspended"])
@pytest.mark.parametrize("turn", range(8))
def test_what_is_left_of_a_batch_is_not_joined_once_its_partition_is_gone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str, turn: int
) -> None:
    monkeypatch.setattr(label_hop, "MAX_LABELS", 4)
    worker = Worker(settings, model=MODEL)
    rows = rows_of(12)
    run(worker.scorer.score(batch(stream(rows))))
    worker.table.write(0, worker.table.take_changes()[0], 0)
    answers = labels([label(i, key(i), i, 1) for i in range(12)])

    async def go() -> int:
        labelling = asyncio.ensure_future(worker.labeller.label(answers))
        for _ in range(turn + 1):
            await asyncio.sleep(0)
        n_joined = learning(worker).counts["joined"]
        if what == "forgotten":
            worker.scorer.next_offsets.clear()
            worker.table.forget()
        else:
            worker.scorer.suspend()
        await labelling
        return n_joined

    n_joined = asyncio.run(go())
    if what == "forgotten":
        assert learning(worker).counts["joined"] == 0
        assert TP("labels", 0) not in worker.scorer.next_offsets
    else:
        assert learning(worker).counts["joined"] == n_joined
        assert worker.scorer.next_offsets.get(TP("labels", 0), 0) == n_joined
