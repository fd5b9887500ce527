"""Why a worker stopped by itself, in one line behind all that Faust says of a crash.

Owns the wording. What comes of a crash is the same whatever its cause: nothing that was not durable is
committed (`agents/checkpoint.py`), and who is started again begins there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aiokafka import errors

from agents.score import TopicEndError
from app.settings import Settings
from app.topics import StartError
from tables.changelog_reading import ChangelogError, one_line
from tables.keys import KeyFileError
from tables.model_topic import TopicError

SAFE = "nothing is lost"

log = logging.getLogger(__name__)

_TOLD = (TopicEndError, ChangelogError, StartError, KeyFileError, TopicError)
"""Errors whose message is one line for people and says what to do."""

_AWAY = (errors.KafkaConnectionError, errors.KafkaTimeoutError, errors.RequestTimedOutError)

_NO_ROOM = re.compile(r"No space left on device|File too large|Disk quota exceeded")

_OF_STORE = re.compile(r"(IO error|Corruption)\b")
"""How messages of RocksDB begin, which have no type of their own."""

_N_CHARACTERS = 1_000


def tell_why(worker: Any, end: SystemExit) -> None:
    """Print the last words of a worker that ends by itself; of one that was asked to there are none.

    Parameters
    ----------
    worker : app.worker.Worker
    end : SystemExit
        What it ends with.
    """
    error = worker.crash_reason or (end.__context__ if end.code else None)
    if error is None:
        return
    why = describe_end(error, worker.app.nowcast_settings, worker.app.conf.datadir.absolute())
    words = f"nowcast: the worker stopped: {why}"
    if worker.logfile:
        log.critical("%s", words)
    with contextlib.suppress(OSError):  # the log may be on the disk that is full
        print(words, file=worker.stderr, flush=True)
    # Whatever was left lying would have its say when it is collected.
    logging.disable(logging.CRITICAL)


def describe_end(error: BaseException, settings: Settings, directory: Path) -> str:
    """Return what happened and what to do, in one line.

    Parameters
    ----------
    error : BaseException
        Why the worker crashed, with its causes.
    settings : Settings
        Of these: broker.
    directory : pathlib.Path
        Of the store.

    Examples
    --------
    >>> error = Exception("IO error: While appending to file: data/000012.log: File too large")
    >>> describe_end(error, Settings(), Path("/data"))
    'the store in /data could not be written (File too large): make room and start it again; nothing is lost'
    """
    chain = list(_causes(error))
    rules: list[Callable[[BaseException], str]] = [
        lambda each: _of_store(each, directory),
        lambda each: one_line(each) if isinstance(each, _TOLD) else "",
        lambda each: _of_kafka(each, settings),
        _of_system,
    ]
    for rule in rules:
        for each in chain:
            if words := rule(each):
                return words[:_N_CHARACTERS]
    # Of a chain of unknown errors the first one is why the others came.
    words = f"{type(chain[-1]).__name__}: {one_line(chain[-1])}"[:_N_CHARACTERS]
    return f"{words} (its traceback is above); {SAFE}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__


def _of_store(error: BaseException, directory: Path) -> str:
    told = one_line(error)
    if type(error) is not Exception or not _OF_STORE.match(told):
        return ""
    if told.startswith("Corruption"):
        return (
            f"the store in {directory} is damaged ({told}): delete this directory and start it again, "
            f"the state comes back from the changelog; {SAFE}"
        )
    if room := _NO_ROOM.search(told):
        return (
            f"the store in {directory} could not be written ({room[0]}): make room and start it again; {SAFE}"
        )
    return f"the store in {directory} failed ({told}): see to its disk and start it again; {SAFE}"


def _of_kafka(error: BaseException, settings: Settings) -> str:
    if not isinstance(error, errors.KafkaError):
        return ""
    name = type(error).__name__
    if isinstance(error, _AWAY):
        return (
            f"Kafka at {settings.broker} (NOWCAST_BROKER) does not answer ({name}): start it again when it "
            f"does; {SAFE}"
        )
    about = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, errors.MessageSizeTooLargeError):
        to_do = "raise the topic's max.message.bytes (or the broker's message.max.bytes)"
    elif name.endswith("AuthorizationFailedError"):
        to_do = "grant this worker the right that it lacks"
    else:
        to_do = "see to the broker"
    return (
        f"Kafka at {settings.broker} refused{about} ({one_line(error)}): {to_do} and start it again; {SAFE}"
    )


def _of_system(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return (
            f"out of memory: give it more, or set NOWCAST_CACHED_ENTITIES lower, and start it again; {SAFE}"
        )
    if isinstance(error, asyncio.TimeoutError):  # an OSError from Python 3.11 on
        return f"{one_line(error)}: start it again; {SAFE}"
    if isinstance(error, OSError):
        told = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else one_line(error)
        return f"the system refused ({type(error).__name__}: {told}): see to it and start it again; {SAFE}"
    return ""
