"""Answered events of one partition that wait for their labels, and what becomes of each label.

Owns which event has its label. The events since the last checkpoint are in memory, those before in blocks in
the store, of which an index is in memory. The first label of an event counts, wherever it came from.

What a checkpoint writes counts once the partition's own record is behind it. A crash in between leaves some
of it in the changelog, and its events and labels come again: all values say how much their writer had seen,
so what is newer than the partition's record is undone here, at the start. For the same reason what is not
needed any more is removed one checkpoint later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.answered import Answered, concat
from compute.answered_format import StoredBlock, encode_answered, find_events
from compute.label_marks import mark_of
from compute.own_values import seen_of
from tables.early_labels import EARLY, EarlyLabel, EarlyLabels
from tables.expired import EXPIRED, Expired
from tables.pending_ahead import Ahead
from tables.pending_blocks import EVENTS, MARKS, Blocks, cut, events_item, is_name, name_of
from tables.pending_marks import PendingMarks, mended
from tables.reserved import PARTITION_KEY, read_next_offset, read_progress
from tables.stores import Item, PartitionedStore
from tables.unwritten import Unwritten

log = logging.getLogger(__name__)

CACHE_BYTES = 16_000_000

CLOSED_ROWS = 8_192
"""Events since the last checkpoint that are kept as they came; as many are made into blocks at a time."""

JOINED, REPEATED, CONTRADICTING, LATE, UNKNOWN = range(5)
OUTCOMES = ("joined", "repeated", "contradicting", "late", "unknown")
"""What becomes of a label: names by code.

The first of an event is joined; a further one repeats it or contradicts it. A late one came later than the
delay after its event; an unknown one names an event that was not answered, or another entity's.
"""

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Events that were looked for.

    Attributes
    ----------
    answered : Answered
        Those that were found, ascending, each once.
    rows : ndarray, shape (n,), int64
        Where each of the n that were looked for is in these, -1 where it was not found.
    expired : ndarray, shape (n,), bool
        Which of the others waited for longer than the delay; what is neither was never answered.
    """

    answered: Answered
    rows: Integers
    expired: NDArray[np.bool_]


