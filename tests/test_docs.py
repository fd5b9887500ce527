"""Documents that must keep up with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
