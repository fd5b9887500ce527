"""The order of things in the demo: broker, worker, topics, watcher, replay, and all of it back again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from app.cluster import find_free_port, is_port_free
from app.demo.scenarios import Scenario
from app.demo.screen import Screen, summarise
from app.demo.story import Story
from app.demo.watcher import Watcher
from app.demo.worker import WorkerProcess
from app.demo.world import World
from app.embedded import EmbeddedBroker
from app.late_labels import LateLabels
from app.pacing import Pace, repeat
from app.replay import ReplaySummary, open_producer, replay_events
from app.settings import Settings, load_settings
from app.sources import Source, open_source
from app.topics import ensure_topics

SETTLE_SECONDS = 15.0  # how long answers to the last events may take before they count as missing
LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class DemoOptions:
    """What a user chose; `seconds` 0 means: until Ctrl-C, `rate` 0: the scenario's own."""

    scenario: Scenario
    seconds: float = 0.0
    rate: float = 0.0


async def run_demo(options: DemoOptions) -> int:
    """Run the demo; the exit code is 0 when every event has its prediction or dead letter.

    A scenario that tells a story has to come to its end too, unless a person stops it.

    Raises
    ------
    EmbeddedBrokerError, WorkerError, StartError, SourceError, SettingsError
        What could not be started, or ended on its own.
    """
    stopping = asyncio.Event()
    _stop_on_signals(stopping)
    scenario = options.scenario
    changes = scenario.change_seconds > 0
    source = (World if changes else open_source)(scenario.source, scenario.options)
    story = Story() if changes else None
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nowcast-demo-")))
        broker = os.environ.get("NOWCAST_BROKER")
        if not broker:
            # Whatever happens below, the broker is stopped last: the worker says goodbye to it.
            broker = stack.enter_context(EmbeddedBroker()).url
        environment = worker_environment(scenario, broker, directory)
        os.environ.update(environment)
        settings = load_settings()
        url = f"http://{settings.web_host}:{settings.web_port}"
        worker = WorkerProcess(os.environ, directory / "worker.log", url)
        print(f"Nowcast demo: {scenario.title}", flush=True)
        print(f"  broker {broker}; starting a worker ...", flush=True)
        try:
            worker.start()
            await ensure_topics(settings)
            async with _watching(settings, story) as watcher:
                if not await worker.wait_until_ready(stopping):
                    print("  stopped before the worker was ready", flush=True)
                    return 0
                print(f"\n  Dashboard: {url}/\n", flush=True)
                screen = Screen(watcher)
                sent = await _stream(options, source, settings, worker, screen, stopping)
                await _settle(watcher, sent, worker)
                log = worker.last_lines()  # before it tells how it stopped
        finally:
            await worker.stop()
    summary, complete = summarise(watcher, sent)
    screen.say(f"\n{summary}")
    if not complete:
        print(f"nowcast: the worker did not answer every event{log}", file=sys.stderr)
    if story is not None and not story.is_complete and not stopping.is_set():  # who stops it has seen enough
        complete = False
        print(
            f"nowcast: not all of it happened in {sent.seconds:.0f} s; it takes some two minutes, more on a "
            "busy machine: let it run longer (SECONDS), or until Ctrl-C",
            file=sys.stderr,
        )
    return 0 if complete else 1


def worker_environment(scenario: Scenario, broker: str, directory: Path) -> dict[str, str]:
    """Return what the worker's environment needs on top of the user's; what they set is kept."""
    port = int(os.environ.get("NOWCAST_WEB_PORT") or Settings.model_fields["web_port"].default)
    if not is_port_free("127.0.0.1", port):
        port = find_free_port()
    defaults = {"NOWCAST_SESSION_TIMEOUT_SECONDS": "6", **scenario.settings}
    return {
        "PYTHONUNBUFFERED": "1",
        **{name: value for name, value in defaults.items() if name not in os.environ},
        "NOWCAST_BROKER": broker,
        "NOWCAST_DATA_DIR": str(directory / "data"),
        "NOWCAST_WEB_PORT": str(port),
    }


async def _stream(
    options: DemoOptions,
    source: Source | World,
    settings: Settings,
    worker: WorkerProcess,
    screen: Screen,
    stopping: asyncio.Event,
) -> ReplaySummary:
    """Replay until told to stop, and show how it goes."""
    deadline = time.monotonic() + options.seconds if options.seconds else float("inf")
    enough, delay = asyncio.Event(), options.scenario.label_delay_seconds
    async with open_producer(settings) as producer:
        sending = asyncio.create_task(
            replay_events(
                repeat(source),
                producer,
                settings.topic_events,
                pace=Pace(rate=options.rate or options.scenario.rate, now=True),
                stopping=enough,
                late_labels=LateLabels(settings.topic_labels, delay) if delay else None,
            )
        )
        try:
            while not (stopping.is_set() or sending.done() or time.monotonic() >= deadline):
                worker.check()
                _turn(source, screen.watcher.story, options.scenario.change_seconds)
                screen.update()
                left = min(LOOK_SECONDS, max(0.0, deadline - time.monotonic()))
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stopping.wait(), left)
        finally:
            enough.set()
            sent = await sending
    return sent


def _turn(source: Source | World, story: Story | None, change_seconds: float) -> None:
    """Let the world change when it is time."""
    if not isinstance(source, World) or source.has_changed or story is None or story.serves_since is None:
        return
    if time.time() - story.serves_since >= change_seconds:
        source.has_changed = True
        story.add_change(time.time())


async def _settle(watcher: Watcher, sent: ReplaySummary, worker: WorkerProcess) -> None:
    """Wait for the answers to the last events."""
    deadline = time.monotonic() + SETTLE_SECONDS
    ledger = watcher.ledger
    while (ledger.n_open or ledger.n_events < sent.n_events) and time.monotonic() < deadline:
        worker.check()
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _watching(settings: Settings, story: Story | None) -> AsyncIterator[Watcher]:
    watcher = Watcher(settings, story)
    await watcher.start()
    reading = asyncio.create_task(watcher.run())
    try:
        yield watcher
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await watcher.stop()


def _stop_on_signals(stopping: asyncio.Event) -> None:
    """Let the first signal end the run in order, the second one at once (what was started still ends)."""
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        task.cancel() if stopping.is_set() else stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
