"""What a stale writer left is not restored: the state is the last owner's, record for record."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from compute.state_format import HEADER
from tables.owner import Owner, next_owner, owner_headers
from tables.reserved import PARTITION_KEY, PREFIX
from tables.restoring import Restorer, StaleWriterError
from tables.stores import Item, MemoryStore

ENTITIES = [b"entity-%d" % i for i in range(3)]
OWN = [PREFIX + name for name in (b"kept/0a", b"kept/1a", b"answered/b", b"marks/b", b"early/c", b"expired")]


def state(last_offset: int) -> bytes:
    return HEADER.pack(b"NS", 1, 0, 12, 0, 0, 0, 0, 0, 300.0, 0, 0, last_offset)


def own_record(next_offset: int, owner: Owner | None = None) -> tuple[bytes, bytes]:
    says = b"" if owner is None else b" 0 %d %d" % owner
    return PARTITION_KEY, b"0 %d 300.0" % next_offset + says


def headers_of(owner: Owner | None) -> tuple[tuple[str, bytes], ...]:
    return () if owner is None else tuple(owner_headers(own_record(0, owner)[1]))


def records_of(items: list[Item], first: int = 0, owner: Owner | None = None) -> list[Any]:
    headers = headers_of(owner)
    return [
        SimpleNamespace(key=key, value=value, offset=offset, headers=headers)
        for offset, (key, value) in enumerate(items, first)
    ]


def new_store() -> MemoryStore:
    store = MemoryStore.__new__(MemoryStore)
    store.partitions, store._offsets, store._scanned = {}, {}, {}
    return store


class Reader:
    """Reads the log into a store as the changelog is read, from where the store is, and may read on."""

    def __init__(self, store: MemoryStore | None = None, chunk: int = 4) -> None:
        self.store = new_store() if store is None else store
        self.chunk = chunk
        reached = self.store._offsets.get(0)
        self.at = 0 if reached is None else reached + 1
        self.restorer = Restorer(0, self.store, reached)
        self.n_stale = 0

    def read(self, log: list[Any]) -> dict[bytes, bytes]:
        while rest := [record for record in log if record.offset >= self.at][: self.chunk]:
            try:
                self.restorer.apply(rest)
                self.at = rest[-1].offset + 1
            except StaleWriterError:
                assert self.store.partitions.get(0) is None  # emptied
                self.n_stale += 1
                assert self.n_stale <= len(log)
                self.at = 0
        assert self.store._offsets.get(0, -1) == self.at - 1
        return dict(self.store.partitions.get(0, {}))


class Worker:
    """Takes the partition once, and writes checkpoints from then on, whoever takes it later."""

    def __init__(self, log: list[Any], store: MemoryStore, chunk: int, now_ms: int) -> None:
        self.log, self.store = log, store
        self.view = Reader(store, chunk).read(log)
        self.owner = next_owner(self.view.get(PARTITION_KEY), len(log), now_ms)
        self.n_written = 0
        self._open: list[Item] = []
        self._items: list[Item] = []

    def begin(self, changes: dict[bytes, bytes | None], number: int) -> None:
        if not self._open:
            self._items = [*changes.items(), own_record(number, self.owner)]
            self._open = list(self._items)

    def write(self, n: int) -> None:
        """Write so many records of the checkpoint; with the last one it is in the store, too."""
        taken, self._open = self._open[:n], self._open[n:]
        if not taken:
            return
        self.log += records_of(taken, len(self.log), self.owner)
        self.n_written += len(taken)
        for key, value in taken:
            if value is None:
                self.view.pop(key, None)
            else:
                self.view[key] = value
        if not self._open:
            reached = self.store._offsets.get(0, -1)
            last = len(self.log) - 1
            self.store.write(0, self._items, last if last - len(self._items) <= reached else reached)

    def give_up(self) -> None:
        """Never finish the checkpoint."""
        self._open = []


KEYS = st.sampled_from([*ENTITIES, *OWN])
CHANGES = st.dictionaries(KEYS, st.booleans(), max_size=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.booleans(), st.integers(0, 3)),
        st.tuples(st.just("begin"), st.integers(0, 3), CHANGES),
        st.tuples(st.just("write"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("finish"), st.integers(0, 3), CHANGES),
        st.tuples(st.just("give up"), st.integers(0, 3), st.none()),
    ),
    max_size=40,
)


class Life:
    """Workers that all take themselves for the owner, the last of which is."""

    def __init__(self, chunk: int) -> None:
        self.log: list[Any] = []
        self.chunk = chunk
        self.numbers = itertools.count(1)
        self.workers: list[Worker] = []
        self.standby = Reader(chunk=chunk)
        self.take(False, 0)

    def take(self, is_kept: bool, which: int) -> None:
        # A machine that had the partition keeps its store; the worker that runs on there, if it is asleep
        # only, has another one.
        kept = self.workers[-1 - which].store if is_kept and which < len(self.workers) else None
        store = new_store()
        if kept is not None and 0 in kept.partitions:
            store.write(0, list(kept.partitions[0].items()), kept._offsets[0])
        self.workers.append(Worker(self.log, store, self.chunk, now_ms=next(self.numbers)))

    def step(self, what: str, which: Any, more: Any) -> None:
        if what == "take":
            self.take(which, more)
            return
        worker = self.workers[-1 - min(which, len(self.workers) - 1)]
        if what in ("begin", "finish"):
            number = next(self.numbers)
            changes = {key: b"%d" % number if has else None for key, has in more.items()}
            worker.begin(changes, number)
        if what in ("write", "finish"):
            worker.write(more if what == "write" else 99)
        if what == "give up":
            worker.give_up()

    def told(self, log: list[Any]) -> set[Owner]:
        """Return whom a log has records of, from before the next one's time."""
        owners = [worker.owner for worker in self.workers if worker.n_written]
        ends = {a: min((b.begin for b in owners if b.term > a.term), default=len(self.log)) for a in owners}
        return {a for a in owners for r in log if r.headers == headers_of(a) and r.offset < ends[a]}

    @property
    def last(self) -> Worker | None:
        """The last owner of whom there is anything in the log."""
        return max((w for w in self.workers if w.n_written), key=lambda w: w.owner, default=None)