class Pending:
    """Answered events of a partition, and their labels.

    Parameters
    ----------
    number : int
        Of the partition.
    store : PartitionedStore
        Read here; written by the checkpoint, with what `take_changes` gives.
    delay_seconds : float
        By how much the record of a label may be later than the record of its event.
    cache_bytes : int
        Of blocks that stay in memory after they were read.
    """

    def __init__(
        self, number: int, store: PartitionedStore, delay_seconds: float, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._delay_seconds = delay_seconds
        self._values = Unwritten(number, store)
        self._blocks = Blocks(self._values, cache_bytes)
        self._open: list[Answered] = []
        self._n_open = 0
        self._closed: dict[bytes, StoredBlock] = {}
        self._marks = PendingMarks(self._values, self._blocks)
        self._left: list[bytes] = []
        about, expired = store.get_many(number, [PARTITION_KEY, EXPIRED])
        next_offset, seen = read_next_offset(about), read_progress(about)
        self._expired = self._expired_taken = Expired.read(expired, seen)
        self._mended: dict[bytes, bytes | None] = {}
        if expired is not None and seen_of(expired) > seen:
            self._mended[EXPIRED] = self._expired.encode(self._expired, seen)
        self._superfluous: list[bytes] = []
        self._load(store.items_from(number, MARKS), next_offset, seen)
        self._last_offset = self._blocks.last_offset
        early = store.items_from(number, EARLY)
        self._early = EarlyLabels(early, next_offset, lambda value: seen_of(value) > seen)

    def _load(self, stored: Iterable[tuple[bytes, bytes]], next_offset: int, seen: int) -> None:
        """Take the blocks that count, as they were when the state had seen so much."""
        names: list[bytes] = []
        void: list[bytes] = []
        for key, value in stored:
            name = key.removeprefix(MARKS)
            if not is_name(name, next_offset):
                void.append(name)
                continue
            names.append(name)
            if before := mended(value, seen):
                self._mended[key] = before
        void += self._blocks.load(names)
        void += self._remove_older(self._expired.time)
        self._superfluous += [key for name in void for key in (EVENTS + name, MARKS + name)]
        self._values.take(self._mended)

    @property
    def n_blocks(self) -> int:
        """Blocks in the store, or on their way there."""
        return len(self._blocks)

    @property
    def n_early(self) -> int:
        """Labels that came before their events."""
        return len(self._early)

    @property
    def last_offset(self) -> int:
        """Offset of the last event that was added, -1 before the first."""
        return self._last_offset

    def add(self, answered: Answered, own_labels: Mapping[int, str] | None = None) -> None:
        """Let events wait for their labels.

        Parameters
        ----------
        answered : Answered
            Behind all events so far. Its arrays are kept, and must not be changed.
        own_labels : mapping of int to str, optional
            By row, labels that the events brought themselves, in canonical form. They are the first of these
            events, and joined by whoever calls this.

        Raises
        ------
        ValueError
            If the columns do not fit each other, or the events do not follow.
        """
        if not len(answered):
            return
        answered.check()
        offsets = answered.offsets
        if offsets[0] <= self._last_offset:
            raise ValueError(f"offsets: must be above {self._last_offset}, received {offsets[0]}")
        self._open.append(answered)
        self._n_open += len(answered)
        self._last_offset = int(offsets[-1])
        if self._n_open >= CLOSED_ROWS:
            *full, last = cut(concat(self._open))
            self._close(full)
            # A copy: a slice would hold all the others in memory.
            self._open, self._n_open = [last.take(np.arange(len(last)))], len(last)
        if own_labels:
            self._marks.add(offsets[list(own_labels)], _marks(list(own_labels.values())))

    def ahead(self, offsets: Integers) -> Ahead:
        """Return what reads events in blocks before `find` is called for some of them."""
        return Ahead(self._blocks, offsets)

    def find(self, offsets: Integers, ahead: Ahead | None = None) -> Found:
        """Return what was answered to events.

        Parameters
        ----------
        offsets : ndarray, shape (n,), int64
            Of events that were scored, in any order.
        ahead : Ahead, optional
            Has read these events; without it each of their blocks is read now.
        """
        wanted, inverse = np.unique(offsets, return_inverse=True)
        stored = self._blocks.find(wanted) if ahead is None else ahead.find(wanted)
        found = [*stored, *self._find_closed(wanted), *self._find_open(wanted)]
        rows = np.full(len(wanted), -1, np.int64)
        n_found = 0
        for events, places in found:
            rows[places] = np.arange(n_found, n_found + len(events))
            n_found += len(events)
        expired = (rows < 0) & (wanted < self._expired.below)
        return Found(concat([events for events, _ in found]), rows[inverse], expired[inverse])

    def _find_closed(self, wanted: Integers) -> list[tuple[Answered, Integers]]:
        if not self._closed or not len(wanted) or wanted[-1] < next(iter(self._closed.values())).first:
            return []
        blocks = list(self._closed.values())
        starts = np.searchsorted(wanted, [block.first for block in blocks]).tolist()
        ends = np.searchsorted(wanted, [block.last for block in blocks], "right").tolist()
        runs = zip(blocks, starts, ends, strict=True)
        return find_events([run for run in runs if run[1] < run[2]], wanted)

    def _find_open(self, wanted: Integers) -> list[tuple[Answered, Integers]]:
        found: list[tuple[Answered, Integers]] = []
        if not self._open or not len(wanted) or wanted[-1] < self._open[0].offsets[0]:
            return found
        bounds = np.searchsorted(wanted, [run.offsets[0] for run in self._open]).tolist()
        for run, start, end in zip(self._open, bounds, [*bounds[1:], len(wanted)], strict=True):
            asked = wanted[start:end]
            rows = np.minimum(np.searchsorted(run.offsets, asked), len(run) - 1)
            is_there = run.offsets[rows] == asked
            if is_there.any():
                found.append((run.take(rows[is_there]), start + np.flatnonzero(is_there)))
        return found

    def join(
        self,
        found: Found,
        labels: Sequence[str],
        record_times: Floats,
        key_crcs: NDArray[np.uint32],
    ) -> NDArray[np.int8]:
        """Give labels to the events that were found, each the first that came.

        Parameters
        ----------
        found : Found
            What `find` returned for the events that n labels name.
        labels : sequence of str, length n
            In canonical form, in the order in which they came.
        record_times : ndarray, shape (n,), float64, seconds
            Of the labels' records.
        key_crcs : ndarray, shape (n,), uint32
            `zlib.crc32` of their keys.

        Returns
        -------
        ndarray, shape (n,), int8
            `JOINED`, `REPEATED`, `CONTRADICTING`, `LATE` or `UNKNOWN`.
        """
        outcomes = np.where(found.expired, LATE, UNKNOWN).astype(np.int8)
        events, rows = found.answered, found.rows
        theirs = np.flatnonzero(rows >= 0)
        theirs = theirs[events.key_crcs[rows[theirs]] == key_crcs[theirs]]
        delays = record_times[theirs] - events.record_times[rows[theirs]]
        outcomes[theirs[delays > self._delay_seconds]] = LATE
        theirs = theirs[~(delays > self._delay_seconds)]
        asked, first, which = np.unique(rows[theirs], return_index=True, return_inverse=True)
        offsets = events.offsets[asked]
        known = self._marks.known(offsets)
        is_new = known == 0
        marks = _marks([labels[i] for i in theirs.tolist()])
        known[is_new] = marks[first[is_new]]
        outcomes[theirs] = np.where(marks == known[which], REPEATED, CONTRADICTING)
        outcomes[theirs[first[is_new]]] = JOINED
        self._marks.add(offsets[is_new], known[is_new])
        return outcomes

    def hold_early(self, label: EarlyLabel) -> bool:
        """Keep a label whose event was not scored yet; False if there is no room for it."""
        return self._early.hold(label)

    def take_early(self, next_offset: int) -> list[EarlyLabel]:
        """Return the early labels of events before an offset, in the order in which they came.

        To be called in the step that scores these events: a state that has seen an event has its early labels
        joined.
        """
        return self._early.take(next_offset)

    def drop_early(self, time_seconds: float) -> list[EarlyLabel]:
        """Return the early labels that have waited for longer than the delay at a time, and forget them."""
        return self._early.drop(time_seconds - self._delay_seconds)

    def expire(self, time_seconds: float) -> int:
        """Let no event wait whose labels would be late at a time; return how many blocks that removes.

        Events leave by blocks, and none before the next checkpoint.
        """
        names = self._remove_older(time_seconds - self._delay_seconds)
        for name in names:
            self._left += [EVENTS + name, MARKS + name]
        return len(names)

    def _remove_older(self, time_seconds: float) -> list[bytes]:
        names, below = self._blocks.remove_older(time_seconds)
        if names:
            self._marks.forget(names)
            self._expired = Expired(max(self._expired.below, below), max(self._expired.time, time_seconds))
        return names

    def take_changes(self, seen: int) -> list[Item]:
        """Return what changed since the last call, as it is stored; `find` goes on finding it.

        Parameters
        ----------
        seen : int
            How many events and labels the state has seen: next offsets of both, added up.
        """
        written, self._mended = self._mended, {}
        self._close(cut(concat(self._open)))
        self._open, self._n_open = [], 0
        new, self._closed = self._closed, {}
        self._blocks.append(list(new))
        if gone := self._remove_older(self._expired.time):
            new = {name: block for name, block in new.items() if name not in gone}
        # Marks before their events: a block that is not in the index is found by nobody, and never removed.
        written.update(self._marks.take_changes(new, seen))
        written.update(events_item(name, block, seen) for name, block in new.items())
        if self._expired != self._expired_taken:
            written[EXPIRED] = self._expired.encode(self._expired_taken, seen)
            self._expired_taken = self._expired
        written.update(self._early.take_changes(seen))
        removed = {key: None for key in self._superfluous if key not in written}
        self._superfluous, self._left = self._left, []
        items: dict[bytes, bytes | None] = {**removed, **written}
        self._values.take(items)
        return list(items.items())

    def _close(self, blocks: Iterable[Answered]) -> None:
        """Keep blocks as they will be stored: that takes half the memory."""
        for block in blocks:
            self._closed[name_of(block)] = StoredBlock(encode_answered(block))

    def wrote(self) -> None:
        """Take note that the store has what was taken."""
        self._values.wrote()


def _marks(labels: Sequence[str]) -> NDArray[np.uint32]:
    of = {label: mark_of(label) for label in set(labels)}
    return np.fromiter(map(of.__getitem__, labels), np.uint32, len(labels))
