"""The label hop: labels in, each joined to the prediction that it is about, on the worker that has it.

Owns the order of the steps for a record batch of labels. What becomes of each is in `agents/join.py`. A batch
is joined part by part, so that everybody else has a turn meanwhile. Each part is one synchronous step, offset
and all, as in the score hop: a checkpoint in between has all of a part or nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from faust.types import TP

from agents.dead_letters import pack_dead_letters
from agents.lanes import Lanes
from agents.outbox import Outbox
from agents.score import Scorer, check_topic_end
from compute.label_reading import LabelBatch
from tables.partition import Partition
from tables.statistics import StatisticsTable

MAX_LABELS = 1_000
"""Labels that are decoded, and then joined, in one go: some 3 to 10 ms, for which all others wait."""


class Labeller:
    """Joins record batches of labels.

    Parameters
    ----------
    settings : app.settings.Settings
    table : StatisticsTable
    outbox : Outbox or Lanes
    scorer : Scorer
        Whose predictions are labelled: what stops it from changing state stops this, and its next offsets are
        committed with those of the labels.
    """

    def __init__(self, settings: Any, table: StatisticsTable, outbox: Outbox | Lanes, scorer: Scorer) -> None:
        self._settings = settings
        self._table = table
        self._outbox = outbox
        self._scorer = scorer

    async def label(self, batch: Any) -> None:
        """Join one record batch and hand over what comes of it."""
        if self._scorer.suspended:
            return
        partition, joiner = self._table.partition(batch.partition), self._scorer.joiner
        assert partition.learning is not None
        check_topic_end(batch, partition.next_label_offset, self._table.changelog_topic_name)
        records = [record for record in batch.records if record.offset >= partition.next_label_offset]
        parts: list[tuple[Sequence[Any], LabelBatch]] = []
        for first in range(0, len(records), MAX_LABELS):
            some = records[first : first + MAX_LABELS]
            parts.append((some, joiner.read(some)))
            if not await self._give_turn(partition):
                return
        # All blocks of the batch before its first part, since the labels of a block may be in any of them.
        offsets = [labels.offsets[labels.partitions == partition.number] for _, labels in parts]
        ahead = partition.learning.pending.ahead(np.concatenate([np.zeros(0, np.int64), *offsets]))
        while ahead.read():
            if not await self._give_turn(partition):
                return
        for part, labels in parts:
            faults = joiner.join(part, labels, partition, ahead)
            pack_dead_letters(self._outbox, self._settings, batch.topic, batch.partition, part, faults)
            self._joined(batch, partition, part[-1].offset + 1)
            await self._outbox.send()
            if not await self._give_turn(partition):
                return
        self._joined(batch, partition, max(batch.last_offset + 1, partition.next_label_offset))

    async def _give_turn(self, partition: Partition) -> bool:
        """Let others go on; tell whether the partition is still ours.

        What is left of a batch is read again by whoever has it then.
        """
        await asyncio.sleep(0)
        return not self._scorer.suspended and self._table.is_current(partition)

    def _joined(self, batch: Any, partition: Partition, next_offset: int) -> None:
        partition.next_label_offset = next_offset
        self._scorer.next_offsets[TP(batch.topic, batch.partition)] = next_offset