@given(steps=STEPS, chunk=st.integers(1, 9))
@hypothesis_settings(max_examples=100, deadline=None)
def test_whoever_writes_when_what_is_restored_is_the_last_owners(
    steps: list[tuple[str, Any, Any]], chunk: int
) -> None:
    life = Life(chunk)
    for step in steps:
        life.step(*step)
        followed = life.standby.read(life.log)
        if life.last is not None:
            assert followed == life.last.view
    if life.last is not None:
        assert Reader(chunk=chunk).read(life.log) == life.last.view


@given(steps=STEPS, chunk=st.integers(1, 9))
@hypothesis_settings(max_examples=100, deadline=None)
def test_a_store_that_was_kept_ends_up_the_same(steps: list[tuple[str, Any, Any]], chunk: int) -> None:
    life = Life(chunk)
    for step in steps:
        life.step(*step)
    for worker in life.workers:
        found = Reader(worker.store, chunk).read(life.log)
        if life.last is not None:
            assert found == life.last.view


@given(steps=STEPS, share=st.floats(0, 1), keeps_tombstones=st.booleans())
@hypothesis_settings(max_examples=100, deadline=None)
def test_what_compaction_left_is_the_owners_and_what_it_took_is_gone(
    steps: list[tuple[str, Any, Any]], share: float, keeps_tombstones: bool
) -> None:
    life = Life(4)
    for step in steps:
        life.step(*step)
    assume(life.last is not None)
    assert life.last is not None
    below = int(share * len(life.log))
    last = {record.key: record.offset for record in life.log}
    log = [
        record
        for record in life.log
        if record.offset >= below
        or (last[record.key] == record.offset and (keeps_tombstones or record.value is not None))
    ]
    assume(life.told(log) == life.told(life.log))  # who began where
    found, view = Reader().read(log), life.last.view
    stale = {record.key for record in life.log if record.headers != headers_of(life.last.owner)}
    for key in found.keys() | view.keys():
        if found.get(key) != view.get(key):
            assert key in stale
            assert key not in found


