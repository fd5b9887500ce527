"""How property tests run: without a deadline, since machines are noisy, and in CI the same ones each time."""

from __future__ import annotations

import os

from hypothesis import settings

# As in a worker (app/worker.py); read when numpy is loaded, here and in the processes that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
