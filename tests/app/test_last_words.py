"""What a worker says last; that it is the last line of the log is tested in tests/live/test_faults.py."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors

from agents.score import TopicEndError
from app.last_words import describe_end, tell_why
from app.settings import Settings
from tables.changelog_reading import ChangelogError

DIRECTORY = Path("/data/w")
SETTINGS = Settings(broker="kafka://there")
FULL = "IO error: No space left on device: While appending to file: /data/000004.log: No space left on device"


def described(error: BaseException) -> str:
    return describe_end(error, SETTINGS, DIRECTORY)


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def noted(error: BaseException, note: str) -> BaseException:
    error.__notes__ = [note]  # type: ignore[attr-defined,unused-ignore]
    return error


CASES = [
    (
        Exception(FULL),
        "the store in /data/w could not be written (No space left on device): make room and start it again",
    ),
    (
        Exception("IO error: While open a file for appending: /data/7.log: Too many open files"),
        "the store in /data/w failed (IO error: While open a file for appending: /data/7.log: Too many "
        "open files): see to its disk and start it again",
    ),
    (
        Exception("Corruption: block checksum mismatch"),
        "the store in /data/w is damaged (Corruption: block checksum mismatch): delete this directory "
        "and start it again, the state comes back from the changelog",
    ),
    (
        noted(errors.MessageSizeTooLargeError(), "records for topic 'predictions', partition 3"),
        "Kafka at kafka://there refused records for topic 'predictions', partition 3 "
        "([Error 10] MessageSizeTooLargeError): raise the topic's max.message.bytes (or the "
        "broker's message.max.bytes) and start it again",
    ),
    (
        errors.GroupAuthorizationFailedError("pumps"),
        "Kafka at kafka://there refused ([Error 30] GroupAuthorizationFailedError: pumps): grant this worker "
        "the right that it lacks and start it again",
    ),
    (
        errors.KafkaStorageError(),
        "Kafka at kafka://there refused ([Error 56] KafkaStorageError): see to the broker and start it again",
    ),
    (
        errors.KafkaTimeoutError(),
        "Kafka at kafka://there (NOWCAST_BROKER) does not answer (KafkaTimeoutError): start it again when "
        "it does",
    ),
    (
        OSError(errno.EMFILE, "Too many open files", "/data/x"),
        "the system refused (OSError: /data/x: Too many open files): see to it and start it again",
    ),
    (
        asyncio.TimeoutError("topic 'models' is not read to its end"),
        "topic 'models' is not read to its end: start it again",
    ),
    (MemoryError(), "out of memory: give it more, or set NOWCAST_CACHED_ENTITIES lower, and start it again"),
    (
        ZeroDivisionError("division\nby zero"),
        "ZeroDivisionError: division by zero (its traceback is above)",
    ),
]


@pytest.mark.parametrize(("error", "words"), CASES, ids=lambda case: type(case).__name__)
def test_what_happened_and_what_to_do_are_one_line(error: BaseException, words: str) -> None:
    assert described(error) == f"{words}; nothing is lost"


def test_an_error_that_says_what_to_do_is_told_as_it_is() -> None:
    for kind in (TopicEndError, ChangelogError):
        assert described(kind("delete the topic")) == "delete the topic"


def test_the_cause_is_told_and_not_what_came_of_it() -> None:
    later = caused(RuntimeError("an earlier checkpoint failed"), Exception(FULL))
    assert described(later) == described(Exception(FULL))
    assert described(caused(ChangelogError("the local store failed"), Exception(FULL))) == described(later)
    assert described(caused(RuntimeError("later"), KeyError("first"))).startswith("KeyError: 'first' (")


def test_causes_in_a_circle_end() -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    caused(one, other)
    caused(other, one)
    assert described(one).startswith("RuntimeError: other (")


def test_a_message_of_any_length_is_one_line_of_bounded_length() -> None:
    assert len(described(RuntimeError("x\n" * 100_000))) < 1_100


@pytest.fixture
def _logging_stays() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


def ending(crash_reason: BaseException | None, **more: Any) -> Any:
    conf = SimpleNamespace(datadir=DIRECTORY)
    app = SimpleNamespace(nowcast_settings=SETTINGS, conf=conf)
    return SimpleNamespace(
        **{"crash_reason": crash_reason, "app": app, "logfile": None, "stderr": io.StringIO(), **more}
    )


def end_with(code: int, context: BaseException | None = None) -> SystemExit:
    end = SystemExit(code)
    end.__context__ = context
    return end


@pytest.mark.usefixtures("_logging_stays")
def test_a_crash_is_told_on_stderr_and_in_the_log_file(caplog: pytest.LogCaptureFixture) -> None:
    for logfile in (None, "worker.log"):
        logging.disable(logging.NOTSET)
        worker = ending(MemoryError(), logfile=logfile)
        tell_why(worker, end_with(1))
        (line,) = worker.stderr.getvalue().splitlines()
        assert line.startswith("nowcast: the worker stopped: out of memory")
        assert caplog.messages == ([line] if logfile else [])


@pytest.mark.usefixtures("_logging_stays")
def test_a_start_that_failed_without_a_crash_is_told() -> None:
    worker = ending(None)
    tell_why(worker, end_with(1, TimeoutError("the models were not read")))
    assert "the models were not read" in worker.stderr.getvalue()


def test_of_a_worker_that_was_asked_to_stop_there_are_no_last_words() -> None:
    worker = ending(None)
    tell_why(worker, end_with(0, KeyError("some context")))
    assert worker.stderr.getvalue() == ""
