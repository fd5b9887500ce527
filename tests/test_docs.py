"""Documents that must keep up with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from agents.metrics import Metrics
from app.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(
        re.findall(r"^\| `(NOWCAST_\w+)` \| ([^|]*)\|", (ROOT / "docs/settings.md").read_text(), re.M)
    )
    assert rows.keys() == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        documented = rows[PREFIX + name.upper()].strip().strip("`")
        default = field.default
        if isinstance(default, float):
            assert float(documented) == default, name
        elif isinstance(default, bool):
            assert documented == str(default).lower(), name
        elif default is None:
            assert documented == "", name
        elif name != "token":
            assert documented == str(default), name


def test_every_setting_is_documented_with_its_bounds_and_choices() -> None:
    rows = re.findall(
        r"^\| `NOWCAST_(\w+)` \| [^|]*\| ([^|]*)\| (.*) \|$", (ROOT / "docs/settings.md").read_text(), re.M
    )
    assert len(rows) == len(Settings.model_fields)
    for name, bounds, meaning in rows:
        field = Settings.model_fields[name.lower()]
        assert bounds.strip() == describe_bounds(field.metadata), name
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        for choice in filter(None, choices):
            assert f"`{choice}`" in meaning, name


def describe_bounds(metadata: list[Any]) -> str:
    known = {
        name: getattr(rule, name) for rule in metadata for name in ("gt", "ge", "le") if hasattr(rule, name)
    }
    text = {name: f"{value:,.12g}" for name, value in known.items()}
    match sorted(text):
        case []:
            return ""
        case ["ge"]:
            return f"at least {text['ge']}"
        case ["ge", "le"]:
            return f"{text['ge']} to {text['le']}"
        case ["gt"]:
            return f"above {text['gt']}"
        case ["gt", "le"]:
            return f"above {text['gt']}, at most {text['le']}"
    raise AssertionError(f"say how {sorted(text)} are written")


def test_every_view_and_every_metric_is_documented() -> None:
    rows = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/operating.md").read_text(), re.M))
    views = {
        path
        for file in (ROOT / "app/web").glob("*.py")
        for path in re.findall(r'app\.page\(f?"([^"]+)"', file.read_text())
    }
    views |= {"/", "/api/evaluations"}  # whose paths are constants
    metrics = {metric.name for metric in Metrics().registry.collect() if metric.name.startswith("nowcast_")}
    assert rows == metrics | {path.replace("{key:.+}", "{key}") for path in views}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text())
    assert named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.M), target
