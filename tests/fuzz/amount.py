"""How much is tried: seconds in a run of all tests, and FUZZ_TIMES as much where that is set."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings


def amount(n_examples: int) -> Any:
    """Return the settings of a test that tries so many examples."""
    return settings(
        max_examples=n_examples * int(os.environ.get("FUZZ_TIMES", "1")),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
