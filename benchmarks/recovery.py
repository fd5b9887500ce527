"""`python -m benchmarks.recovery`: how long a worker takes from its start until it is ready.

The changelog of a million entities is in its topic before anything starts. The clock runs from the start of
the process to its first answer 200 at `/health/ready`: with the store lost, with the store kept, and with
nothing to recover, which is the start itself. Plain Faust recovers the same topic into a RocksDB table.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from app.cluster import find_free_port
from app.settings import Settings
from app.topics import changelog_topic, ensure_topics
from benchmarks.contenders import Place, nowcast_environment, own_place
from benchmarks.processes import Child
from benchmarks.report import RESULTS, describe_machine
from tests.live.changelogs import fill_changelog, key_of

N_PARTITIONS = 8
POLL_SECONDS = 0.02
TIMEOUT_SECONDS = 1_800.0


class Recovered(msgspec.Struct):
    """One start."""

    seconds: float
    peak_rss_mb: float
    cpu_seconds: float


def start_nowcast(place: Place) -> tuple[Child, Callable[[], bool], str]:
    """Start a worker; return it, what tells that it is ready, and the address of its views."""
    port = find_free_port()
    command = ["-m", "faust", "-A", "app", "worker", "-l", "info", "--web-port", str(port)]
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return Child([sys.executable, *command], place.log, nowcast_environment(place)), is_ready, url


def start_faust(place: Place) -> tuple[Child, Callable[[], bool], str]:
    """Start plain Faust on the same changelog."""
    ready = place.directory / "ready"
    ready.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "benchmarks.contender_faust_table"),
        *("--bootstrap", place.bootstrap, "--group", place.group, "--events", place.events),
        *("--data", str(place.directory / "faust"), "--ready", str(ready)),
        *("--partitions", str(place.n_partitions)),
    ]
    return Child(command, place.log), ready.exists, ""


def measure(start: Callable[[Place], tuple[Child, Callable[[], bool], str]], place: Place) -> Recovered:
    """Start, wait until ready, stop."""
    with running(start, place) as (child, _):
        seconds = time.time() - child.started
    # The start itself takes half a core for a second, whoever it is.
    return Recovered(seconds, child.peak_rss_mb, child.cpu_between(child.started, child.started + seconds))


@contextmanager
def running(
    start: Callable[[Place], tuple[Child, Callable[[], bool], str]], place: Place
) -> Iterator[tuple[Child, str]]:
    """Give a process that is ready, and the address of its views."""
    child, is_ready, url = start(place)
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not is_ready():
            child.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {TIMEOUT_SECONDS:g} s:\n{child.read_log()}")
            time.sleep(POLL_SECONDS)
        yield child, url
    finally:
        child.stop()


def check(place: Place, n_entities: int) -> None:
    """Ask a worker for some of the entities: what is fast and wrong does not count."""
    with running(start_nowcast, place) as (_, url):
        for partition in range(N_PARTITIONS):
            for number in (0, n_entities // N_PARTITIONS - 1):
                key = key_of(partition, number).decode()
                with urllib.request.urlopen(f"{url}/api/statistics/{key}", timeout=10) as answer:
                    found = msgspec.json.decode(answer.read())
                assert found["partition"] == partition, found


def prepare(place: Place, n_entities: int) -> int:
    """Create the topics and fill the changelog; return its bytes."""
    place.directory.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        broker=f"kafka://{place.bootstrap}",
        group=place.group,
        partitions=place.n_partitions,
        topic_events=place.events,
        topic_predictions=place.predictions,
        topic_alerts=f"{place.group}-alerts",
        topic_dead_letters=f"{place.group}-dead-letters",
        topic_models=place.models,
    )
    asyncio.run(ensure_topics(settings))
    return fill_changelog(place.bootstrap, changelog_topic(settings), N_PARTITIONS, n_entities)


def main() -> int:
    """Measure, print a table, write `results/recovery.json`."""
    args = _parse_arguments()
    results: dict[str, list[Recovered]] = {}
    with own_place("recovery", args.broker) as given:
        place = replace(given, n_partitions=N_PARTITIONS)
        n_bytes = prepare(place, args.entities)
        _say(f"{args.entities:,} entities, {n_bytes / 1e6:,.0f} MB, {N_PARTITIONS} partitions")
        empty = replace(place, group=f"{place.group}-empty", directory=place.directory / "empty")
        empty.directory.mkdir()
        data = place.directory / "data"
        for _ in range(args.rounds):
            shutil.rmtree(empty.directory / "data", ignore_errors=True)
            _note(results, "Nowcast, nothing to recover", measure(start_nowcast, empty))
            shutil.rmtree(data, ignore_errors=True)
            _note(results, "Nowcast, store lost", measure(start_nowcast, place))
            _note(results, "Nowcast, store kept", measure(start_nowcast, place))
        check(place, args.entities)
        if not args.without_faust:
            _note(results, "plain Faust, store lost", measure(start_faust, place))
            _note(results, "plain Faust, store kept", measure(start_faust, place))
    return _finish(args.entities, n_bytes, results)


def _finish(n_entities: int, n_bytes: int, results: dict[str, list[Recovered]]) -> int:
    best = {name: min(runs, key=lambda run: run.seconds) for name, runs in results.items()}
    start = best["Nowcast, nothing to recover"].seconds
    print(f"\n{'':30} {'seconds':>8} {'to Nowcast':>10} {'peak MB':>8} {'CPU s':>7} {'runs':>5}")
    for name, run in best.items():
        base = best.get("Nowcast, " + name.partition(", ")[2], run).seconds
        print(
            f"{name:30} {run.seconds:8.1f} {run.seconds / base:9.1f}x {run.peak_rss_mb:8.0f} "
            f"{run.cpu_seconds:7.1f} {len(results[name]):5}"
        )
    recovery = best["Nowcast, store lost"].seconds - start
    print(f"\nBeyond the start Nowcast takes {recovery:.1f} s: {n_entities / recovery:,.0f} entities/s")
    path = RESULTS.with_name("recovery.json")
    path.parent.mkdir(exist_ok=True)
    document = {
        **describe_machine(),
        "entities": n_entities,
        "partitions": N_PARTITIONS,
        "bytes": n_bytes,
        "best": best,
        "runs": results,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    print(f"All figures: {path}")
    return 0


def _note(results: dict[str, list[Recovered]], name: str, run: Recovered) -> None:
    results.setdefault(name, []).append(run)
    _say(f"{name}: {run.seconds:.1f} s, peak {run.peak_rss_mb:.0f} MB, {run.cpu_seconds:.1f} CPU s")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument(
        "--broker", help="kafka://host:port of a broker to use; else an Apache Kafka is started"
    )
    parser.add_argument("--entities", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each (default: %(default)s)")
    parser.add_argument("--without-faust", action="store_true", help="plain Faust takes minutes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
