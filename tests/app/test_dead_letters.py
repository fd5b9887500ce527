from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from app.commands.dead_letters import read_choice
from app.commands.one_shot import iso_time
from app.dead_letters.records import Choice, DeadLetter, Retried, marker_headers, read_record
from app.dead_letters.survey import Survey
from app.topics import StartError
from compute.dead_letters import dead_letter_headers


def record(headers: list[tuple[str, bytes | None]], seconds: float = 100.0, **more: Any) -> Any:
    fields = {"key": b"pump", "value": b"{}", "partition": 3, "timestamp": int(seconds * 1000), **more}
    return SimpleNamespace(headers=tuple(headers), **fields)


def letter(offset: int, code: str = "invalid-json", seconds: float = 100.0, topic: str = "events") -> Any:
    return record([*dead_letter_headers(code, "value: ...", topic, 2, offset, "score")], seconds)


def marker(offset: int) -> Any:
    found = read_record(letter(offset))
    assert isinstance(found, DeadLetter)
    return record([*marker_headers(found)], value=b"")


def survey_of(*records: Any, choice: Choice | None = None, n_samples: int = 2) -> Survey:
    survey = Survey(choice or Choice(), n_samples)
    survey.add(records)
    return survey


def test_a_dead_letter_is_read_as_it_was_written() -> None:
    found = read_record(letter(17))
    assert isinstance(found, DeadLetter)
    assert (found.event_id, found.key, found.value) == ("events-2-17", b"pump", b"{}")
    assert (found.partition, found.seconds, found.headers) == (3, 100.0, [])


def test_headers_of_our_names_that_the_event_had_itself_are_its_own() -> None:
    own: list[tuple[str, bytes | None]] = [
        ("error", b"mine"),
        ("trace", None),
        ("retried", b"events-0-1"),
        ("trace", b"2"),
    ]
    found = read_record(record([*own, *dead_letter_headers("missing-key", "", "a-b", 0, 1, "score")]))
    assert isinstance(found, DeadLetter)
    assert (found.headers, found.reason.code, found.event_id) == (own, "missing-key", "a-b-0-1")


def test_a_truncated_letter_says_so_behind_the_reason() -> None:
    reasons = dead_letter_headers("too-large", "", "events", 0, 1, "decode")
    cut, whole = [*reasons, ("truncated", b"9")], [("truncated", b"9"), *reasons]
    assert [read_record(record(headers)).truncated for headers in (cut, whole)] == [True, False]  # type: ignore


def test_a_marker_names_the_event_of_its_dead_letter() -> None:
    assert read_record(marker(17)) == Retried(("events", 2), 17)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("error", b"invalid-json")],
        [("retried", None)],
        [("retried", b"events-1")],
        [("retried", b"events-1-x")],
        dead_letter_headers("e", "m", "events", 0, 0, "s")[:-1],
        [*dead_letter_headers("e", "m", "events", 0, 0, "s"), ("source-offset", b"-1")],
        [*dead_letter_headers("e", "m", "", 0, 0, "s")],
    ],
)
def test_what_nowcast_did_not_write_is_left_out(headers: Any) -> None:
    assert read_record(record(headers)) is None
    assert survey_of(record(headers)).n_foreign == 1


def test_copies_of_a_dead_letter_count_once() -> None:
    survey = survey_of(letter(1), letter(2), letter(1), letter(1, topic="labels"))
    assert survey.by_code()["invalid-json"].n == 3
    assert survey.open_offsets() == {("events", 2): {1, 2}, ("labels", 2): {1}}


def test_what_was_retried_is_not_open_wherever_its_marker_and_its_copies_stand() -> None:
    survey = survey_of(marker(3), letter(1), letter(2, "late-event"), marker(1), letter(1), letter(3))
    assert survey.open_offsets() == {("events", 2): {2}}
    assert (survey.n_retried("invalid-json"), survey.n_retried("late-event")) == (2, 0)
    newest = survey.by_code()["invalid-json"].samples[-1]
    assert (newest.offset, survey.is_retried(newest)) == (3, True)


def test_a_survey_keeps_the_latest_samples_and_the_times() -> None:
    survey = survey_of(*(letter(i, seconds=100.0 + i) for i in range(10)))
    found = survey.by_code()["invalid-json"]
    assert (found.n, found.first, found.last) == (10, 100.0, 109.0)
    assert [sample.offset for sample in found.samples] == [8, 9]
    assert not survey_of(letter(1), n_samples=0).by_code()["invalid-json"].samples


def test_a_choice_is_by_code_topic_and_half_open_time() -> None:
    records = [
        letter(1, seconds=100),
        letter(2, "late-event", seconds=200),
        letter(3, seconds=300),
        letter(4, topic="labels", seconds=200),
    ]

    def chosen(**fields: Any) -> set[int]:
        left = survey_of(*records, choice=Choice(**fields)).open_offsets()
        return set().union(*left.values())

    assert chosen() == {1, 2, 3, 4}
    assert chosen(codes=frozenset(["late-event", "nothing"])) == {2}
    assert chosen(since=200.0) == {2, 3, 4}
    assert chosen(since=100.0, until=200.0) == {1}
    assert chosen(topic="labels") == {4}


def test_times_are_epoch_seconds_or_iso_8601() -> None:
    choice = read_choice(("a",), "events", "2023-11-14T22:13:20Z", "1700000001")
    assert choice == Choice(frozenset(["a"]), "events", 1_700_000_000.0, 1_700_000_001.0)
    assert read_choice((), None, None, None) == Choice(frozenset(), None, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        ("yesterday", None, "--since: epoch seconds or ISO 8601 needed, received 'yesterday'"),
        (None, "nan", "--until: epoch seconds or ISO 8601 needed, received 'nan'"),
        ("2", "1", r"--until: must be after --since \(2\), received 1"),
    ],
)
def test_a_wrong_time_is_one_line(since: str | None, until: str | None, message: str) -> None:
    with pytest.raises(StartError, match=message):
        read_choice((), None, since, until)


def test_a_time_that_no_calendar_has_is_shown_as_a_number() -> None:
    assert iso_time(9e15) == "9e+15 s"
