"""Two workers that both take themselves for the owner: what is restored learns each label once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.settings import Settings
from compute.artefact import load_artefact
from tables.owner import next_owner, owner_headers
from tables.reserved import PARTITION_KEY
from tables.restoring import Restorer, StaleWriterError
from tables.stores import MemoryStore
from tests.agents.recording import DictStore, Worker, batch, label, labels
from tests.agents.test_label import key, learning, rows_of, run, stream, truth_of
from tests.artefacts import MAX_BYTES, logistic
from tests.tables.test_restoring import new_store

MODEL = load_artefact(*logistic([1.0, 0.3], name="pump"), max_bytes=MAX_BYTES)
SETTINGS = Settings(partitions=1, drift=True, drift_reference_events=100)

N = 60
EVENTS = stream(rows_of(N))
TOLD = truth_of(rows_of(N))
LABELS = [label(i, key(i), i, TOLD[i]) for i in range(N)]


class Turn:
    """A worker that has the partition, or thinks so."""

    def __init__(self, log: list[Any], now_ms: int) -> None:
        self.log = log
        stored: Any = restored(log)
        self.store = DictStore()
        self.store.values = dict(stored.partitions.get(0, {}))
        self.worker = Worker(SETTINGS, self.store, model=MODEL)
        partition = self.worker.table.partition(0)
        self.done = partition.next_offset, partition.next_label_offset
        partition.owner = next_owner(self.store.values.get(PARTITION_KEY), len(log), now_ms)

    def read(self, n_events: int, n_labels: int) -> None:
        """Score so many events more, and join so many labels."""
        first, told = self.done
        events, answers = EVENTS[first : first + n_events], LABELS[told : told + n_labels]
        if events:
            run(self.worker.scorer.score(batch(events)))
        if answers:
            run(self.worker.labeller.label(labels(answers)))
        self.done = first + len(events), told + len(answers)

    def checkpoint(self, n_written: int | None = None) -> None:
        """Write a checkpoint, or of one that is never finished so many records."""
        items = self.worker.table.take_changes().get(0, [])
        if not items:
            return
        headers = tuple(owner_headers(items[-1][1]))
        for name, value in items[: len(items) if n_written is None else min(n_written, len(items) - 1)]:
            offset = len(self.log)
            self.log.append(SimpleNamespace(key=name, value=value, offset=offset, headers=headers))
        if n_written is None:
            self.worker.table.write(0, items, len(self.log) - 1)


def restored(log: list[Any]) -> MemoryStore:
    store = new_store()
    restorer = Restorer(0, store)
    for _ in range(10):
        try:
            if log:
                restorer.apply(log)
            return store
        except StaleWriterError:
            pass
    raise AssertionError("read again and again")


READ = st.tuples(st.integers(0, 12), st.integers(0, 12))


@given(
    before=st.lists(READ, max_size=3),
    asleep=st.tuples(READ, st.one_of(st.none(), st.integers(0, 12))),
    turns=st.lists(READ, min_size=1, max_size=4),
    place=st.integers(0, 4),
)
@hypothesis_settings(deadline=None, max_examples=40)
def test_every_label_counts_once_wherever_a_stale_checkpoint_lands_whole_or_in_part(
    before: list[tuple[int, int]], asleep: Any, turns: list[tuple[int, int]], place: int
) -> None:
    log: list[Any] = []
    sleeper = Turn(log, 1_000)
    for part in before:
        sleeper.read(*part)
        sleeper.checkpoint()
    sleeper.read(*asleep[0])
    owner = Turn(log, 2_000)
    for i, part in enumerate([*turns, (1, 1)]):
        if i == place:
            sleeper.checkpoint(asleep[1])
        owner.read(*part)
        owner.checkpoint()
    if place > len(turns):
        sleeper.checkpoint(asleep[1])

    found = restored(log).partitions[0]
    assert found == owner.store.values
    successor = Turn(log, 3_000)
    assert successor.done == owner.done
    successor.read(N, N)
    clean = Turn([], 1)
    clean.read(N, N)
    assert learning(successor.worker).counts == learning(clean.worker).counts
    for about, evaluation in learning(clean.worker).evaluations.items():
        other = learning(successor.worker).evaluations[about]
        assert (
            other.describe()["since_start"]["confusion_matrix"]
            == (evaluation.describe()["since_start"]["confusion_matrix"])
        )
