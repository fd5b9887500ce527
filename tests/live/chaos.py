"""Faults at random for a group of workers, and whoever starts again what has ended.

Owns the choice of faults, what each one does, and putting everything right at the end.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import count

from confluent_kafka import KafkaException

from tests.live.faults import (
    Trial,
    ask_to_stop,
    awaken,
    delete_data,
    fill_disk,
    freeze,
    insist,
    set_topic,
)
from tests.live.streams import Reader
from tests.live.workers import Worker

NAMES = ("one", "two", "three", "four")
MOST_PAUSE_SECONDS = 8.0
MOST_FROZEN_SECONDS = 15.0
MOST_AWAY_SECONDS = 6.0
CHECKPOINT_SECONDS = 3.0
STOP_SECONDS = 90.0
RIGHT_SECONDS = 120.0
TICK_SECONDS = 0.1
STARTED = "[^Worker]: Starting..."
REFUSED_BYTES = "150"
REFUSING_TOPICS = ("predictions", "alerts", "dead_letters", "changelog")


def why_ended(worker: Worker) -> str:
    """Return what a worker's log says of its end."""
    log = worker.read_log()
    of_last_start = log[max(log.rfind(STARTED), 0) :]
    crash = re.search(r"Crashed reason=(\w+)", of_last_start)
    refusal = re.search(r"^nowcast: ([\w ]+)", of_last_start[-500:], re.MULTILINE)
    return crash[1] if crash else refusal[1].strip() if refusal else f"exit code {worker.exit_code}"


