from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest

from app.sources import DATA_SETS, Event, SourceError, SourceOptions, files, open_source
from app.sources.data_sets import is_available

CSV = """sensor,time,heat,rpm,note,anomaly
007,2026-01-01T00:00:00Z,21.5,1400,fine,0
008,2026-01-01T01:00:00+01:00,,1401,,1
"""

EXPECTED = [
    Event(b"007", 1_767_225_600.0, {"heat": 21.5, "rpm": 1_400}, 0),
    Event(b"008", 1_767_225_600.0, {"heat": None, "rpm": 1_401}, 1),
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def write_text(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_text


def needs_data_set(name: str) -> None:
    if not is_available(name):
        pytest.skip(f"the installed river does not ship {name}")


def error_of(name: str, options: SourceOptions | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        list(open_source(name, options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_csv_columns_are_guessed(write: Callable[[str, str], str]) -> None:
    source = open_source(write("plant.csv", CSV))
    assert list(source) == EXPECTED
    assert source.description == "key: sensor, time: time, label: anomaly, features: heat, rpm"


def test_a_source_can_be_read_again(write: Callable[[str, str], str]) -> None:
    source = open_source(write("plant.csv", CSV))
    assert list(source) == list(source)


def test_gzip_is_found_by_the_suffix(tmp_path: Path) -> None:
    for name, text in [("a.csv.gz", CSV), ("b.jsonl.gz", '{"key": "a", "timestamp": 1, "features": {}}')]:
        with gzip.open(tmp_path / name, "wt") as file:
            file.write(text)
    assert list(open_source(str(tmp_path / "a.csv.gz"))) == EXPECTED
    assert list(open_source(str(tmp_path / "b.jsonl.gz"))) == [Event(b"a", 1.0, {})]


def test_parquet_with_dates_of_its_own(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "ts": pd.to_datetime(["2026-01-01T00:00:00.25", "2026-01-01T00:00:01.00"]),
            "device": [7, 8],
            "heat": [1.5, None],
            "on": [True, False],
        }
    )
    frame.to_parquet(tmp_path / "plant.parquet")
    source = open_source(str(tmp_path / "plant.parquet"))
    assert source.n_events == 2
    assert list(source) == [
        Event(b"7", 1_767_225_600.25, {"heat": 1.5, "on": 1}),
        Event(b"8", 1_767_225_601.0, {"heat": None, "on": 0}),
    ]


@pytest.mark.parametrize("chunk_rows", [1, 2, 100])
def test_a_label_of_a_csv_file_is_what_its_cell_says_whatever_others_say(
    write: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    cells = ["1", "1.0", "2.5", "True", "", "spam", "FALSE", "007", "-3e2", "9007199254740993", "1_0", "inf"]
    cells += ["None", "NA", "nan", " true"]
    told = [1, 1.0, 2.5, True, None, "spam", False, 7, -300.0, 9007199254740993, "1_0", "inf"]
    told += ["None", "NA", "nan", True]
    name = write("a.csv", "heat,label\n" + "".join(f"1,{cell}\n" for cell in cells))
    monkeypatch.setattr(files, "CHUNK_ROWS", chunk_rows)
    found = [event.label for event in open_source(name)]
    assert [(type(label), label) for label in found] == [(type(label), label) for label in told]


def test_an_entity_may_be_called_as_a_missing_number_is_and_a_feature_may_not(
    write: Callable[[str, str], str],
) -> None:
    name = write("a.csv", "key,heat,flow\nNA,1,NA\nnull,n/a,2\n")
    found = [(event.key, event.features) for event in open_source(name)]
    assert found == [(b"NA", {"heat": 1.0, "flow": None}), (b"null", {"heat": None, "flow": 2.0})]


def test_a_column_of_a_csv_file_may_be_label_and_more(write: Callable[[str, str], str]) -> None:
    name = write("a.csv", "id,time,heat\n7,1,2.5\n8,2,3\n")
    for column, labels in (("id", ["7", "8"]), ("time", [1, 2]), ("heat", [2.5, 3.0])):
        options = SourceOptions(label_column=column, feature_columns=("heat",))
        assert list(open_source(name, options)) == [
            Event(b"7", 1.0, {"heat": 2.5}, labels[0]),
            Event(b"8", 2.0, {"heat": 3.0}, labels[1]),
        ]


def test_labels_of_a_parquet_file_are_text_numbers_and_booleans(tmp_path: Path) -> None:
    columns = {
        "category": pd.Categorical(["u", None]),
        "flag": pd.array([True, None], dtype="boolean"),
        "money": [Decimal("1.5"), None],
        "when": pd.to_datetime(["2026-01-01", None]),
    }
    path = str(tmp_path / "a.parquet")
    pd.DataFrame({"heat": [1.0, 2.0], **columns}).to_parquet(path)

    def labels(column: str) -> list[object]:
        return [event.label for event in open_source(path, SourceOptions(label_column=column))]

    assert [labels(column) for column in ("category", "flag", "money")] == [
        ["u", None],
        [True, None],
        [1.5, None],
    ]
    assert [event.features["flag"] for event in open_source(path, SourceOptions(label_column="money"))] == [
        1,
        None,
    ]
    error = error_of(path, SourceOptions(label_column="when"))
    assert error == (
        f"{path}: column 'when', row 1: '2026-01-01 00:00:00' is no label: text, number or boolean needed"
    )


def test_flat_json_lines_are_rows(write: Callable[[str, str], str]) -> None:
    lines = [{"host": "a", "ts": 5, "load": 1.5}, {"host": "b", "ts": 6.5, "load": None}]
    name = write("hosts.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    assert list(open_source(name)) == [Event(b"a", 5.0, {"load": 1.5}), Event(b"b", 6.5, {"load": None})]


def test_events_of_the_contract_pass_through(write: Callable[[str, str], str]) -> None:
    lines = [
        {"key": "a", "timestamp": 5, "features": {"x": 1, "y": None}, "label": "odd", "id": "n-1"},
        {"timestamp": "2026-01-01T00:00:00Z", "features": {}},
    ]
    name = write("plant.jsonl", "\n".join(map(json.dumps, lines)))
    assert list(open_source(name)) == [
        Event(b"a", 5.0, {"x": 1, "y": None}, "odd", "n-1"),
        Event(b"plant", 1_767_225_600.0, {}),
    ]


def test_columns_by_option(write: Callable[[str, str], str]) -> None:
    name = write("plant.csv", "time,who,when,a,b\n9,x,1500,1,2\n")
    options = SourceOptions(
        key_column="who", time_column="when", label_column="time", feature_columns=("b",), time_unit="ms"
    )
    assert list(open_source(name, options)) == [Event(b"x", 1.5, {"b": 2}, 9)]


def test_without_keys_and_times_there_is_one_entity_and_a_clock(write: Callable[[str, str], str]) -> None:
    name = write("plant.csv", "a\n1\n2\n3\n")
    options = SourceOptions(start_seconds=100.0, interval_seconds=10.0)
    assert [(e.key, e.timestamp) for e in open_source(name, options)] == [
        (b"plant", 100.0),
        (b"plant", 110.0),
        (b"plant", 120.0),
    ]


def test_rows_without_keys_are_dealt_out(
    write: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_ROWS", 3)
    name = write("plant.csv", "a\n1\n2\n3\n4\n5\n")
    options = SourceOptions(start_seconds=100.0, interval_seconds=10.0, entities=2)
    assert [(e.key, e.timestamp) for e in open_source(name, options)] == [
        (b"plant-0", 100.0),
        (b"plant-1", 105.0),
        (b"plant-0", 110.0),
        (b"plant-1", 115.0),
        (b"plant-0", 120.0),
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_chunks_give_the_same_events_as_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    frame = pd.DataFrame({"time": range(100), "key": [f"k{i % 3}" for i in range(100)], "x": range(100)})
    path = tmp_path / f"plant.{suffix}"
    {
        "csv": lambda: frame.to_csv(path, index=False),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "parquet": lambda: frame.to_parquet(path),
    }[suffix]()
    whole = list(open_source(str(path)))
    monkeypatch.setattr(files, "CHUNK_ROWS", 7)
    assert list(open_source(str(path))) == whole
    assert [event.timestamp for event in whole] == list(range(100))


def test_a_row_number_that_a_tool_left_is_no_feature(tmp_path: Path) -> None:
    pd.DataFrame({"time": [1], "x": [2.0]}).to_csv(tmp_path / "plant.csv")
    assert list(open_source(str(tmp_path / "plant.csv"))) == [Event(b"plant", 1.0, {"x": 2.0})]


def test_a_missing_file_is_named() -> None:
    assert error_of("absent.csv") == "no such file: absent.csv"


def test_an_unknown_name_lists_the_data_sets() -> None:
    assert error_of("absent") == (
        "no such file or data set: absent; data sets are shuttle, water-flow, sp500, fleet, payments"
    )


def test_an_unknown_format_lists_the_known_ones(write: Callable[[str, str], str]) -> None:
    message = error_of(write("plant.xlsx", "x"))
    assert "plant.xlsx: unknown format; known are .csv, .jsonl" in message


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_an_empty_file_is_said_to_be_empty(write: Callable[[str, str], str], suffix: str) -> None:
    assert error_of(write(f"plant.{suffix}", "")).endswith("the file is empty")


def test_a_header_without_rows_is_an_error(write: Callable[[str, str], str]) -> None:
    assert error_of(write("plant.csv", "time,x\n")).endswith("the file has no rows")


def test_a_column_that_does_not_exist_shows_those_that_do(write: Callable[[str, str], str]) -> None:
    message = error_of(write("plant.csv", CSV), SourceOptions(key_column="machine"))
    assert message.endswith("no column 'machine'; there are: sensor, time, heat, rpm, note, anomaly")


def test_a_table_without_numbers_is_an_error(write: Callable[[str, str], str]) -> None:
    assert "no numeric column for the features; there are: time, a" in error_of(
        write("plant.csv", "time,a\n1,x\n")
    )


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("soon", "row 2: 'soon' is no time; epoch seconds or ISO 8601 needed"),
        ("", "row 2: an empty cell is no time"),
        ("1700000000000", "for milliseconds say --time-unit ms"),
        ("-5", "row 2: '-5' is outside 0 to 1e+11 seconds"),
    ],
)
def test_a_wrong_time_names_file_and_row(write: Callable[[str, str], str], cell: str, reason: str) -> None:
    message = error_of(write("plant.csv", f"time,x\n1,1\n{cell},2\n"))
    assert "plant.csv: column 'time', " in message
    assert reason in message


def test_a_wrong_number_far_down_names_its_row(
    write: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_ROWS", 4)
    rows = "".join(f"{i},{i}\n" for i in range(9))
    assert "column 'x', row 10: 'much' is no number" in error_of(
        write("plant.csv", "time,x\n" + rows + "9,much\n")
    )


def test_an_infinite_number_is_an_error(write: Callable[[str, str], str]) -> None:
    assert "column 'x', row 1: inf is not finite" in error_of(write("plant.csv", "time,x\n1,inf\n"))


def test_a_missing_key_names_its_row(write: Callable[[str, str], str]) -> None:
    assert "column 'key', row 2: no key" in error_of(write("plant.csv", "key,time,x\na,1,1\n,2,2\n"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "row 2: "),
        ('{"timestamp": "soon", "features": {}}', "row 2: "),
        ('{"timestamp": 1, "features": {"x": "much"}}', "row 2: "),
        ('{"timestamp": 1700000000000, "features": {}}', "row 2: timestamp 1700000000000.0 is outside"),
    ],
)
def test_a_wrong_event_of_the_contract_names_its_row(
    write: Callable[[str, str], str], line: str, reason: str
) -> None:
    assert reason in error_of(write("plant.jsonl", '{"timestamp": 1, "features": {}}\n' + line + "\n"))


def test_a_json_array_is_refused(write: Callable[[str, str], str]) -> None:
    assert "row 1: not a JSON object" in error_of(write("plant.json", '[{"time": 1, "x": 2}]'))


@pytest.mark.parametrize("name", ["plant.parquet", "plant.csv.gz", "plant.jsonl.gz"])
def test_a_file_that_is_not_what_its_suffix_says_is_refused(
    write: Callable[[str, str], str], name: str
) -> None:
    assert "cannot be read: " in error_of(write(name, CSV))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_unit": "h"}, "time unit must be one of s, ms, us, ns, received 'h'"),
        ({"interval_seconds": 0.0}, "interval must be above 0 seconds, received 0.0"),
        ({"entities": 0}, "entities must be from 1 to 10,000,000, received 0"),
        ({"seed": -1}, "seed must be 0 or more, received -1"),
        ({"change_after": -1}, "change after must be 0 events or more, received -1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(SourceError) as error:
        SourceOptions(**options)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_the_simulated_fleet_is_a_source_without_end() -> None:
    source = open_source("fleet", SourceOptions(entities=3, seed=1))
    events = list(islice(source, 3_000))
    assert {event.key for event in events} == {b"machine-0000", b"machine-0001", b"machine-0002"}
    assert events == list(islice(source, 3_000))
    assert source.n_events is None
    assert any(event.label == 1 for event in islice(source, 100_000))
    assert any(None in event.features.values() for event in islice(source, 100_000))


def test_the_simulated_payments_change_when_asked_to() -> None:
    source = open_source("payments", SourceOptions(entities=3, seed=1, change_after=500))
    events = list(islice(source, 10_000))
    assert {event.key for event in events} == {b"card-0000", b"card-0001", b"card-0002"}
    assert events == list(islice(source, 10_000))
    assert source.n_events is None
    assert "changed after 500 events" in source.description
    assert {event.label for event in events} == {0, 1}
    without = list(islice(open_source("payments", SourceOptions(entities=3, seed=1)), 10_000))
    assert events[:500] == without[:500]
    assert events[500] != without[500]


@pytest.mark.parametrize("name", [name for name, data_set in DATA_SETS.items() if data_set.file])
def test_data_sets_that_a_package_ships_are_read(name: str) -> None:
    needs_data_set(name)
    source = open_source(name)
    events = list(source)
    assert len(events) > 1_000
    assert source.n_events in (None, len(events))
    assert len({tuple(event.features) for event in events}) == 1


def test_data_sets_have_their_labels_apart_from_the_features() -> None:
    needs_data_set("shuttle")
    events = list(open_source("shuttle"))
    assert sum(event.label for event in events) == 3_511  # type: ignore[misc]
    assert list(events[0].features) == [f"f{number}" for number in range(1, 10)]


def test_names_of_data_sets_are_forgiving() -> None:
    needs_data_set("water-flow")
    assert open_source("WaterFlow").name == open_source("water_flow").name == "water-flow"
