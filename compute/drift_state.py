"""State of a drift monitor, and its stored form.

Owns memory and bytes only; what the state means is in `compute/drift.py`. All numbers are little endian::

    magic "ND", format u8, severity u8, n_panes u16, n_features u16, version_bytes u16 (65535: none yet),
    zero u16, names_bytes u32, reference_events u64, threshold f64, since i64                      (40 bytes)
    version: UTF-8
    names: n_features times (length u16, UTF-8)
    drifting: u8 of each feature and of the score
    of the features, then of the score:
        stage u8 (0: its reference is gathered, 1: its window is compared), level u8 or width of counts u8,
        n_rows u16 (sampled events, or panes that hold events), zero u32, first i64, newest i64 (24 bytes)
        stage 0: n_events u64, then positions i64 of all rows, then their values f64, row by row stage 1:
        n_events u64, n_sampled u64, since i64, edges f64, counts u16, mean f64, stddev f64, noise f64 of
            all features, then each pane, oldest first: age u16, n_events u64, counts of that width, sums f64

With 64 features and a reference that is being gathered these are at most 540 KB, with a window of 12 panes
50 KB (16-bit counts), and 8 KB with 9 features; and the names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.alert_columns import CRITICAL, QUIET
from compute.drift_bins import N_BINS, N_EDGES
from compute.drift_reference import MAX_LEVEL, MAX_SAMPLE, Reference, stays
from compute.drift_watch import Watch
from compute.drift_window import DriftWindow
from compute.panes import EMPTY, MAX_PANE
from compute.state_format import name_bytes, read_names

_MAGIC, _FORMAT = b"ND", 1
_HEADER = struct.Struct("<2sBBHHHHIQdq")
_WATCH = struct.Struct("<BBHIqq")
_NO_VERSION = 0xFFFF
_MAX_COUNT = 2**40
"""So that sums over all panes stay exact."""

_WIDTHS = (1, 2, 4, 8)


@dataclass
class DriftState:
    """What a monitor remembers.

    Attributes
    ----------
    version : str or None
        Of the model whose features and scores are watched; None before the first.
    names : list of str
        Features, by their first value.
    watches : list of Watch
        Of the features, and of the score.
    drifting : list of ndarray of bool
        Of the features, and of the score.
    severity : int
        As in `AlertColumns`: of the alert that is firing.
    since : int
        Pane in which it began; `EMPTY` without one.
    """

    version: str | None
    names: list[str]
    watches: list[Watch]
    drifting: list[NDArray[np.bool_]]
    severity: int = QUIET
    since: int = EMPTY


def encode_state(state: DriftState, threshold: float) -> bytes:
    """Return the stored form of a state, and of the threshold it goes with.

    Raises
    ------
    ValueError
        If there are more panes than the format takes, or a version or name is too long for it.
    """
    version = (state.version or "").encode()
    names, n_panes = name_bytes(tuple(state.names)), state.watches[0].n_panes
    if len(version) >= _NO_VERSION or n_panes > 0xFFFF:
        bounds = f"must be below {_NO_VERSION} bytes and {2**16}"
        raise ValueError(f"version, n_panes: {bounds}, received {len(version)}, {n_panes}")
    head = _HEADER.pack(
        _MAGIC,
        _FORMAT,
        state.severity,
        n_panes,
        len(state.names),
        _NO_VERSION if state.version is None else len(version),
        0,
        len(names),
        state.watches[0].reference_events,
        threshold,
        state.since,
    )
    flags = np.concatenate(state.drifting).astype(np.uint8).tobytes()
    return b"".join([head, version, names, flags, *(_encode_watch(watch) for watch in state.watches)])


def decode_state(stored: bytes, max_features: int) -> tuple[DriftState, float]:
    """Return the state and the threshold that `encode_state` stored.

    Raises
    ------
    ValueError
        If the bytes are no stored state, whatever they are.

    Examples
    --------
    >>> decode_state(b"hello", max_features=64)
    Traceback (most recent call last):
    ValueError: stored drift: must have 40 bytes more at 0, received 5
    """
    reader = _Reader(stored)
    (
        magic,
        form,
        severity,
        n_panes,
        n_features,
        version_bytes,
        zero,
        names_bytes,
        reference_events,
        threshold,
        since,
    ) = _HEADER.unpack(reader.take(_HEADER.size))
    if (magic, form, zero) != (_MAGIC, _FORMAT, 0):
        wanted = _MAGIC + bytes([_FORMAT])
        raise ValueError(f"stored drift: must begin with {wanted!r}, received {stored[:3]!r}")
    _check("n_panes", n_panes, 1, 0xFFFF)
    _check("reference_events", reference_events, 1, _MAX_COUNT)
    if not 0 < threshold < np.inf:
        raise ValueError(f"stored drift: threshold must be above 0, received {threshold}")
    _check("n_features", n_features, 0, max_features)
    _check("severity", severity, QUIET, CRITICAL)
    version = None if version_bytes == _NO_VERSION else reader.take(version_bytes).decode()
    names = list(read_names(reader.take(names_bytes), n_features))
    flags = reader.array("<u1", n_features + 1)
    if (flags > 1).any() or flags.any() != (severity != QUIET) or (since != EMPTY) != (severity != QUIET):
        raise ValueError(f"stored drift: severity {severity}, since {since} and flags {flags} contradict")
    _check_pane("since", since)
    watches = [_decode_watch(reader, n_panes, reference_events, n) for n in (n_features, 1)]
    reader.finish()
    drifting = [flags[:n_features] > 0, flags[n_features:] > 0]
    return DriftState(version, names, watches, drifting, severity, since), threshold


def _encode_watch(watch: Watch) -> bytes:
    reference, window, sample = watch.reference, watch.window, watch.sample
    if reference is None or window is None:
        n_rows = len(sample.positions)
        head = _WATCH.pack(0, sample.level, n_rows, 0, watch.first, watch.newest)
        rows = (sample.positions.astype("<i8"), sample.rows.astype("<f8"))
        return b"".join([head, struct.pack("<Q", sample.n_events), *(part.tobytes() for part in rows)])
    ages = (window.newest - np.arange(watch.n_panes)) % watch.n_panes  # of the pane at each position
    held = np.flatnonzero(window.n_events)
    held = held[np.argsort(-ages[held])]
    width = np.min_scalar_type(window.counts.max(initial=0)).itemsize
    panes = np.zeros(len(held), _pane_fields(watch.n_features, width))
    panes["age"], panes["n_events"] = ages[held], window.n_events[held]
    panes["counts"], panes["sums"] = window.counts[held], window.sums[held]
    parts = (
        reference.edges.astype("<f8"),
        reference.counts.astype("<u2"),
        np.stack([reference.mean, reference.stddev, reference.noise]).astype("<f8"),
        panes,
    )
    head = _WATCH.pack(1, width, len(held), 0, watch.first, watch.newest)
    numbers = struct.pack("<QQq", reference.n_events, reference.n_sampled, window.since)
    return b"".join([head, numbers, *(part.tobytes() for part in parts)])


def _decode_watch(reader: _Reader, n_panes: int, reference_events: int, n_features: int) -> Watch:
    stage, small, n_rows, zero, first, newest = _WATCH.unpack(reader.take(_WATCH.size))
    _check("stage", stage, 0, 1)
    _check("zero", zero, 0, 0)
    _check_pane("first", first)
    _check_pane("newest", newest)
    if first > newest:
        raise ValueError(f"stored drift: first must be at most newest, {newest}, received {first}")
    watch = Watch(n_panes, reference_events, n_features)
    watch.first, watch.newest = first, newest
    if stage == 0:
        _decode_sample(reader, watch, small, n_rows)
        return watch
    if small not in _WIDTHS:
        raise ValueError(f"stored drift: width must be one of {_WIDTHS}, received {small}")
    watch.reference, since = _decode_reference(reader, n_features)
    _check("first", first, 1 - MAX_PANE, since)
    _check("since", since, first, newest)
    watch.window = DriftWindow(n_panes, n_features, newest)
    watch.window.since = since
    _fill_window(watch.window, reader.array(_pane_fields(n_features, small), n_rows))
    return watch


def _decode_sample(reader: _Reader, watch: Watch, level: int, n_rows: int) -> None:
    sample = watch.sample
    (sample.n_events,) = struct.unpack("<Q", reader.take(8))
    _check("n_events", sample.n_events, 0, _MAX_COUNT)
    _check("level", level, 0, MAX_LEVEL)
    _check("n_rows", n_rows, 0, MAX_SAMPLE)
    sample.level, sample.positions = level, reader.array("<i8", n_rows).astype(np.int64)
    rows = reader.array("<f8", n_rows * watch.n_features).astype(np.float64)
    sample.rows = rows.reshape(n_rows, watch.n_features)
    ordered = np.r_[-1, sample.positions, sample.n_events]
    if (np.diff(ordered) <= 0).any() or not stays(sample.positions, level).all():
        raise ValueError(
            f"stored drift: positions must ascend below {sample.n_events} and be of level {level}"
        )
    if (sample.n_events > 0) != (watch.first != EMPTY) or np.isinf(rows).any():
        raise ValueError(
            "stored drift: there must be a first pane if there are events, and no infinite value"
        )


def _decode_reference(reader: _Reader, n_features: int) -> tuple[Reference, int]:
    n_events, n_sampled, since = struct.unpack("<QQq", reader.take(24))
    _check("n_events", n_events, 1, _MAX_COUNT)
    _check("n_sampled", n_sampled, 1, min(n_events, MAX_SAMPLE))
    edges = reader.array("<f8", n_features * N_EDGES).astype(np.float64).reshape(n_features, N_EDGES)
    counts = reader.array("<u2", n_features * N_BINS).astype(np.int64).reshape(n_features, N_BINS)
    mean, stddev, noise = reader.array("<f8", 3 * n_features).astype(np.float64).reshape(3, n_features)
    if not (edges[:, 1:] >= edges[:, :-1]).all():  # false for NaN as well
        raise ValueError("stored drift: edges must ascend")
    if (counts.sum(axis=1) > n_sampled).any():
        raise ValueError(f"stored drift: counts of the reference must be at most {n_sampled} together")
    if (
        not all(np.isfinite(part).all() for part in (mean, stddev, noise))
        or min(stddev.min(initial=0.0), noise.min(initial=0.0)) < 0
    ):
        raise ValueError("stored drift: mean, stddev and noise must be finite, and not below 0")
    return Reference(n_events, n_sampled, edges, counts, mean, stddev, noise), since


def _fill_window(window: DriftWindow, panes: NDArray[np.void]) -> None:
    n_panes = len(window.n_events)
    ages, n_events = panes["age"].astype(np.int64), panes["n_events"].astype(np.float64)
    if (np.diff(np.r_[n_panes, ages]) >= 0).any():
        raise ValueError(f"stored drift: ages must fall from below {n_panes}, received {ages.tolist()[:20]}")
    if not ((n_events >= 1) & (n_events <= _MAX_COUNT)).all():
        raise ValueError(f"stored drift: events of a pane must be from 1 to {_MAX_COUNT}")
    if (panes["counts"].astype(np.float64).sum(axis=2) > n_events[:, None]).any():
        raise ValueError("stored drift: a pane must have no more values of a feature than events")
    positions = (window.newest - ages) % n_panes
    window.counts[positions], window.n_events[positions] = panes["counts"], panes["n_events"]
    window.sums[positions] = panes["sums"]
    window.held, window.n_held = window.counts.sum(axis=0), int(window.n_events.sum())


def _pane_fields(n_features: int, width: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("age", "<u2"),
            ("n_events", "<u8"),
            ("counts", f"<u{width}", (n_features, N_BINS)),
            ("sums", "<f8", (2, n_features)),
        ]
    )


class _Reader:
    """Reads on and on, and never beyond the end: a forged length cannot ask for more than there is."""

    def __init__(self, stored: bytes) -> None:
        self._stored, self._at = stored, 0

    def take(self, n_bytes: int) -> bytes:
        at, self._at = self._at, self._at + n_bytes
        if self._at > len(self._stored):
            n_left = len(self._stored) - at
            raise ValueError(f"stored drift: must have {n_bytes} bytes more at {at}, received {n_left}")
        return self._stored[at : self._at]

    def array(self, dtype: Any, n_items: int) -> NDArray[Any]:
        return np.frombuffer(self.take(n_items * np.dtype(dtype).itemsize), dtype)

    def finish(self) -> None:
        if self._at != len(self._stored):
            raise ValueError(f"stored drift: must have {self._at} bytes, received {len(self._stored)}")


def _check(name: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise ValueError(f"stored drift: {name} must be {lowest} to {highest}, received {value}")


def _check_pane(name: str, pane: int) -> None:
    if pane != EMPTY:
        _check(name, pane, 1 - MAX_PANE, MAX_PANE - 1)
