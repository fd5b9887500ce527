"""Changelogs of many entities without a stream: encoded by the table's own code, produced directly.

For tests of long recoveries and for `benchmarks/recovery.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from confluent_kafka import Producer

from compute.statistics import score_and_learn
from tables.partition import Partition
from tables.stores import Item

FEATURES = ("temperature", "pressure", "vibration", "current")
FIRST_PANE = 5_666_666
PANE_SECONDS = 300.0
N_PANES = 12
N_HELD = 3
"""Panes in which each entity has events: a stored state of 617 bytes."""

EVENTS_A_PANE = 2
CHUNK = 10_000
TIMEOUT_SECONDS = 300


class _Nothing:
    """A store without entities."""

    def get_many(self, partition: int, keys: list[bytes]) -> list[None]:
        return [None] * len(keys)

    def scan(self, *args: object) -> list[tuple[bytes, bytes]]:
        return []


def key_of(partition: int, number: int) -> bytes:
    """Return the key of an entity."""
    return b"machine-%02d-%07d" % (partition, number)


def make_states(partition: int, n_entities: int) -> Iterator[list[Item]]:
    """Yield checkpoints that write so many entities, each of them once."""
    rng = np.random.default_rng(partition)
    next_offset = 0
    for first in range(0, n_entities, CHUNK):
        numbers = range(first, min(first + CHUNK, n_entities))
        held = Partition(partition, _Nothing(), N_PANES, PANE_SECONDS, n_entities)  # type: ignore[arg-type]
        slots = held.slots_of([key_of(partition, number) for number in numbers], FEATURES)
        n_turns = N_HELD * EVENTS_A_PANE
        panes = FIRST_PANE + np.repeat(np.arange(n_turns) // EVENTS_A_PANE, len(slots))
        matrix = rng.normal(50.0, 10.0, (n_turns * len(slots), len(FEATURES)))
        offsets = np.arange(next_offset, next_offset + len(matrix))
        learnt, scored = score_and_learn(
            held.columns, np.tile(slots, n_turns), offsets, panes, matrix, held.watermark
        )
        held.columns.assign(learnt)
        held.mark_changed(slots)
        held.watermark, held.next_offset = scored.watermark, next_offset + len(matrix)
        next_offset = held.next_offset
        yield held.take_changes()


def fill_changelog(bootstrap: str, topic: str, n_partitions: int, n_entities: int) -> int:
    """Write the states of entities, as many to each partition, and return how many bytes that is."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "batch.size": 900_000,
            "queue.buffering.max.kbytes": 400_000,
        }
    )
    n_bytes = 0
    for partition in range(n_partitions):
        for items in make_states(partition, n_entities // n_partitions):
            for key, value in items:
                n_bytes += len(key) + len(value or b"")
                while True:
                    try:
                        producer.produce(topic, value, key, partition=partition)
                        break
                    except BufferError:
                        producer.poll(0.05)
    assert producer.flush(TIMEOUT_SECONDS) == 0
    return n_bytes
