"""What could not be processed goes to the dead letters: original key, value and headers, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compute.dead_letters import dead_letter_headers, fit_dead_letter

Fault = tuple[int, str, str]
"""Position in the record batch, code, message."""

STAGES = {
    "late-event": "score",
    "missing-feature": "score",
    "model-error": "score",
    "model-timeout": "score",
    "invalid-label": "label",
    "unknown-label": "label",
    "late-label": "label",
    "early-label": "label",
    "contradicting-label": "label",
}
"""The hop that refuses by a code; all else could not be decoded."""


def pack_dead_letters(
    outbox: Any, settings: Any, topic: str, partition: int, records: Sequence[Any], faults: Sequence[Fault]
) -> None:
    """Pack the dead letters of a batch.

    Parameters
    ----------
    outbox : Outbox or Lanes
    settings : app.settings.Settings
        Of these: topic_dead_letters, max_dead_letter_bytes.
    topic, partition
        Where the records came from.
    records : sequence
        The records that positions are in.
    faults : sequence of Fault
    """
    letters = []
    for position, code, message in faults:
        record = records[position]
        reasons = dead_letter_headers(
            code, message, topic, partition, record.offset, STAGES.get(code, "decode")
        )
        own = list(record.headers)
        letters.append(
            fit_dead_letter(record.key, record.value, own, reasons, settings.max_dead_letter_bytes)
        )
    keys, values, headers = zip(*letters, strict=True) if letters else ((), (), ())
    outbox.pack(settings.topic_dead_letters, partition, keys, values, headers)
