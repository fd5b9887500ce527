"""Where the numbers of an event are in a stored block of answered events, and how they are read.

Owns the description that a block begins with and what follows from it: the types of columns and their order.
Blocks of one version are described alike, so what follows is worked out once for all of them, and events out
of many blocks are read in one go.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from compute.answered import Answered, VersionAnswers
from compute.moments import Integers

INDEX_TYPES, NUMBER_TYPES = ("i1", "i2", "i4"), ("f4", "f8")

Bytes = NDArray[np.uint8]

_FRONT = [("offset", "<u4"), ("timestamp", "<f8"), ("record_time", "<f8"), ("key_crc", "<u4")]


class AboutVersion(msgspec.Struct, array_like=True, frozen=True):
    """A version as the description has it; `shared`: the positive class's probabilities are the scores."""

    model: str
    version: str
    role: str
    task: str
    classes: tuple[str, ...]
    positive: int | None
    predictions: str
    scores: str
    probabilities: str
    shared: bool

    def check(self) -> None:
        """Raise ValueError if columns cannot be of these types."""
        allowed = INDEX_TYPES if self.classes else NUMBER_TYPES
        if self.predictions not in allowed or self.scores not in NUMBER_TYPES:
            found = self.predictions, self.scores
            raise ValueError(f"answered events: types of columns must be among {allowed}, received {found}")
        if self.probabilities not in ("", *NUMBER_TYPES):
            raise ValueError(f"answered events: no type of probabilities: {self.probabilities[:10]!r}")
        if self.positive is not None and not 0 <= self.positive < len(self.classes):
            bound = f"one of {len(self.classes)} classes"
            raise ValueError(f"answered events: positive must be {bound}, received {self.positive}")
        if self.shared and (self.positive is None or not self.probabilities):
            raise ValueError("answered events: scores are shared with no probabilities")


class About(msgspec.Struct, array_like=True, frozen=True):
    """The description: versions, and names of features where there are inputs."""

    versions: tuple[AboutVersion, ...]
    features: tuple[str, ...] | None


encode_about = msgspec.json.Encoder().encode
_decode_about = msgspec.json.Decoder(About).decode


@lru_cache(maxsize=64)
def layout_of(about: bytes) -> Layout:
    """Return what a description says.

    Raises
    ------
    ValueError
        If it is none, whatever the bytes are.
    """
    return Layout(_decode_about(about))  # what it and UTF-8 raise are ValueErrors


class Layout:
    """Where the numbers of an event are.

    Parameters
    ----------
    about : About

    Attributes
    ----------
    row_bytes : int
        Bytes of one event, in all columns together.
    """

    def __init__(self, about: About) -> None:
        self._about = about
        fields: list[Any] = list(_FRONT)
        if about.features is not None:
            fields.append(("inputs", "<f4", (len(about.features),)))
        for i, version in enumerate(about.versions):
            version.check()
            fields.append((f"predictions {i}", "<" + version.predictions))
            fields.append((f"scores {i}", "<" + version.scores))
            if version.probabilities:
                n_kept = len(version.classes) - version.shared
                fields.append((f"probabilities {i}", "<" + version.probabilities, (n_kept,)))
        self._row = np.dtype(fields)
        self.row_bytes = self._row.itemsize
        columns = [self._row[i] for i in range(len(fields))]
        sizes = np.array([column.itemsize for column in columns])
        starts = np.cumsum(sizes) - sizes
        self._sizes, self._starts = np.repeat(sizes, sizes), np.repeat(starts, sizes)
        self._within = np.arange(self.row_bytes) - self._starts

    def places(self, n_events: Integers, rows: Integers) -> Integers:
        """Return where the bytes of events are, behind the beginning of their blocks' columns.

        Parameters
        ----------
        n_events, rows : ndarray, shape (k,), int64
            Events of the block that has it, and its row there.

        Returns
        -------
        ndarray, shape (k, row_bytes), int64
        """
        found: Integers = n_events[:, None] * self._starts
        found += rows[:, None] * self._sizes
        found += self._within
        return found

    def read(self, rows: Bytes, first_offsets: Integers) -> Answered:
        """Return events of their bytes.

        Parameters
        ----------
        rows : ndarray, shape (k, row_bytes), uint8
        first_offsets : ndarray, shape (k,), int64
            Of the blocks that they are from.
        """
        columns = rows.view(self._row)[:, 0] if len(rows) else np.zeros(0, self._row)
        features = self._about.features
        return Answered(
            offsets=first_offsets + columns["offset"],
            timestamps=columns["timestamp"].astype(np.float64),
            record_times=columns["record_time"].astype(np.float64),
            key_crcs=columns["key_crc"].astype(np.uint32),
            inputs=None if features is None else columns["inputs"].astype(np.float32),
            feature_names=features or (),
            versions=tuple([_read_version(of, columns, i) for i, of in enumerate(self._about.versions)]),
        )


def _read_version(version: AboutVersion, columns: NDArray[Any], number: int) -> VersionAnswers:
    predictions = columns[f"predictions {number}"].astype(np.int32 if version.classes else np.float64)
    scores = columns[f"scores {number}"].astype(np.float64)
    probabilities = None
    if version.probabilities:
        n_classes, positive = len(version.classes), version.positive
        probabilities = kept = columns[f"probabilities {number}"].astype(np.float64)
        if version.shared and positive is not None:
            probabilities = np.empty((len(scores), n_classes))
            probabilities[:, :positive] = kept[:, :positive]
            probabilities[:, positive] = scores
            probabilities[:, positive + 1 :] = kept[:, positive:]
    return VersionAnswers(
        *(version.model, version.version, version.role, version.task, version.classes, version.positive),
        *(scores, predictions, probabilities),
    )
