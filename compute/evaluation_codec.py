"""Stored form of an evaluation.

Owns layout, writing and reading. What is counted is in `compute/evaluation.py`; with what else it is kept,
and when it is written, is left to others::

    magic "NE", version u8, zero u8, head_bytes u32, floats_bytes u32, numbers_bytes u32         (16 bytes)
    head, JSON: task, window and model (`Head`), all classes, newest pane
    floats, f64 little endian, of each tally: 1 (classification: sum of losses), or 5 (regression: sums of
        absolute and squared errors; mean, its rest and m2 of the labels)
    numbers, packed (`compute/varints.py`): how many panes, their ages, oldest first; then of each tally, the
        one since the start first, then pane by pane,
        regression: how many labels
        classification: how many cells of the confusion matrix, their codes, their counts; how many losses;
            how many events with scores, bits dropped, how many classes with scores, their codes, bins of
            each, keys of the bins, and of each bin events of the class, and of others
    (codes and keys rise: each is stored as the distance to the one before it)

What is kept is bounded, so this is too: see `MAX_SCORES`.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from compute.class_names import MAX_CLASSES, STRIDE, ClassNames
from compute.class_tally import ClassTally
from compute.evaluation_head import Head, check_head
from compute.moments import Floats, Moments
from compute.number_tally import NumberTally
from compute.panes import EMPTY, MAX_PANE
from compute.score_counts import KEY_BITS, Keys, ScoreCounts
from compute.varints import decode_varints, encode_varints

MAGIC, VERSION = b"NE", 1

MAX_COUNT = 2**53
"""Counts stay below, so that they are exact as float64, and their sums fit int64."""

_FRAME = struct.Struct("<2sBBIII")
_N_FLOATS = {"classification": 1, "regression": 5}


class _StoredHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    of: Head
    names: Annotated[list[str], msgspec.Meta(max_length=MAX_CLASSES + 1)]
    newest: int


class State(NamedTuple):
    """All that is stored of an evaluation: tallies of its task, the panes by their index."""

    head: Head
    names: list[str]
    newest: int
    since_start: Any
    panes: dict[int, Any]


def encode_state(state: State) -> bytes:
    """Return the stored form."""
    held = sorted(state.panes)
    numbers: list[Any] = [[len(held)], [state.newest - pane for pane in held]]
    floats: list[float] = []
    for tally in (state.since_start, *(state.panes[pane] for pane in held)):
        if state.head.task == "regression":
            moments = tally.labels
            numbers.append([tally.n_labels])
            floats += [tally.absolute, tally.squared]
            floats += [float(part[0, 0]) for part in (moments.mean, moments.low, moments.m2)]
        else:
            numbers += _class_numbers(tally)
            floats.append(tally.loss_sum)
    parts = (
        msgspec.json.encode(_StoredHead(state.head, state.names, state.newest)),
        np.array(floats, "<f8").tobytes(),
        encode_varints(np.concatenate([np.asarray(part, np.uint64) for part in numbers])),
    )
    return b"".join((_FRAME.pack(MAGIC, VERSION, 0, *map(len, parts)), *parts))


def decode_state(stored: bytes) -> State:
    """Return what `encode_state` stored.

    Raises
    ------
    ValueError
        If the bytes are not a stored evaluation, whatever they are.
    """
    stored_head, floats, numbers = _read_frame(stored)
    head, names, newest = stored_head.of, stored_head.names, stored_head.newest
    check_head(head)
    if ClassNames([*head.classes, *names]).names != names:
        raise ValueError(f"stored evaluation: names must differ and begin with classes, received {names[:5]}")
    n_held = numbers.take_one(head.n_panes)
    ages = numbers.take(n_held, head.n_panes - 1).astype(np.int64)
    if n_held and (ages[-1] != 0 or (np.diff(ages) >= 0).any()):
        raise ValueError("stored evaluation: ages must fall from below the number of panes to 0")
    if not (-MAX_PANE < newest < MAX_PANE if n_held else newest == EMPTY):
        raise ValueError(f"stored evaluation: newest must be a pane, or {EMPTY}, received {newest}")
    n_floats = _N_FLOATS[head.task]
    if len(floats) != n_floats * (1 + n_held):
        raise ValueError(
            f"stored evaluation: {n_floats} floats for each tally needed, received {len(floats)}"
        )
    tallies: list[Any] = []
    for i in range(1 + n_held):
        mine = floats[i * n_floats : (i + 1) * n_floats].tolist()
        bound = head.pane_scores if i else head.max_scores
        if head.task == "regression":
            tallies.append(_number_tally(numbers, mine))
        else:
            tallies.append(_class_tally(numbers, mine[0], bound, len(names)))
    numbers.end()
    n_labels = [tally.n_labels for tally in tallies]
    if sum(n_labels[1:]) > n_labels[0] or not all(n_labels[1:]) or (n_labels[0] and not n_held):
        raise ValueError("stored evaluation: panes must have labels, and not more than there were")
    return State(
        head, names, newest, tallies[0], dict(zip((newest - ages).tolist(), tallies[1:], strict=True))
    )


class _Numbers:
    """The numbers of a stored evaluation, taken one after the other."""

    def __init__(self, packed: bytes):
        self._numbers, self._at = decode_varints(packed), 0

    def take(self, n_numbers: int, largest: int = MAX_COUNT) -> Keys:
        """Return the next numbers, none of which may be above `largest`."""
        found = self._numbers[self._at : self._at + n_numbers]
        self._at += n_numbers
        if len(found) < n_numbers:
            raise ValueError(f"stored evaluation: {n_numbers} more numbers needed, received {len(found)}")
        if n_numbers and found.max() > largest:
            raise ValueError(f"stored evaluation: a number must be at most {largest}, received {found.max()}")
        return found

    def take_one(self, largest: int = MAX_COUNT) -> int:
        return int(self.take(1, largest)[0])

    def end(self) -> None:
        if self._at != len(self._numbers):
            raise ValueError(f"stored evaluation: {self._at} numbers needed, received {len(self._numbers)}")


def _read_frame(stored: bytes) -> tuple[_StoredHead, Floats, _Numbers]:
    if len(stored) < _FRAME.size:
        raise ValueError(f"stored evaluation: must have {_FRAME.size} bytes or more, received {len(stored)}")
    magic, version, zero, *sizes = _FRAME.unpack_from(stored)
    if (magic, version, zero) != (MAGIC, VERSION, 0):
        wanted = MAGIC + bytes([VERSION, 0])
        raise ValueError(f"stored evaluation: must begin with {wanted!r}, received {stored[:4]!r}")
    if _FRAME.size + sum(sizes) != len(stored) or sizes[1] % 8:
        raise ValueError(
            f"stored evaluation: must have {_FRAME.size + sum(sizes)} bytes, received {len(stored)}"
        )
    floats_at = _FRAME.size + sizes[0]
    numbers_at = floats_at + sizes[1]
    try:
        head = msgspec.json.decode(stored[_FRAME.size : floats_at], type=_StoredHead)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"stored evaluation: head: {error}") from None
    floats = np.frombuffer(stored[floats_at:numbers_at], "<f8").astype(np.float64)
    return head, floats, _Numbers(stored[numbers_at:])


def _class_numbers(tally: ClassTally) -> list[Any]:
    cells = sorted(tally.cells)
    scores = tally.scores
    starts = np.flatnonzero(np.diff(scores.owners, prepend=-1))
    distances = np.diff(scores.keys, prepend=np.uint64(0))
    distances[starts] = scores.keys[starts]
    return [
        [len(cells)],
        np.diff(cells, prepend=0),
        [tally.cells[cell] for cell in cells],
        [tally.n_losses, scores.n_rows, scores.level, len(starts)],
        scores.owners[starts],
        np.diff(np.append(starts, len(scores.keys))),
        distances,
        scores.positive,
        scores.negative,
    ]


def _class_tally(numbers: _Numbers, loss_sum: float, bound: int, n_names: int) -> ClassTally:
    n_cells = numbers.take_one(n_names**2)
    cells = np.cumsum(numbers.take(n_cells, STRIDE**2).astype(np.int64))
    counts = numbers.take(n_cells).astype(np.int64)
    if n_cells and (
        (np.diff(cells) <= 0).any() or max(cells[-1] // STRIDE, (cells % STRIDE).max()) >= n_names
    ):
        raise ValueError(f"stored evaluation: cells must rise and be of {n_names} classes")
    n_labels = sum(counts.tolist())
    if n_labels > MAX_COUNT or not counts.all():
        raise ValueError(f"stored evaluation: cells must have labels, at most {MAX_COUNT}")
    n_losses = numbers.take_one(n_labels)
    if not 0.0 <= loss_sum <= n_losses * 37.0:  # false for NaN as well; -log(2**-52) is 36.04
        raise ValueError(f"stored evaluation: {n_losses} losses cannot sum to {loss_sum}")
    scores = _score_counts(numbers, n_labels, bound, n_names)
    return ClassTally(
        scores, Counter(dict(zip(cells.tolist(), counts.tolist(), strict=True))), loss_sum, n_losses
    )


def _score_counts(numbers: _Numbers, n_labels: int, bound: int, n_names: int) -> ScoreCounts:
    n_rows = numbers.take_one(n_labels)
    level = numbers.take_one(KEY_BITS - 1)
    known = numbers.take(numbers.take_one(n_names), n_names - 1 if n_names else 0).astype(np.int64)
    n_bins = numbers.take(len(known), bound).astype(np.int64)
    n_all = int(n_bins.sum())
    if n_all > bound or not n_bins.all() or (np.diff(known) <= 0).any() or bool(n_rows) != bool(n_all):
        raise ValueError(f"stored evaluation: classes must rise and have bins, {bound} at most")
    distances = numbers.take(n_all, 2**KEY_BITS - 1)
    positive, negative = (numbers.take(n_all).astype(np.int64) for _ in range(2))
    if not n_all:
        return ScoreCounts(bound, level if n_labels else 0)
    starts = np.cumsum(n_bins) - n_bins
    # Sums wrap around, and differences of them come back.
    keys = np.cumsum(distances)
    keys -= np.repeat(keys[starts] - distances[starts], n_bins)
    rises = keys[1:] > keys[:-1]
    rises[starts[1:] - 1] = True  # from one class to the next
    if not rises.all() or int(keys.max()) >> (KEY_BITS - level):
        raise ValueError(
            f"stored evaluation: keys must rise within each class, and have {KEY_BITS - level} bits"
        )
    for start, count in zip(starts.tolist(), n_bins.tolist(), strict=True):
        mine = slice(start, start + count)
        if sum(positive[mine].tolist()) + sum(negative[mine].tolist()) != n_rows:
            raise ValueError(f"stored evaluation: a class must have all {n_rows} events in its bins")
    if not (positive + negative).all():
        raise ValueError("stored evaluation: bins must have events")
    return ScoreCounts(bound, level, n_rows, np.repeat(known, n_bins), keys, positive, negative)


def _number_tally(numbers: _Numbers, floats: list[float]) -> NumberTally:
    n_labels = numbers.take_one()
    absolute, squared, mean, low, m2 = floats
    # Infinity and NaN are what an overflow leaves.
    if min(absolute, squared, m2) < 0 or not math.isfinite(low) or (not n_labels and any(floats)):
        raise ValueError(f"stored evaluation: sums of {n_labels} errors cannot be {floats}")
    moments = Moments(*(np.full((1, 1), part) for part in (float(n_labels), mean, low, m2)))
    return NumberTally(absolute, squared, moments)
