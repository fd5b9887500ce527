"""The label hop: labels in, each joined to the prediction that it is about, on the worker that has it.

Owns the order of the steps for a record batch of labels. What becomes of each is in `agents/join.py`. A
batch is one synchronous step, offset and all, as in the score hop.
"""

from __future__ import annotations

from typing import Any

from faust.types import TP

from agents.dead_letters import pack_dead_letters
from agents.lanes import Lanes
from agents.outbox import Outbox
from agents.score import Scorer, check_topic_end
from tables.statistics import StatisticsTable


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
        partition = self._table.partition(batch.partition)
        check_topic_end(batch, partition.next_label_offset, self._table.changelog_topic_name)
        records = [record for record in batch.records if record.offset >= partition.next_label_offset]
        next_offset = max(batch.last_offset + 1, partition.next_label_offset)
        if records:
            faults = self._scorer.joiner.join(records, partition)
            pack_dead_letters(self._outbox, self._settings, batch.topic, batch.partition, records, faults)
        partition.next_label_offset = next_offset
        self._scorer.next_offsets[TP(batch.topic, batch.partition)] = next_offset
        await self._outbox.send()
