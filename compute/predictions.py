"""Predictions as the bytes that are published.

Owns the JSON of the contract's ``predictions`` topic, and how ids and keys are written in all that is
published. What is decided, and by which model, arrives in columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray


class Prediction(msgspec.Struct, gc=False):
    """The published decision for one event."""

    id: str
    key: str
    timestamp: float
    model: str
    version: str
    prediction: Any
    score: float
    warming_up: bool
    probabilities: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    normalised: dict[str, float] | msgspec.UnsetType = msgspec.UNSET


def _plain(value: Any) -> Any:
    """Turn numpy's scalars, which models answer with, into Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"prediction: must be a number, string, boolean or list of them, received {type(value)}")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def decode_key(key: bytes) -> str:
    r"""Return an entity's key as text; bytes that are not UTF-8 are shown as ``\xNN``.

    Examples
    --------
    >>> decode_key(b"pump-1"), decode_key(b"\xffpump")
    ('pump-1', '\\xffpump')
    """
    return key.decode("utf-8", "backslashreplace")


def format_event_ids(topic: str, partition: int, offsets: Iterable[int]) -> list[str]:
    """Return the ids of a partition's events, which their predictions carry.

    Examples
    --------
    >>> format_event_ids("events", 2, [1841])
    ['events-2-1841']
    """
    prefix = f"{topic}-{partition}-"
    return [f"{prefix}{offset}" for offset in offsets]


def encode_predictions(
    *,
    topic: str,
    partition: int,
    offsets: NDArray[np.int64],
    keys: Sequence[bytes],
    timestamps: NDArray[np.float64],
    scores: NDArray[np.float64],
    predictions: Sequence[Any] | NDArray[Any],
    warming_up: NDArray[np.bool_],
    model: str,
    version: str,
    probabilities: NDArray[np.float64] | None = None,
    class_names: Sequence[str] = (),
    normalised: NDArray[np.float64] | None = None,
    feature_names: Sequence[str] = (),
) -> list[bytes]:
    r"""Return the predictions of one partition's events as JSON.

    Parameters
    ----------
    topic, partition : str, int
        Where the events came from.
    offsets : ndarray, shape (n,), int64
        Offsets of the events.
    keys : sequence of bytes, length n
        Entities.
    timestamps : ndarray, shape (n,), float64, seconds
        Event times.
    scores : ndarray, shape (n,), float64
        Raw numbers of the model; JSON has no NaN, so one is written as null.
    predictions : sequence or ndarray, length n
        Decisions: numbers, strings or booleans.
    warming_up : ndarray, shape (n,), bool
        Whether the entity had seen too little to be judged.
    model, version : str
        Who decided.
    probabilities : ndarray, shape (n, n_classes), float64, optional
        Written as an object by class.
    class_names : sequence of str, length n_classes
        Names of the classes.
    normalised : ndarray, shape (n, n_features), float64, optional
        Normalised features; those that are missing are left out.
    feature_names : sequence of str, length n_features
        Names of the features.

    Returns
    -------
    list of bytes, length n

    Raises
    ------
    ValueError
        If the columns differ in length.

    Examples
    --------
    >>> encode_predictions(
    ...     topic="events", partition=2, offsets=np.array([1841]), keys=[b"pump-1"], timestamps=np.array([1.5]),
    ...     scores=np.array([0.9]), predictions=[1], warming_up=np.array([False]), model="detector",
    ...     version="builtin-1", normalised=np.array([[9.0, np.nan]]), feature_names=["flow", "heat"])[0].decode()
    '{"id":"events-2-1841","key":"pump-1","timestamp":1.5,"model":"detector","version":"builtin-1","prediction":1,"score":0.9,"warming_up":false,"normalised":{"flow":9.0}}'
    """  # noqa: E501
    columns: dict[str, Sized] = {
        "keys": keys,
        "timestamps": timestamps,
        "scores": scores,
        "predictions": predictions,
        "warming_up": warming_up,
    }
    if probabilities is not None:
        columns["probabilities"] = probabilities
    if normalised is not None:
        columns["normalised"] = normalised
    for name, column in columns.items():
        if len(column) != len(offsets):
            raise ValueError(f"{name}: must be {len(offsets)}, one for each offset, received {len(column)}")
    names_of_keys = {key: decode_key(key) for key in set(keys)}
    structs = map(
        Prediction,
        format_event_ids(topic, partition, offsets.tolist()),
        map(names_of_keys.__getitem__, keys),
        timestamps.tolist(),
        repeat(model),
        repeat(version),
        predictions.tolist() if isinstance(predictions, np.ndarray) else predictions,
        scores.tolist(),
        warming_up.tolist(),
        repeat(msgspec.UNSET) if probabilities is None else _name_rows(probabilities, class_names),
        repeat(msgspec.UNSET) if normalised is None else _name_rows(normalised, feature_names),
    )
    return list(map(_encode, structs))


def _name_rows(rows: NDArray[np.float64], names: Sequence[str]) -> list[dict[str, float]]:
    """Return each row as an object, without what is missing."""
    if rows.shape[1] != len(names):
        raise ValueError(f"names: must be {rows.shape[1]}, one for each column, received {len(names)}")
    named = [dict(zip(names, row)) for row in rows.tolist()]  # noqa: B905  (checked above, hot)
    for row in np.flatnonzero(np.isnan(rows).any(axis=1)).tolist():
        named[row] = {name: number for name, number in named[row].items() if number == number}
    return named
