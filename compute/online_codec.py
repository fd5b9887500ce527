"""Stored form of an online learner: the bytes that go to the table's store and its changelog.

Owns the layout. All numbers are little endian::

    magic "NO", format u8, task u8 (0 classification, 1 regression), version of the algorithm (8 bytes),
    n_names u16, n_counting u16, n_classes u16, n_targets u16, n_waiting u16, zero u16, names_bytes u32,
    classes_bytes u32, n_resets u32, n_learnt u64, n_ignored u64                                 (52 bytes)
    names, then classes: each length u16, UTF-8
    n_present: u16 for each name that counts
    if anything is learnt, gram: f32, the upper triangle of each memory; moment: f64
    losses: f64 for each guess; packed: f64, the sharpness of classes, the offsets of numbers
    what waits for its block's end: bent features f32 of all names, then targets f64

With d = 97 + features and k classes (1 for numbers) that is about 4 d (d + 1) + 16 d k bytes, and up to 511
times (4 features + 8) for what waits: at most 75 kB for 10 features and two classes, 1.1 MB for 256 features
and two classes. The bound, with 256 features and 64 classes of the longest names there may be, is 1.8 MB.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from compute.moments import Integers
from compute.online_classes import Classes
from compute.online_features import N_FREQUENCIES
from compute.online_memory import MEMORIES
from compute.online_numbers import Numbers
from compute.online_state import OnlineState, Task, check_counts, check_state
from compute.state_format import name_bytes, read_names

MAGIC, FORMAT = b"NO", 1
TASKS: tuple[Task, ...] = ("classification", "regression")
HEADER = struct.Struct("<2sBB8s6H3I2Q")


def encode_state(state: OnlineState) -> bytes:
    """Return the stored form; that of a learner that knows no name is 100 bytes."""
    names, classes = name_bytes(state.names), name_bytes(state.classes)
    counts = (len(state.names), len(state.n_present), state.moment.shape[2], len(state.waiting_targets))
    n_names, n_counting, n_targets, n_waiting = counts
    head = HEADER.pack(
        *(MAGIC, FORMAT, TASKS.index(state.task), bytes.fromhex(state.version)),
        *(n_names, n_counting, len(state.classes), n_targets, n_waiting, 0),
        *(len(names), len(classes), state.n_resets, state.n_learnt, state.n_ignored),
    )
    body = np.zeros(1, _fields(state.task, state.n_learnt > 0, *counts))[0]
    body["n_present"] = state.n_present
    if state.n_learnt:
        rows, columns = _triangle(state.gram.shape[1])
        body["gram"], body["moment"] = state.gram[:, rows, columns], state.moment
    body["losses"], body["packed"] = state.losses, state.packed
    body["waiting_rows"], body["waiting_targets"] = state.waiting_rows[:, 1:], state.waiting_targets
    return b"".join([head, names, classes, body.tobytes()])


def decode_state(stored: bytes, versions: Mapping[Task, str]) -> OnlineState:
    """Return what `encode_state` stored.

    Parameters
    ----------
    stored : bytes
    versions : mapping of str to str
        Of the algorithm, by task: what another one learnt means something else.

    Raises
    ------
    ValueError
        If the bytes are no stored learner, or one of another version.

    Examples
    --------
    >>> decode_state(b"hello", {})
    Traceback (most recent call last):
    ValueError: online learner: must have 52 bytes or more, received 5
    """
    size = HEADER.size
    if len(stored) < size:
        raise ValueError(f"online learner: must have {size} bytes or more, received {len(stored)}")
    magic, form, code, made_by, *counts, n_learnt, n_ignored = HEADER.unpack_from(stored)
    n_names, n_counting, n_classes, n_targets, n_waiting, zero, names_bytes, classes_bytes, n_resets = counts
    if (magic, form, zero) != (MAGIC, FORMAT, 0) or code >= len(TASKS):
        wanted = MAGIC + bytes([FORMAT])
        raise ValueError(f"online learner: must begin with {wanted!r} and a task, received {stored[:4]!r}")
    task = TASKS[code]
    if made_by.hex() != versions[task]:
        raise ValueError(f"online learner: must be of version {versions[task]}, received {made_by.hex()}")
    check_counts(task, n_learnt, n_names, n_counting, n_classes, n_targets, n_waiting)
    fields = _fields(task, n_learnt > 0, n_names, n_counting, n_targets, n_waiting)
    classes_at = size + names_bytes
    body_at = classes_at + classes_bytes
    # Lengths are compared before anything is allocated: a forged one cannot ask for more than there is.
    if body_at + fields.itemsize != len(stored):
        raise ValueError(
            f"online learner: must have {body_at + fields.itemsize} bytes, received {len(stored)}"
        )
    body = np.frombuffer(stored, fields, 1, body_at)[0]
    d = N_FREQUENCIES + 1 + n_counting
    gram, moment = np.zeros((len(MEMORIES), d, d), np.float32), np.zeros((len(MEMORIES), d, n_targets))
    if n_learnt:
        rows, columns = _triangle(d)
        gram[:, rows, columns] = gram[:, columns, rows] = body["gram"]
        moment[:] = body["moment"]
    state = OnlineState(
        version=versions[task],
        task=task,
        n_learnt=n_learnt,
        n_ignored=n_ignored,
        n_resets=n_resets,
        names=read_names(stored[size:classes_at], n_names),
        n_present=tuple(body["n_present"].tolist()),
        classes=read_names(stored[classes_at:body_at], n_classes),
        gram=gram,
        moment=moment,
        losses=body["losses"].astype(np.float64),
        packed=body["packed"].astype(np.float64),
        waiting_rows=np.insert(body["waiting_rows"].astype(np.float32), 0, 1.0, axis=1),
        waiting_targets=body["waiting_targets"].astype(np.float64),
    )
    check_state(state)
    return state


@lru_cache(maxsize=64)
def _fields(
    task: Task, is_learnt: bool, n_names: int, n_counting: int, n_targets: int, n_waiting: int
) -> np.dtype[np.void]:
    """Return the fields behind the names."""
    kind = Classes if task == "classification" else Numbers
    d, n_memories = N_FREQUENCIES + 1 + n_counting, len(MEMORIES) if is_learnt else 0
    return np.dtype(
        [
            ("n_present", "<u2", (n_counting,)),
            ("gram", "<f4", (n_memories, d * (d + 1) // 2)),
            ("moment", "<f8", (n_memories, d, n_targets)),
            ("losses", "<f8", (kind.n_guesses,)),
            ("packed", "<f8", (kind.n_packed(d),)),
            ("waiting_rows", "<f4", (n_waiting, n_names)),
            ("waiting_targets", "<f8", (n_waiting,)),
        ]
    )


@lru_cache(maxsize=16)
def _triangle(n: int) -> tuple[Integers, Integers]:
    rows, columns = np.triu_indices(n)
    return rows, columns
