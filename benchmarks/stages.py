"""Which stage of Nowcast a stack belongs to: the innermost frame that a rule knows decides.

So numpy counts for who called it, and the Kafka client's record format for the side, reading or writing,
that used it. Frames outside the event loop's current step are the same for all and say nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

STEP = re.compile(r"^Handle\._run \(asyncio/events\.py")
IDLE_FRAME = re.compile(r"\b(select|poll) \((\S*/)?selectors\.py")
IDLE, EVENT_LOOP = "idle", "event loop"

RULES: tuple[tuple[str, str], ...] = (
    ("decode", r"\(compute/event"),
    ("group", r"\(compute/arrival|(slots_of|_bring_in) \(tables/partition"),
    ("changelog", r"take_changes|\(agents/checkpoint|\(tables/(stores|statistics)|\(compute/state_"),
    ("statistics", r"\(compute/(statistics|window_|moments|prefix|panes|normalisation|entity_columns)"),
    (
        "model",
        r"\(tables/model|\(compute/(inputs|artefact|scoring|detector)|\(agents/(model|decide)|\(onnxruntime/",
    ),
    ("alerts", r"\(compute/alert"),
    ("encode", r"\(compute/predictions"),
    ("recent", r"\(tables/recent"),
    ("append", r"pack \(agents/outbox|^BatchBuilder\."),
    ("send", r"\(agents/outbox|\(aiokafka/producer/"),
    ("score agent", r"\((agents|tables)/"),
    ("fetch", r"\(aiokafka/consumer/|\(app/transport|\(faust/transport/"),
    ("client connection", r"\((aiokafka|kafka)/"),
    ("faust", r"\((faust|mode)/"),
)

_COMPILED = [(stage, re.compile(pattern)) for stage, pattern in RULES]


def classify(frames: Iterable[str]) -> str:
    """Return the stage of a stack.

    Parameters
    ----------
    frames : iterable of str
        Frames as `function (file:line)`, outermost first.
    """
    for frame in reversed(list(frames)):
        if IDLE_FRAME.search(frame):
            return IDLE
        if STEP.search(frame):
            break
        for stage, pattern in _COMPILED:
            if pattern.search(frame):
                return stage
    return EVENT_LOOP


def count_stages(collapsed: str) -> Counter[str]:
    """Return samples by stage from collapsed stacks, `frame;frame;frame count` a line."""
    samples: Counter[str] = Counter()
    for line in collapsed.splitlines():
        stack, _, count = line.rpartition(" ")
        samples[classify(stack.split(";"))] += int(count)
    return samples