def test_the_log_of_one_owner_after_the_other_is_read_once() -> None:
    life = Life(3)
    for step in [("finish", 0, {ENTITIES[0]: True, OWN[0]: True}), ("take", False, 0)] * 3:
        life.step(*step)
    life.step("begin", 0, {OWN[1]: True, ENTITIES[1]: True})
    life.step("write", 0, 1)  # it crashes amid a checkpoint
    life.step("take", True, 0)
    life.step("finish", 0, {OWN[1]: False})
    reader = Reader(chunk=3)
    assert reader.read(life.log) == life.workers[-1].view
    assert reader.n_stale == 0


FIRST, SECOND, THIRD = Owner(1_000, 0), Owner(2_000, 2), Owner(3_000, 4)


def log_of(*parts: tuple[Owner | None, list[Item]]) -> list[Any]:
    log: list[Any] = []
    for owner, items in parts:
        log += records_of(items, len(log), owner)
    return log


def test_part_of_a_checkpoint_behind_the_new_owners_is_left_out_though_no_record_ends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    new = [(b"a", state(115)), (OWN[1], b"new"), own_record(120, SECOND)]
    stale: list[Item] = [(b"a", state(105)), (OWN[1], b"stale"), (OWN[3], b"stale"), (b"b", None)]
    log = log_of((FIRST, [(b"b", state(90)), own_record(100, FIRST)]), (SECOND, new), (FIRST, stale))
    reader = Reader()
    assert reader.read(log) == dict([(b"b", state(90)), *new])
    assert reader.n_stale == 0
    assert [line for line in caplog.messages if "had lost it wrote there" in line]


def test_a_stale_checkpoint_before_the_new_owners_first_record_is_found_out_and_read_over() -> None:
    old = [(OWN[0], b"old"), own_record(100, FIRST)]
    stale: list[Item] = [(OWN[0], None), (OWN[1], b"stale"), (b"a", state(128)), own_record(130, FIRST)]
    new = [(b"a", state(105)), own_record(110, SECOND)]
    reader = Reader()
    assert reader.read(log_of((FIRST, old), (FIRST, stale), (SECOND, new))) == dict([*old, *new])
    assert reader.n_stale == 1


def test_the_store_of_the_stale_writer_itself_is_read_again_from_the_beginning() -> None:
    old, new = [(OWN[0], b"old"), own_record(100, FIRST)], [(OWN[1], b"new"), own_record(110, SECOND)]
    stale = [(OWN[2], b"stale"), own_record(130, FIRST)]
    log = log_of((FIRST, old), (SECOND, new), (FIRST, stale))
    store = new_store()
    store.write(0, [*old, *stale], 1)  # behind its records there are others, so it says what it had read
    reader = Reader(store)
    assert reader.read(log) == dict([*old, *new])
    assert reader.n_stale == 1


def test_what_a_worker_says_counts_for_nothing_where_it_is_stale_itself() -> None:
    # The second never wrote before the third went on from what the first one had written meanwhile.
    log = log_of(
        (FIRST, [(OWN[0], b"1"), own_record(1, FIRST)]),
        (FIRST, [(OWN[1], b"2"), own_record(2, FIRST)]),
        (SECOND, [(OWN[2], b"stale"), own_record(3, SECOND)]),
        (THIRD, [(OWN[3], b"4"), own_record(4, THIRD)]),
    )
    expected = {OWN[0]: b"1", OWN[1]: b"2", OWN[3]: b"4", **dict([own_record(4, THIRD)])}
    assert Reader().read(log) == expected


@pytest.mark.parametrize("headers", [(), (("other", b"1 2"),), (("owner", b"?"),), (("owner", b""),)])
def test_records_that_do_not_say_who_wrote_them_are_taken_as_they_come(headers: Any) -> None:
    log = log_of((SECOND, [(b"a", b"1"), own_record(5, SECOND)]), (None, [(b"a", b"2"), (b"b", None)]))
    for record in log[2:]:
        record.headers = headers
    assert Reader().read(log) == {b"a": b"2", **dict([own_record(5, SECOND)])}
