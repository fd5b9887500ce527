"""What a group of workers made of a stream, and how that differs from what an undisturbed worker made of it.

Owns reading everything that a group wrote, as a consumer that reads committed sees it, and the comparison.
Places (partition and offset of an event) stand for ids, so that two sendings of one stream can be compared.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from confluent_kafka import Consumer, IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from compute.entity_columns import EntityState
from compute.state_codec import decode_entity

TIMEOUT_SECONDS = 60.0
OPEN_SECONDS = 90.0
"""How long a transaction whose worker died may hide what comes behind it."""

TOLERANCE = 1e-9
N_SHOWN, MAX_SHOWN = 5, 400
OWN_KEYS = b"\x00nowcast"
"""Keys of the changelog that begin so are about partitions, not about entities."""

Place = tuple[int, int]
"""Partition and offset of an event."""

Alerts = dict[tuple[Place, str], list[dict[str, Any]]]
"""By event and by what follows it in the alert's id."""


@dataclass
class Outcome:
    """Everything that a group made of a stream.

    Attributes
    ----------
    events : dict of Place to (bytes or None, bytes)
        Key and value.
    predictions, dead_letters : dict of Place to list of dict
        All that was published about an event.
    alerts : dict of (Place, str) to list of dict
        By event and by what follows it in the alert's id.
    states : dict of (int, bytes) to EntityState
        By partition and key, the newest in the changelog.
    watermarks : dict of int to int
        By partition, the newest in the changelog.
    views : dict of str to dict
        What `/api/statistics/{key}` says; entities without state are left out.
    event_times : dict of Place to int
        Times of the events' records, in milliseconds.
    label_letters : dict of Place to list of dict
        All dead letters of labels, by the places of these.
    """

    events: dict[Place, tuple[bytes | None, bytes]]
    predictions: dict[Place, list[dict[str, Any]]]
    alerts: Alerts
    dead_letters: dict[Place, list[dict[str, Any]]]
    states: dict[tuple[int, bytes], EntityState]
    watermarks: dict[int, int]
    views: dict[str, dict[str, Any]]
    event_times: dict[Place, int] = field(default_factory=dict)
    label_letters: dict[Place, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass
class Verdict:
    """How an outcome differs from that of an undisturbed worker.

    Attributes
    ----------
    lost : list of str
        Events without an answer.
    duplicates : dict of str to int
        By topic, the records beyond the first about the same thing.
    differences : dict of str to list of str
        By kind, what is not as it should be.
    """

    n_events: int
    n_alerts: int
    n_dead_letters: int
    lost: list[str] = field(default_factory=list)
    duplicates: Counter[str] = field(default_factory=Counter)
    differences: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def n_duplicates(self) -> int:
        """Records beyond the first, of all topics."""
        return sum(self.duplicates.values())

    def __str__(self) -> str:
        told = {"lost": len(self.lost), "duplicates": self.n_duplicates}
        told.update((kind, len(found)) for kind, found in self.differences.items())
        lines = [
            f"{self.n_events} events, {self.n_alerts} alerts, {self.n_dead_letters} dead letters; "
            + ", ".join(f"{name} {n}" for name, n in told.items())
            + (f" {dict(self.duplicates)}" if self.duplicates else "")
        ]
        for kind, found in {"lost": self.lost, **self.differences}.items():
            lines += [f"  {kind}: {one[:MAX_SHOWN]}" for one in found[:N_SHOWN]]
        return "\n".join(lines)

    def faults(self, exactly_once: bool) -> list[str]:
        """Return what must not be; repeats only where each answer is promised once."""
        faults = [f"lost: {len(self.lost)}"] if self.lost else []
        faults += [f"{kind}: {len(found)}" for kind, found in self.differences.items() if found]
        if exactly_once and self.n_duplicates:
            faults.append(f"duplicates: {dict(self.duplicates)}")
        return faults


def read_topic(bootstrap: str, topic: str) -> list[Any]:
    """Read all of a topic as a consumer that reads committed, once no transaction is open any more."""
    partitions = await_no_open_transaction(bootstrap, topic)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "verdict",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,  # the last offsets may be markers, which no consumer is given
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, i, 0) for i in partitions])
        missing = set(partitions)
        messages: list[Any] = []
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while missing:
            assert time.monotonic() < deadline, f"the end of partitions {missing} of {topic} was not reached"
            for message in consumer.consume(1_000, timeout=0.05):
                error = message.error()
                if error is None:
                    messages.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    missing.discard(message.partition())
        return messages
    finally:
        consumer.close()


