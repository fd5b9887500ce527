"""Labels that come later than their events, as they do in life: kept for a while, then sent to their topic.

Owns which label belongs to which prediction id. An id holds the offset of its event, which is known once
the broker has acknowledged it. Where labels come from and what the clock says is left to the replay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from agents.outbox import Outbox, Packed
from app.sources.source import Label
from compute.predictions import format_event_ids


class _Value(msgspec.Struct):
    id: str
    label: Label


class _Waiting(NamedTuple):
    due_seconds: float
    packed: Packed
    keys: Sequence[bytes]
    labels: Sequence[Label]


class LateLabels:
    """Labels on their way.

    Parameters
    ----------
    topic : str
        Where they are sent to; it must have the partitions of the events.
    delay_seconds : float
        How much later than its event a label is sent.

    Attributes
    ----------
    n_labels : int
        Labels handed over so far.
    """

    def __init__(self, topic: str, delay_seconds: float) -> None:
        self._topic = topic
        self._delay_seconds = delay_seconds
        self._waiting: deque[_Waiting] = deque()
        self._encode = msgspec.json.Encoder().encode
        self.n_labels = 0

    @property
    def are_waiting(self) -> bool:
        """Whether there are labels that were not handed over."""
        return bool(self._waiting)

    def keep(
        self, packed: Sequence[Packed], keys: Sequence[bytes], labels: Sequence[Label], now: float
    ) -> None:
        """Keep the labels of events just packed, in their order; None where an event has none."""
        first = 0
        for item in packed:  # in as many batches as the records needed
            rows = slice(first, first + item.n_records)
            self._waiting.append(_Waiting(now + self._delay_seconds, item, keys[rows], labels[rows]))
            first = rows.stop

    def seconds_left(self, now: float) -> float:
        """Return the time until the next labels are due; infinity if none wait."""
        return max(0.0, self._waiting[0].due_seconds - now) if self._waiting else float("inf")

    async def send(self, outbox: Outbox, now: float) -> None:
        """Hand over the labels that are due.

        Raises
        ------
        aiokafka.errors.KafkaError
            The broker did not take their events.
        """
        columns: dict[int, tuple[list[bytes], list[bytes]]] = {}
        while self._waiting and self._waiting[0].due_seconds <= now:
            _, packed, keys, labels = self._waiting.popleft()
            assert packed.delivered is not None
            end = (await packed.delivered).offset + packed.n_records
            ids = format_event_ids(packed.topic, packed.partition, range(end - packed.n_records, end))
            to_keys, to_values = columns.setdefault(packed.partition, ([], []))
            for key, identity, label in zip(keys, ids, labels, strict=True):
                if label is not None:
                    to_keys.append(key)
                    to_values.append(self._encode(_Value(identity, label)))
        for partition, (to_keys, to_values) in columns.items():
            outbox.pack(self._topic, partition, to_keys, to_values)
            self.n_labels += len(to_values)
        await outbox.send()
