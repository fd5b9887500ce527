"""Labels that come by their own topic: each finds the answer that it is about, or it is told why not.

Owns what becomes of a label, in every order in which labels and events can come. What is learnt from those
that are joined is in `agents/learn.py`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from agents.answer import Answers
from agents.dead_letters import Fault, pack_dead_letters
from agents.lanes import Lanes
from agents.learn import Learner, told_online
from agents.outbox import Outbox
from compute.label_reading import Label, LabelBatch, decode_labels
from compute.labels import canonical_classes
from compute.moments import Integers
from tables.early_labels import MAX_LABEL_BYTES, EarlyLabel
from tables.partition import Partition
from tables.pending import CONTRADICTING, JOINED, LATE, REPEATED, UNKNOWN
from tables.pending_ahead import Ahead

DISORDER_SECONDS = 60.0
"""How much older than those before it a label's record may be and still find its event: a producer that tries
again puts records behind newer ones, and a label that is sent on comes behind those that came straight."""


class Joiner:
    """Joins labels to answers.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: label_delay_seconds, max_event_bytes, partitions, and names of topics.
    learner : Learner
    answers : Answers
        Knows the ids of events.
    outbox : Outbox or Lanes
    labels_end : callable
        Gives the offset of a partition of the labels topic behind which there is nothing to join, None where
        it is not known.
    """

    def __init__(
        self,
        settings: Any,
        learner: Learner,
        answers: Answers,
        outbox: Outbox | Lanes,
        labels_end: Callable[[int], int | None] = lambda number: 0,
    ) -> None:
        self._settings = settings
        self._learner = learner
        self._answers = answers
        self._outbox = outbox
        self._labels_end = labels_end

    def read(self, records: Sequence[Any]) -> LabelBatch:
        """Return what is in records of the labels topic."""
        return decode_labels(
            [record.key for record in records],
            [record.value for record in records],
            max_bytes=self._settings.max_event_bytes,
        )

    def join(
        self, records: Sequence[Any], batch: LabelBatch, partition: Partition, ahead: Ahead | None = None
    ) -> list[Fault]:
        """Join labels to the answers that they are about.

        Parameters
        ----------
        records : sequence
            Records of the labels topic, in order.
        batch : LabelBatch
            What is in them.
        partition : Partition
            Whose labels these should be; those of another one are sent there.
        ahead : Ahead, optional
            Has read the events that they are about.

        Returns
        -------
        list of Fault
            Those that cannot be joined, now or later.
        """
        learning = partition.learning
        assert learning is not None
        faults = [(label.position, label.code, label.message) for label in batch.rejected]
        here: list[int] = []
        elsewhere: dict[int, list[Any]] = {}
        for i, position in enumerate(batch.index.tolist()):
            record, number, offset = records[position], int(batch.partitions[i]), int(batch.offsets[i])
            if batch.topics[i] != self._settings.topic_events or number >= self._settings.partitions:
                faults.append((position, "unknown-label", _NOT_OURS.format(self._settings.topic_events)))
            elif number != partition.number and len(record.value) > MAX_LABEL_BYTES:
                faults.append(
                    (position, "too-large", "label: is on the wrong partition, too large to be sent on")
                )
            elif number != partition.number:
                elsewhere.setdefault(number, []).append(record)
            elif offset < partition.next_offset:
                here.append(i)
            elif not learning.pending.hold_early(
                EarlyLabel(
                    offset,
                    record.offset,
                    record.timestamp / 1000.0,
                    record.key,
                    record.value,
                    list(record.headers),
                )
            ):
                faults.append((position, "early-label", "label: came before its event, and too many wait so"))
        self._forward(partition, elsewhere)
        if here:
            chosen = [records[batch.index[i]] for i in here]
            told = [batch.labels[i] for i in here]
            found = self._join(partition, batch.offsets[here], told, chosen, ahead)
            faults += [(int(batch.index[here[row]]), code, message) for row, code, message in found]
        outcomes = Counter(code.removesuffix("-label") for _, code, _ in faults)
        outcomes["forwarded"] = sum(map(len, elsewhere.values()))
        self._learner.count(learning, +outcomes)
        if len(batch.index):
            newest = max(records[position].timestamp for position in batch.index.tolist())
            learning.note_label_time(_until_now(newest / 1000.0))
        return sorted(faults)

    def _forward(self, partition: Partition, records: Mapping[int, Sequence[Any]]) -> None:
        """Send labels to the partitions of their events: not every producer partitions alike."""
        for number, theirs in records.items():
            self._outbox.pack(
                self._settings.topic_labels,
                number,
                [record.key for record in theirs],
                [record.value for record in theirs],
                [list(record.headers) for record in theirs],
                source=partition.number,
                timestamps=[record.timestamp for record in theirs],  # a label is late by when it came first
            )

    def _join(
        self,
        partition: Partition,
        offsets: Integers,
        labels: Sequence[Label],
        records: Sequence[Any],
        ahead: Ahead | None = None,
    ) -> list[Fault]:
        """Join labels of events that were scored; return the faults by row."""
        learning = partition.learning
        assert learning is not None
        found = learning.pending.find(offsets, ahead)
        outcomes = learning.pending.join(
            found,
            canonical_classes(labels),
            np.array([record.timestamp for record in records], np.float64) / 1000.0,
            np.array([crc32(record.key) for record in records], np.uint32),
        )
        joined = np.flatnonzero(outcomes == JOINED)
        if len(joined):
            keys = [records[row].key for row in joined.tolist()]
            told = [labels[row] for row in joined.tolist()]
            answered = found.answered.take(found.rows[joined])
            self._learner.learn(partition, answered, told, keys)
            if learning.online is not None and answered.inputs is not None:
                online = learning.online
                online.learn(
                    answered.feature_names,
                    answered.inputs.astype(np.float64),
                    [told_online(online.task, label) for label in told],
                )
                learning.changed("online")
        self._learner.count(learning, Counter(repeated=int((outcomes == REPEATED).sum())))
        faults: list[Fault] = []
        for code, (name, message) in _FAULTS.items():
            for row in np.flatnonzero(outcomes == code).tolist():
                event = self._answers.event_id(partition, int(offsets[row]))
                faults.append((row, name, message.format(event, self._settings.label_delay_seconds)))
        return faults

    def settle(self, partition: Partition, newest: float) -> None:
        """Join labels that came before these events, and let go of what has waited for too long.

        `newest` is the latest time of their records, in seconds.
        """
        learning = partition.learning
        assert learning is not None
        pending = learning.pending
        learning.note_event_time(_until_now(newest))
        if pending.n_early:
            self._settle_early(partition, pending.take_early(partition.next_offset))
        now = learning.time_reached(self._labels_end(partition.number), partition.next_label_offset)
        pending.expire(now - DISORDER_SECONDS)
        if pending.n_early:  # an event that was there before its label has been scored by then
            self._settle_early(partition, pending.drop_early(learning.event_time))

    def _settle_early(self, partition: Partition, held: Sequence[EarlyLabel]) -> None:
        """Join labels that were held; those that still find no answer are dead letters."""
        if not held:
            return
        records = [
            _Held(label.key, label.value, label.headers, label.source_offset, label.record_time * 1000.0)
            for label in held
        ]
        labels = decode_labels(
            [record.key for record in records], [record.value for record in records], max_bytes=2**31
        ).labels
        offsets = np.array([label.offset for label in held], np.int64)
        faults = self._join(partition, offsets, labels, records)
        assert partition.learning is not None
        self._learner.count(partition.learning, Counter(code.removesuffix("-label") for _, code, _ in faults))
        topic = self._settings.topic_labels
        pack_dead_letters(self._outbox, self._settings, topic, partition.number, records, sorted(faults))


def _until_now(moment: float) -> float:
    """Return a time, the clock's at most: a producer's wrong clock must not make others late."""
    return min(moment, time.time())


class _Held(NamedTuple):
    """A record of the labels topic that was held."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes | None]]
    offset: int
    timestamp: float


_NOT_OURS = "id: must name an event of topic {!r} and one of its partitions"

_FAULTS = {
    UNKNOWN: ("unknown-label", "id: event {} has no prediction, or is another entity's"),
    LATE: (
        "late-label",
        "label: must come within {1:g} s of its event (NOWCAST_LABEL_DELAY_SECONDS), event {0}",
    ),
    CONTRADICTING: ("contradicting-label", "label: event {} has another one already, the first counts"),
}