def await_no_open_transaction(bootstrap: str, topic: str) -> list[int]:
    """Wait until a consumer that reads committed sees a topic to its end; return the partitions."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    partitions = list(admin.list_topics(topic, TIMEOUT_SECONDS).topics[topic].partitions)
    deadline = time.monotonic() + OPEN_SECONDS
    while (stable := _ends(admin, topic, partitions, IsolationLevel.READ_COMMITTED)) != (
        ends := _ends(admin, topic, partitions, IsolationLevel.READ_UNCOMMITTED)
    ):
        assert time.monotonic() < deadline, (
            f"{topic}: a transaction stays open at {stable}, the end is {ends}"
        )
        time.sleep(0.1)
    return partitions


def find_open_transactions(bootstrap: str, topics: Iterable[str]) -> list[str]:
    """Return where readers of committed records are held back, one line a partition."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    found = []
    for topic in topics:
        partitions = list(admin.list_topics(topic, TIMEOUT_SECONDS).topics[topic].partitions)
        stable = _ends(admin, topic, partitions, IsolationLevel.READ_COMMITTED)
        ends = _ends(admin, topic, partitions, IsolationLevel.READ_UNCOMMITTED)
        found += [
            f"{topic}, partition {i}: a transaction is open at offset {stable[i]}, the end is {ends[i]}"
            for i in partitions
            if stable[i] != ends[i]
        ]
    return found


def _ends(admin: AdminClient, topic: str, partitions: list[int], level: IsolationLevel) -> dict[int, int]:
    latest: Any = OffsetSpec
    asked = {TopicPartition(topic, i): latest.latest() for i in partitions}
    answers = admin.list_offsets(asked, isolation_level=level)
    return {item.partition: answer.result(TIMEOUT_SECONDS).offset for item, answer in answers.items()}


def read_outcome(
    bootstrap: str, settings: Mapping[str, object], views: Mapping[str, dict[str, Any]]
) -> Outcome:
    """Read what a group with these settings wrote."""
    topics = {name: str(settings[f"topic_{name}"]) for name in ("events", "predictions", "alerts")}
    events = read_topic(bootstrap, topics["events"])
    states, watermarks = _read_changelog(bootstrap, f"{settings['group']}-statistics-changelog")
    predictions: dict[Place, list[dict[str, Any]]] = defaultdict(list)
    for message in read_topic(bootstrap, topics["predictions"]):
        value = json.loads(message.value())
        place, _ = _place(value.pop("id"), topics["events"])
        predictions[place].append({**value, "partition": message.partition(), "key": message.key()})
    alerts: Alerts = defaultdict(list)
    for message in read_topic(bootstrap, topics["alerts"]):
        value = json.loads(message.value())
        alerts[_place(value.pop("id"), topics["events"])].append({**value, "key": message.key()})
    dead_letters: dict[Place, list[dict[str, Any]]] = defaultdict(list)
    label_letters: dict[Place, list[dict[str, Any]]] = defaultdict(list)
    letters = {topics["events"]: dead_letters, str(settings["topic_labels"]): label_letters}
    for message in read_topic(bootstrap, str(settings["topic_dead_letters"])):
        headers = dict(message.headers())
        place = (int(headers["source-partition"]), int(headers["source-offset"]))
        letter = {"error": headers["error"].decode(), "key": message.key(), "value": message.value()}
        letters[headers["source-topic"].decode()][place].append(letter)
    return Outcome(
        {(m.partition(), m.offset()): (m.key(), m.value()) for m in events},
        dict(predictions),
        dict(alerts),
        dict(dead_letters),
        states,
        watermarks,
        dict(views),
        {(m.partition(), m.offset()): m.timestamp()[1] for m in events},
        dict(label_letters),
    )


def _place(answer_id: str, topic: str) -> tuple[Place, str]:
    """Return the place of the event that an id is about, and what follows it."""
    assert answer_id.startswith(f"{topic}-"), answer_id
    partition, offset, *rest = answer_id.removeprefix(f"{topic}-").split("-", 2)
    return (int(partition), int(offset)), "".join(rest)


def _read_changelog(
    bootstrap: str, topic: str
) -> tuple[dict[tuple[int, bytes], EntityState], dict[int, int]]:
    newest: dict[tuple[int, bytes], Any] = {}
    for message in read_topic(bootstrap, topic):
        place = (message.partition(), message.key())
        if place not in newest or message.offset() > newest[place].offset():
            newest[place] = message
    values = {place: message.value() for place, message in newest.items() if message.value()}
    watermarks = {
        p: int(value.split()[0]) for (p, key), value in values.items() if key == b"\x00nowcast-partition"
    }
    states = {
        place: decode_entity(value) for place, value in values.items() if not place[1].startswith(OWN_KEYS)
    }
    return states, watermarks


