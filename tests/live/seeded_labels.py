"""Labels for a seeded stream, made from a seed: with the event, later, early, repeated, contradicting, wrong.

Owns what is sent and when. What must become of each is told by `label_verdict.py`, from the topics alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from tests.live.seeded import N_PARTITIONS, DueLabel, Record, Stream

OWN = 0.1
LATER = 0.4
"""Shares of the events whose label comes with them, and by the topic of labels."""

# Of those that come by their topic.
EARLY = 0.03
LONG = 0.03
REPEATED = 0.1
CONTRADICTING = 0.05
ELSEWHERE = 0.03

# Of the events, labels that nobody can join.
OF_ANOTHER = 0.002
OF_NOTHING = 0.001
INVALID = 0.001

OUT = 6.0
"""So many standard deviations make an event stand out."""

NOISE = 0.05
"""Share of the labels that are not what the features say."""

MEAN_LAG_SECONDS, LONG_LAG_SECONDS, EARLY_SECONDS = 2.0, 30.0, 1.0
BEYOND = 1_000_000_000
"""Offset of no event."""

SHAPES: dict[int, list[Any]] = {0: [0, 0.0, False, "0"], 1: [1, 1.0, True, "1"]}
WRONG_LABELS: list[Any] = [None, "", [1], {"class": 1}]


@dataclass(frozen=True)
class LabelPlan:
    """A stream some of whose events bring their label, and what is known of the labels of all."""

    stream: Stream
    truth: list[int]


def with_labels(stream: Stream) -> LabelPlan:
    """Give some events of a stream their own label: whether they stand out, or not quite that."""
    rng = np.random.default_rng([stream.seed, 1])
    n_events = len(stream.records)
    truth = (rng.random(n_events) < NOISE).tolist()
    has_own = (rng.random(n_events) < OWN).tolist()
    shapes = rng.integers(4, size=n_events).tolist()
    records, labels = [], []
    for i, record in enumerate(stream.records):
        event = _read(record.value) if record.key else {}
        label = int(truth[i] != _stands_out(record, event))
        labels.append(label)
        if has_own[i] and "id" in event:  # not one that is broken
            record = record._replace(value=json.dumps({**event, "label": SHAPES[label][shapes[i]]}).encode())
        records.append(record)
    return LabelPlan(replace(stream, records=records), labels)


def _stands_out(record: Record, event: dict[str, Any]) -> bool:
    """Tell whether an event is as `make_stream` makes those that stand out."""
    if "id" not in event:
        return False
    level = 20.0 + int((record.key or b"").rpartition(b"-")[2])
    return bool(event["features"]["temperature"] > level + OUT)


def _read(value: bytes) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def make_labels(plan: LabelPlan, topic: str, per_second: float) -> list[DueLabel]:
    """Make the labels that come by their own topic, in the order in which they are sent.

    Parameters
    ----------
    plan : LabelPlan
    topic : str
        Of the events, which are all of it, in order: so ids are known before the events are sent.
    per_second : float
        Events that the feed sends: delays are given in events.
    """
    records = plan.stream.records
    rng = np.random.default_rng([plan.stream.seed, 2])
    number = count()
    due: list[tuple[float, DueLabel]] = []
    next_offsets = [0] * N_PARTITIONS

    def send(seconds: float, i: int, of: str, label: Any, key: bytes | None = None) -> None:
        """Send a label so many seconds after event i."""
        place = max(i + 1 + seconds * per_second, 0.0)
        partition = records[i].partition
        if rng.random() < ELSEWHERE:
            partition = (partition + 1) % N_PARTITIONS
        # Each has a number of its own, by which it is known again where it was sent on.
        value = json.dumps({"id": of, "label": label, "n": next(number)}).encode()
        due.append(
            (place, DueLabel(int(place), Record(partition, key or records[i].key or b"nobody", value)))
        )

    for i, record in enumerate(records):
        event_id = f"{topic}-{record.partition}-{next_offsets[record.partition]}"
        next_offsets[record.partition] += 1
        label = plan.truth[i]
        chance, kind = rng.random(2).tolist()
        shapes = SHAPES[label]
        if chance < LATER:
            lag = rng.exponential(MEAN_LAG_SECONDS)
            if kind < EARLY:
                lag = -rng.uniform(0, EARLY_SECONDS)
            elif kind < EARLY + LONG:
                lag += rng.uniform(0, LONG_LAG_SECONDS)
            send(lag, i, event_id, shapes[int(rng.integers(4))])
            if rng.random() < REPEATED:
                send(lag + rng.exponential(MEAN_LAG_SECONDS), i, event_id, shapes[int(rng.integers(4))])
            if rng.random() < CONTRADICTING:
                send(lag + rng.exponential(MEAN_LAG_SECONDS), i, event_id, 1 - label)
        elif chance < LATER + OF_ANOTHER:
            send(1.0, i, event_id, label, b"another")
        elif chance < LATER + OF_ANOTHER + OF_NOTHING:
            place = f"{record.partition}-{BEYOND + i}"
            wrong = [f"{topic}-{place}", f"another-{place}", f"{topic}-{N_PARTITIONS}-0", "no id"]
            send(1.0, i, wrong[int(rng.integers(4))], label)
        elif chance < LATER + OF_ANOTHER + OF_NOTHING + INVALID:
            send(1.0, i, event_id, WRONG_LABELS[int(rng.integers(4))])
    return [label for _, label in sorted(due, key=lambda item: item[0])]