class Chaos:
    """Does things to the workers of a trial, and starts again those that ended.

    Parameters
    ----------
    trial : Trial
    seed : int
        Of every choice. Each fault has its own choices, so that the n-th one is the same however long those
        before it took; who is there to bear it, and when, is up to the machine.

    Attributes
    ----------
    faults : Counter
        What was done, by kind.
    ended : Counter
        Workers that ended by themselves and were started again, by what their logs say.
    """

    def __init__(self, trial: Trial, seed: int) -> None:
        self._trial = trial
        self._seed = seed
        self._rng = random.Random(f"{seed} begin")
        self._restarts = random.Random(f"{seed} restarts")
        self._wanted: set[str] = set()
        self._frozen: set[str] = set()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._starting: set[str] = set()
        self.faults: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._kinds: list[tuple[str, Callable[[], bool]]] = [
            ("kill -9, data kept", self._kill),
            ("kill -9, data deleted", self._kill_and_delete),
            ("kill -9 of all", self._kill_all),
            ("kill -9 of all amid a checkpoint", self._kill_all_amid_checkpoint),
            ("TERM", self._stop),
            ("TERM amid a rebalance", self._stop_amid_rebalance),
            ("join", self._join),
            ("leave", self._leave),
            ("freeze", self._freeze),
            ("broker stopped", self._stop_broker),
            ("broker killed", self._kill_broker),
            ("records refused", self._refuse_records),
            ("disk full", self._fill_disk),
            ("second worker on a data directory", self._start_second),
        ]

    def begin(self) -> None:
        """Start two or three workers and wait for them."""
        names = NAMES[: self._rng.randint(2, 3)]
        self._wanted.update(names)
        self._trial.start(*names)
        self._trial.settle()

    def run(self, is_over: Callable[[], bool]) -> None:
        """Do something every now and then until it is over."""
        for number in count():
            self._rng = random.Random(f"{self._seed} fault {number}")
            pause_seconds, (kind, do) = (
                self._rng.uniform(0, MOST_PAUSE_SECONDS),
                self._rng.choice(self._kinds),
            )
            self._wait(pause_seconds, is_over)
            if is_over():
                break
            self._tell(f"fault {number}: {kind}")
            if do():
                self.faults[kind] += 1

    def _tell(self, what: str) -> None:
        with (self._trial.group.folder / "faults.log").open("a") as log:
            log.write(f"{datetime.now().isoformat(sep=' ', timespec='milliseconds')} {what}\n")

    def put_right(self) -> None:
        """Let everything go on that waits, and wait until all wanted workers share the partitions."""
        for _, action in sorted(self._later, key=lambda item: item[0]):
            action()
        self._later.clear()
        deadline = time.monotonic() + RIGHT_SECONDS
        while time.monotonic() < deadline:
            self._tend(within_seconds=0.5)
            if self._is_whole():
                try:
                    self._trial.settle(20)
                except AssertionError:  # one ended meanwhile, or was asked too early
                    continue
                return
            time.sleep(TICK_SECONDS)
        raise AssertionError(f"workers {sorted(self._wanted)} do not come to share the partitions")

    def _is_whole(self) -> bool:
        return not self._later and {worker.name for worker in self._trial.running} == self._wanted

    # ---- time

    def _wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not is_over():
            self._tend()
            time.sleep(TICK_SECONDS)

    def _tend(self, within_seconds: float = 4.0) -> None:
        """Do what is due, and have started again what ended by itself."""
        now = time.monotonic()
        due = [item for item in self._later if item[0] <= now]
        self._later = [item for item in self._later if item[0] > now]
        for _, action in due:
            action()
        for name in sorted(self._wanted - self._starting):
            worker = self._trial.workers[name]
            if not worker.is_running:
                self.ended[why_ended(worker)] += 1
                self._tell(f"{name} ended by itself: {why_ended(worker)}")
                self._start_later(name, self._restarts.uniform(0, within_seconds))

    def _do_later(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def _start_later(self, name: str, seconds: float) -> None:
        def start() -> None:
            self._starting.discard(name)
            if name in self._wanted and not self._is_running(name):
                self._trial.start(name)

        self._starting.add(name)
        self._do_later(seconds, start)

    # ---- who

    def _is_running(self, name: str) -> bool:
        return name in self._trial.workers and self._trial.workers[name].is_running

    def _choose(self) -> Worker | None:
        names = sorted(name for name in self._wanted - self._frozen if self._is_running(name))
        return self._trial.workers[self._rng.choice(names)] if names else None

    # ---- what; each tells whether it could be done

    def _kill(self, delete: bool = False) -> bool:
        worker = self._choose()
        if worker is None:
            return False
        worker.kill()
        if delete:
            delete_data(worker)
        self._start_later(worker.name, self._rng.choice([0.0, self._rng.uniform(0, 10)]))
        return True

    def _kill_and_delete(self) -> bool:
        return self._kill(delete=True)

    def _kill_all_amid_checkpoint(self) -> bool:
        """Kill when the changelog has the first records of a checkpoint, and maybe not its last."""
        partition_0 = Reader(self._trial.broker.bootstrap, "chaos", n_partitions=1)
        try:
            n_before = partition_0.n_records(self._trial.topic_of("changelog"))
            deadline = time.monotonic() + CHECKPOINT_SECONDS
            while partition_0.n_records(self._trial.topic_of("changelog")) == n_before:
                if time.monotonic() > deadline:
                    return False
        except KafkaException:  # a broker that has just come back
            return False
        finally:
            partition_0.close()
        return self._kill_all()

    def _kill_all(self) -> bool:
        for worker in self._trial.running:
            awaken(worker)
            worker.process.kill()
        for worker in self._trial.running:
            worker.kill()
        self._frozen.clear()
        for name in sorted(self._wanted - self._starting):
            self._start_later(name, self._rng.uniform(0, 3))
        return True

    def _stop(self) -> bool:
        worker = self._choose()
        if worker is None:
            return False
        self._starting.add(worker.name)  # that it ends is our doing
        ask_to_stop(worker)
        self._wait(STOP_SECONDS, lambda: not worker.is_running)
        assert not worker.is_running, f"worker {worker.name} did not end within {STOP_SECONDS:g} s of TERM"
        self._start_later(worker.name, self._rng.uniform(0, 5))
        return True

    def _stop_amid_rebalance(self) -> bool:
        if not self._join():
            return False
        time.sleep(self._rng.uniform(1.0, 6.0))  # a worker joins about three seconds after its start
        return self._stop()

    def _join(self) -> bool:
        names = sorted(set(NAMES) - self._wanted)
        if not names or len(self._trial.running) == len(NAMES):
            return False
        name = self._rng.choice(names)
        if self._is_running(name):
            return False
        self._wanted.add(name)
        self._trial.start(name)
        return True

    def _leave(self) -> bool:
        if len(self._wanted) == 1:
            return False
        worker = self._choose()
        if worker is None:
            return False
        self._wanted.discard(worker.name)
        ask_to_stop(worker)
        return True

    def _freeze(self) -> bool:
        worker = self._choose()
        if worker is None:
            return False
        process, name = worker.process, worker.name

        def go_on() -> None:
            self._frozen.discard(name)
            if worker.is_running and worker.process is process:
                awaken(worker)

        freeze(worker)
        self._frozen.add(name)
        self._do_later(self._rng.uniform(0.5, MOST_FROZEN_SECONDS), go_on)
        return True

    def _stop_broker(self) -> bool:
        return self._take_broker_away(self._trial.broker.stop)

    def _kill_broker(self) -> bool:
        return self._take_broker_away(self._trial.broker.kill)

    def _take_broker_away(self, end: Callable[[], None]) -> bool:
        end()
        self._wait(self._rng.uniform(0, MOST_AWAY_SECONDS), lambda: False)
        self._trial.broker.start()
        return True

    def _refuse_records(self) -> bool:
        bootstrap = self._trial.broker.bootstrap
        topic = self._trial.topic_of(self._rng.choice(REFUSING_TOPICS))
        limit = self._trial.limit_of(topic)
        insist(lambda: set_topic(bootstrap, topic, max_message_bytes=REFUSED_BYTES))
        self._wait(self._rng.uniform(0.5, 4), lambda: False)
        insist(lambda: set_topic(bootstrap, topic, max_message_bytes=limit))
        return True

    def _fill_disk(self) -> bool:
        worker = self._choose()
        if worker is None:
            return False
        fill_disk(worker)  # room comes back with the next start
        return True

    def _start_second(self) -> bool:
        worker = self._choose()
        if worker is None:
            return False
        second = self._trial.second_on(worker)
        # When the first one ends meanwhile the second may live; it is not wanted, and its log tells.
        said = "is in use by another worker" in second
        assert said or not worker.is_running, (
            f"a second worker on {worker.data_dir} was not refused: {second}"
        )
        return True
