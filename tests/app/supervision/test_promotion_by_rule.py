"""Who is promoted by rule among several challengers, and what is told of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app.settings import Settings
from app.supervision import supervisor as supervision
from app.supervision.report import Report, describe
from app.supervision.supervisor import Supervisor
from compute.comparison import Comparison
from tables.learning import Compared

CHAMPION = "a" * 16
VERSIONS = ["b" * 16, "c" * 16, "d" * 16]


class Models:
    """Stands in for the models table: a champion and three challengers, numbered in this order."""

    def __init__(self) -> None:
        self.serving: Any = SimpleNamespace(name="pump", version=CHAMPION)
        self.challengers = [SimpleNamespace(name="pump", version=version) for version in VERSIONS]
        self.numbers = {version: i for i, version in enumerate(VERSIONS, 1)}

    def number_challengers(self, champion: str) -> dict[str, int]:
        assert champion in (CHAMPION, "builtin-1")
        return self.numbers

    def describe_decisions(self) -> list[dict[str, Any]]:
        return []


def compared(n_wins: int) -> Comparison:
    """Win so many pairs and lose none; 2 ** (n + 1) / (n + 1) is the evidence of it, all but a little."""
    comparison = Comparison("classification")
    comparison.add(["a"] * 300, ["b"] * n_wins + ["a"] * (300 - n_wins), ["a"] * 300)
    return comparison


def report_of(wins: dict[str, int], champion: tuple[str, str] = ("pump", CHAMPION)) -> Report:
    return Report(
        comparisons={Compared(*champion, "pump", version): compared(n) for version, n in wins.items()}
    )


@pytest.fixture
def promoted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    async def promote(settings: Any, name: str, version: str, **told: Any) -> Any:
        calls.append((version, told))
        return SimpleNamespace(message="promoted")

    monkeypatch.setattr(supervision, "promote", promote)
    return calls


def look(models: Models, report: Report, promoted: list[Any]) -> list[str]:
    app = SimpleNamespace(nowcast_settings=Settings(promotion="by_rule"), models=models)
    asyncio.run(Supervisor(app)._promote(report))
    return [version for version, _ in promoted]


def test_each_challenger_needs_the_evidence_of_its_number(promoted: list[Any]) -> None:
    models = Models()
    # 10 wins alone are evidence of 186, 11 of 341, 13 of 1,170, 14 of 2,184.
    for number, version, too_few, enough in ((1, 0, 10, 11), (2, 1, 11, 13), (3, 2, 13, 14)):
        del promoted[:]
        assert look(models, report_of({VERSIONS[version]: too_few}), promoted) == []
        assert look(models, report_of({VERSIONS[version]: enough}), promoted) == [VERSIONS[version]]
        evidence = promoted[0][1]["evidence"]
        assert evidence["challenger_number"] == number
        assert evidence["e_value"] >= evidence["e_value_needed"] == pytest.approx(100 * number * (number + 1))


def test_without_a_champion_the_comparison_with_the_detector_counts_and_no_other(promoted: list[Any]) -> None:
    models = Models()
    models.serving = None
    removed = report_of({VERSIONS[0]: 50})
    assert look(models, removed, promoted) == []
    detector = report_of({VERSIONS[0]: 50}, ("detector", "builtin-1"))
    assert look(models, detector, promoted) == [VERSIONS[0]]


def test_who_has_no_number_is_not_promoted(promoted: list[Any]) -> None:
    models = Models()
    models.numbers = {}  # the topic is being read anew
    assert look(models, report_of({VERSIONS[0]: 50}), promoted) == []


def test_a_report_for_people_says_what_each_comparison_needs() -> None:
    report = report_of(dict.fromkeys([*VERSIONS, "online-1"], 13))
    report.supervisors = [{"looked_at": 1.0, "training": {}, "history": []}]
    app = SimpleNamespace(nowcast_settings=Settings(), models=Models())
    told = describe(app, report)["comparisons"]
    assert [round(one["e_value_needed"]) for one in told] == [200, 600, 1200, 200]
    assert [one["better"] for one in told] == [True, True, False, True]
    assert [one["challenger_number"] for one in told] == [1, 2, 3, 1]
