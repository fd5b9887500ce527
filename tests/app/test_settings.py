"""Settings: what a wrong one says, and what overrides what."""

from __future__ import annotations

import pytest

from app.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("NOWCAST_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("NOWCAST_PANES", "0", "greater than or equal to 1"),
        ("NOWCAST_WINDOW_SECONDS", "0.5", "greater than or equal to 1"),
        ("NOWCAST_BROKER", "localhost:9092", "kafka://"),
        ("NOWCAST_BROKER", "kafka://localhost:port", "kafka://"),
        ("NOWCAST_BROKER", "kafka://localhost:99999", "kafka://"),
        ("NOWCAST_BROKER", "kafka://;", "kafka://"),
        ("NOWCAST_TOPIC_EVENTS", "no good", "pattern"),
        ("NOWCAST_WINDOW_SECONDS", "nan", "finite"),
        ("NOWCAST_STORE", "redis://", "rocksdb:// or memory://"),
        ("NOWCAST_DELIVERY", "twice", "at_least_once"),
        ("NOWCAST_MODEL_TIMEOUT_SECONDS", "0", "greater than or equal to 0.1"),
        ("NOWCAST_WEB_PORT", "http", "integer"),
    ],
)
def test_a_wrong_setting_is_one_line_with_name_bound_and_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, bound: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    assert bound in message
    assert repr(value) in message


def test_alert_levels_out_of_order_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOWCAST_ALERT_RESOLVE", "0.95")
    with pytest.raises(SettingsError, match="RESOLVE <= NOWCAST_ALERT_THRESHOLD <= NOWCAST_ALERT_CRITICAL"):
        load_settings()


@pytest.mark.parametrize("name", ["predictions", "nowcast-statistics-changelog"])
def test_topics_that_are_the_same_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NOWCAST_TOPIC_EVENTS", name)
    with pytest.raises(SettingsError, match="must differ"):
        load_settings()


def test_a_state_that_no_record_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOWCAST_PANES", "1000")
    monkeypatch.setenv("NOWCAST_MAX_FEATURES", "4096")
    with pytest.raises(SettingsError, match="stored state of 16000000 bytes"):
        load_settings()


def test_a_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOWCAST_WINDOW_SECS", "60")
    with pytest.raises(SettingsError, match="NOWCAST_WINDOW_SECS"):
        load_settings()


def test_the_environment_overrides_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    file = tmp_path / "nowcast.toml"
    file.write_text("panes = 6\nwindow_seconds = 60\n")
    monkeypatch.setenv("NOWCAST_CONFIG", str(file))
    monkeypatch.setenv("NOWCAST_PANES", "3")
    settings = load_settings()
    assert (settings.panes, settings.window_seconds, settings.pane_seconds) == (3, 60.0, 20.0)


@pytest.mark.parametrize("text", ["panes = ", "panes = 0", "pains = 3"])
def test_a_wrong_file_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path, text: str) -> None:
    file = tmp_path / "nowcast.toml"
    file.write_text(text)
    monkeypatch.setenv("NOWCAST_CONFIG", str(file))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_a_misspelt_line_of_the_file_is_named_as_it_stands_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    file = tmp_path / "nowcast.toml"
    file.write_text("pains = 3")
    monkeypatch.setenv("NOWCAST_CONFIG", str(file))
    with pytest.raises(SettingsError, match=r"nowcast\.toml': no such setting: 'pains'"):
        load_settings()


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOWCAST_CONFIG", "/nowhere/nowcast.toml")
    with pytest.raises(SettingsError, match=r"/nowhere/nowcast\.toml"):
        load_settings()


def test_brokers_are_split_and_given_a_port() -> None:
    settings = load_settings(broker="kafka://one:9093;kafka://two")
    assert settings.bootstrap_servers == ["one:9093", "two:9092"]


def test_the_token_is_not_shown() -> None:
    assert "s3cret" not in repr(load_settings(token="s3cret"))
