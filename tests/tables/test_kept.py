"""Values that are written anew: only those of finished checkpoints count."""

from __future__ import annotations

import pytest

from compute.own_values import with_header
from tables.kept import KEPT, KIND, Kept
from tests.agents.recording import DictStore

NAMES = [b"one", b"other"]


def finish(
    store: DictStore, kept: Kept, contents: dict[bytes, bytes], seen: int, gone: tuple[bytes, ...] = ()
) -> None:
    store.write(0, kept.take_changes(contents, gone, seen), seen)


def test_the_newest_of_each_counts() -> None:
    store = DictStore()
    kept = Kept(0, store, 0)
    for seen in range(1, 5):
        finish(store, kept, {b"one": b"%d" % seen}, seen)
    finish(store, kept, {b"other": b"x"}, 5)
    assert Kept(0, store, 5).contents == {b"one": b"4", b"other": b"x"}
    assert len(store.values) == 3  # two places of the one that was written again


@pytest.mark.parametrize("n_written", [0, 1, 2])
def test_what_an_unfinished_checkpoint_left_neither_counts_nor_stays(n_written: int) -> None:
    store = DictStore()
    kept = Kept(0, store, 0)
    finish(store, kept, dict.fromkeys(NAMES, b"before"), 10)
    items = kept.take_changes(dict.fromkeys(NAMES, b"unfinished"), (), 20)
    store.write(0, items[:n_written], 20)
    again = Kept(0, store, 10)
    assert again.contents == dict.fromkeys(NAMES, b"before")
    # It says 20, which can mean others by now: once more has been seen it must not come up.
    finish(store, again, {}, 25)
    assert Kept(0, store, 25).contents == dict.fromkeys(NAMES, b"before")
    finish(store, again, {b"one": b"after"}, 30)
    assert Kept(0, store, 30).contents == {b"one": b"after", b"other": b"before"}


def test_what_is_gone_is_removed_with_the_next_checkpoint() -> None:
    store = DictStore()
    kept = Kept(0, store, 0)
    finish(store, kept, {b"one": b"1"}, 1)
    finish(store, kept, {b"one": b"2"}, 2)
    finish(store, kept, {}, 3, gone=(b"one",))
    assert Kept(0, store, 2).contents == {b"one": b"2"}  # should that checkpoint not be finished
    finish(store, kept, {}, 4)
    assert not store.values


def test_what_cannot_be_read_is_removed() -> None:
    store = DictStore()
    store.values[KEPT + b"0one"] = b"nonsense"
    store.values[KEPT + b"1one"] = with_header(KIND, 1, b"good")
    kept = Kept(0, store, 1)
    assert kept.contents == {b"one": b"good"}
    finish(store, kept, {}, 2)
    assert list(store.values) == [KEPT + b"1one"]
