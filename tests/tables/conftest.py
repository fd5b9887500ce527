from __future__ import annotations

from pathlib import Path

import pytest

from tests.tables.deciding import write_keys
from tests.tables.model_log import Log, install


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Put a models topic in memory in the place of the broker's."""
    return install(monkeypatch)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    """Return settings of somebody who signs and trusts these signatures alone."""
    return write_keys(tmp_path, b"k" * 32)
