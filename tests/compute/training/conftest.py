"""One thread, as the command has it: those of OpenMP wait by spinning, which a busy machine pays for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Let the libraries that train use one thread."""
    import sklearn.ensemble  # noqa: F401  (loads what is to be limited)

    with threadpool_limits(1):
        yield
