from __future__ import annotations

import pytest

from app.demo.scenarios import SCENARIOS, find_scenario
from app.settings import Settings


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_has_settings_that_a_worker_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SCENARIOS[name].settings.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    for variable in SCENARIOS[name].settings:
        field = variable.removeprefix("NOWCAST_").lower()
        assert getattr(settings, field) != Settings.model_fields[field].default, f"{variable} is the default"


def test_names_of_scenarios_are_forgiving() -> None:
    assert find_scenario("WaterFlow") == find_scenario("water_flow") == SCENARIOS["water-flow"]


def test_labels_of_the_learning_come_within_the_delay_that_its_worker_allows() -> None:
    learning = find_scenario("learning")
    assert 0 < learning.label_delay_seconds < float(learning.settings["NOWCAST_LABEL_DELAY_SECONDS"]) / 2


def test_drift_can_be_known_before_the_world_changes() -> None:
    learning = find_scenario("learning")
    # A window to know what is usual, and one to compare with it, after the first model began to serve.
    assert learning.change_seconds > 2 * float(learning.settings["NOWCAST_WINDOW_SECONDS"])
