"""A worker that tells what it scores and can be held: `faust -A tests.live.watched worker`.

The folder that `WATCH_DIR` names is the way in and out. `Watch` is the test's end of it. Everything else is
the worker that users start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from tables import stores

POLL_SECONDS = 0.01


class Watch:
    """The test's end: what was scored, and the switches.

    The switches are files, so that a worker that is killed and started again finds them as they were.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """What the worker must be started with."""
        return {"WATCH_DIR": str(self.folder)}

    def hold(self, switch: str = "scoring", value: str = "") -> None:
        """Turn on `scoring`, `answers` (the broker's, for predictions), `slow` (seconds a batch) or
        `restoring` (seconds for each write of a recovery).
        """
        whole = self.folder / f"{switch}.part"
        whole.write_text(value)
        whole.rename(self.folder / switch)

    def release(self, switch: str = "scoring") -> None:
        """Turn a switch off."""
        (self.folder / switch).unlink()

    def batches(self) -> list[dict[str, Any]]:
        """Return what was taken up, in order; `scored` tells whether it was let through."""
        path = self.folder / "batches"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def scored(self) -> list[dict[str, Any]]:
        """Return the record batches that were scored."""
        return [batch for batch in self.batches() if batch["scored"]]


def watch(app: Any, folder: Path) -> Any:
    """Let a worker tell what it scores, and wait while it is held."""
    score = app.scorer.score

    def tell(batch: Any, scored: bool) -> None:
        sizes = [record.serialized_value_size for record in batch.records]
        line = {
            "partition": batch.partition,
            "offsets": [record.offset for record in batch.records],
            "n_bytes": sum(sizes),
            "generation": app.consumer_generation_id,
            "scored": scored,
        }
        with (folder / "batches").open("a") as file:
            file.write(json.dumps(line) + "\n")

    async def watched(batch: Any) -> None:
        tell(batch, scored=False)
        while (folder / "scoring").exists():
            await asyncio.sleep(POLL_SECONDS)
        slow = folder / "slow"
        if slow.exists():
            time.sleep(float(slow.read_text()))
        await score(batch)
        tell(batch, scored=True)

    app.scorer.score = watched
    _slow_down(stores.RocksDBStore, folder / "restoring")
    predictions = app.nowcast_settings.topic_predictions
    app.outbox._producer = lambda: _LateAnswers(app.producer._producer, folder / "answers", predictions)
    return app


def _slow_down(store: Any, switch: Path) -> None:
    restore = store.restore

    def restore_slowly(*args: Any) -> None:
        with contextlib.suppress(FileNotFoundError):
            time.sleep(float(switch.read_text()))
        restore(*args)

    store.restore = restore_slowly


class _LateAnswers:
    """A producer whose answers for one topic come late, while a file is there."""

    def __init__(self, producer: Any, switch: Path, topic: str) -> None:
        self._producer = producer
        self._switch = switch
        self._topic = topic
        self.create_batch = producer.create_batch

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        answer = await self._producer.send_batch(batch, topic, partition=partition)
        late = topic == self._topic and self._switch.exists()
        return asyncio.ensure_future(self._later(answer)) if late else answer

    async def _later(self, answer: Any) -> Any:
        while self._switch.exists():
            await asyncio.sleep(POLL_SECONDS)
        return await answer


def __getattr__(name: str) -> Any:
    if name == "app":
        from app.main import app

        globals()[name] = watch(app, Path(os.environ["WATCH_DIR"]))  # once, however often it is asked for
        return app
    raise AttributeError(name)