def split_alerts(outcome: Outcome, rules: Collection[str]) -> tuple[Outcome, Alerts]:
    """Return an outcome without the alerts of some rules, and these."""
    ours = {about: told for about, told in outcome.alerts.items() if told[0]["rule"] in rules}
    others = {about: told for about, told in outcome.alerts.items() if about not in ours}
    return replace(outcome, alerts=others), ours


def judge(found: Outcome, clean: Outcome) -> Verdict:
    """Compare an outcome with that of an undisturbed worker that read the same events at the same places."""
    verdict = Verdict(len(found.events), len(clean.alerts), len(clean.dead_letters))
    if found.events != clean.events:
        verdict.differences["events"].append(
            "not the same events at the same places: nothing can be compared"
        )
        return verdict
    answered = found.predictions.keys() | found.dead_letters.keys()
    verdict.lost = [f"{place}" for place in sorted(found.events.keys() - answered)]
    _compare_answers("prediction", found.predictions, clean.predictions, verdict)
    _compare_answers("alert", found.alerts, clean.alerts, verdict)
    _compare_answers("dead letter", found.dead_letters, clean.dead_letters, verdict)
    n_panes = next(iter(clean.states.values())).n_panes
    silent = {
        key
        for outcome in (found, clean)
        for (partition, key), state in outcome.states.items()
        # Removed at the next checkpoint, or removed already: either may be.
        if clean.watermarks[partition] - state.seen >= n_panes
    }
    if found.watermarks != clean.watermarks:
        verdict.differences["state"].append(f"watermarks {found.watermarks}, not {clean.watermarks}")
    _compare("state", found.states, clean.states, lambda place: place[1] in silent, verdict)
    _compare("view", found.views, clean.views, lambda key: key.encode() in silent, verdict)
    return verdict


def _compare_answers(kind: str, found: Mapping[Any, Any], clean: Mapping[Any, Any], verdict: Verdict) -> None:
    """Compare each answer with the clean one: the first, and those that repeat it."""
    for place in sorted(clean.keys() - found.keys()):
        if kind == "alert" or f"{place}" not in verdict.lost:
            verdict.differences[f"{kind} missing"].append(f"{place}: {clean[place]}")
    for place in sorted(found.keys() - clean.keys()):
        verdict.differences[f"{kind} too many"].append(f"{place}: {found[place]}")
    for place in sorted(found.keys() & clean.keys()):
        first, *repeats = found[place]
        (wanted,) = clean[place]
        difference = differ(first, wanted)
        if difference:
            verdict.differences[f"{kind} differs"].append(f"{place}{difference}")
        for repeat in repeats:
            verdict.duplicates[kind] += 1
            difference = differ(repeat, wanted)
            if difference:
                verdict.differences[f"{kind} repeated otherwise"].append(f"{place}{difference}")


def _compare(
    kind: str,
    found: Mapping[Any, Any],
    clean: Mapping[Any, Any],
    may_lack: Callable[[Any], bool],
    verdict: Verdict,
) -> None:
    for place in sorted(found.keys() | clean.keys()):
        if place in found and place in clean:
            difference = differ(found[place], clean[place])
            if difference:
                verdict.differences[kind].append(f"{place}{difference}")
        elif not may_lack(place):
            whose = "disturbed" if place in found else "undisturbed"
            verdict.differences[kind].append(f"{place}: only the {whose} workers have it")


def differ(one: Any, other: Any) -> str:
    """Tell where two values differ, floats by more than the order in which they were added; "" if nowhere."""
    if isinstance(one, EntityState):
        one, other = _fields(one), _fields(other)
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return f": has {sorted(one)}, not {sorted(other)}"
        within = ((name, differ(value, other[name])) for name, value in one.items())
        return next((f".{name}{difference}" for name, difference in within if difference), "")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = enumerate(map(differ, one, other))
        return next((f"[{i}]{difference}" for i, difference in parts if difference), "")
    if isinstance(one, np.ndarray):
        same = one.shape == other.shape and np.allclose(one, other, TOLERANCE, TOLERANCE, equal_nan=True)
        return "" if same else f": {one.tolist()}, not {other.tolist()}"
    if isinstance(one, float) and isinstance(other, float | int):
        same = math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    else:
        same = bool(one == other)
    return "" if same else f": {one!r}, not {other!r}"


def _fields(state: EntityState) -> dict[str, Any]:
    """Return a state's fields, its features in one order."""
    order = np.argsort(state.features)
    moments = state.moments
    columns = {
        "count": moments.count,
        "mean": moments.mean + moments.low,
        "m2": moments.m2,
        "minimum": state.minimum,
        "maximum": state.maximum,
    }
    names = ("n_panes", "pane_seconds", "newest", "seen", "last_offset", "panes", "n_events", "extra")
    return {
        "features": sorted(state.features),
        **{name: getattr(state, name) for name in names},
        **{name: column[:, order] for name, column in columns.items()},
    }
