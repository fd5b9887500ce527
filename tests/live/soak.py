"""Hours of faults at random: `make soak MINUTES=30`.

Owns the rounds and the tally. Each round has a broker, topics and workers of its own, so memory, disk and
judging stay bounded: a stream flows while faults come at random, then everything is put right, and what the
workers made of the stream is compared with what an undisturbed worker makes of it. A round that fails leaves
its logs and the broker's data. The seed of a round repeats it: the same stream and the same choices, though
never the same interleaving.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from confluent_kafka import KafkaException

from tests.live.brokers import KafkaBroker
from tests.live.chaos import Chaos
from tests.live.evaluated import evaluations
from tests.live.faults import Trial, run_clean
from tests.live.label_verdict import Label, Rules, judge_labels
from tests.live.seeded import N_PARTITIONS, make_stream, steady
from tests.live.seeded_labels import LabelPlan, make_labels, with_labels
from tests.live.streams import Reader
from tests.live.verdict import Outcome, Verdict, differ, find_open_transactions, judge, split_alerts
from tests.live.workers import wait_for

DELIVERIES = ("at_least_once", "exactly_once")
ROUND_SECONDS = 120.0
MOST_PER_SECOND = 1_500
SHORT_DELAY_SECONDS, LONG_DELAY_SECONDS = 20, 3_600
"""How late labels may be: some are late by the first, none by the second, however long workers are away."""

DRIFT, ERROR_DRIFT = "drift", "error-drift"
LEARNING: dict[str, object] = {
    "evaluation_groups": "^sensor-([0-9])",
    "evaluation_seconds": 1,
    "online_task": "classification",
    "drift": True,
    "drift_reference_events": 500,
}
STANDSTILL_SECONDS = 1.0
"""Less than this without a prediction is no standstill."""


@dataclass
class Tally:
    """What was counted, of one round or of all."""

    n_rounds: int = 0
    n_events: int = 0
    n_alerts: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    n_labels: int = 0
    n_own: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    ahead: Counter[str] = field(default_factory=Counter)
    drift_alerts: Counter[str] = field(default_factory=Counter)
    n_lost: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)
    differences: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    still_seconds: float = 0.0
    longest_still_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another one counted."""
        for name in (
            *("n_rounds", "n_events", "n_alerts", "n_labels", "n_own"),
            "n_lost",
            "seconds",
            "still_seconds",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("faults", "ended", "fates", "ahead", "drift_alerts", "duplicates", "differences"):
            getattr(self, name).update(getattr(other, name))
        self.longest_still_seconds = max(self.longest_still_seconds, other.longest_still_seconds)
        self.violations += other.violations

    def __str__(self) -> str:
        lines = [
            f"  events {self.n_events:,}, alerts {self.n_alerts:,}, in {self.seconds:,.0f} s of stream",
            f"  labels with events {self.n_own:,}, by their topic {self.n_labels:,} {_listed(self.fates)}",
            f"  answered and not waiting for their labels {_listed(self.ahead) or 0}",
            f"  alerts of drift {sum(self.drift_alerts.values())} {_listed(self.drift_alerts)}",
            f"  faults {sum(self.faults.values())} {_listed(self.faults)}",
            f"  workers that ended by themselves {sum(self.ended.values())} {_listed(self.ended)}",
            f"  without a prediction {self.still_seconds:,.0f} s, at most {self.longest_still_seconds:.0f} s",
            f"  lost {self.n_lost}, differences {sum(self.differences.values())} {_listed(self.differences)}",
            f"  duplicates {sum(self.duplicates.values())} {_listed(self.duplicates)}",
            f"  violations {len(self.violations)}",
        ]
        return "\n".join(lines + [f"    {violation}" for violation in self.violations])


def _listed(counts: Counter[str]) -> str:
    return f"({'; '.join(f'{name}: {n}' for name, n in sorted(counts.items()))})" if counts else ""


class Progress:
    """Measures how long nothing was predicted, in a thread of its own."""

    def __init__(self, broker: KafkaBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.still_seconds = self.longest_seconds = 0.0

    def _watch(self) -> None:
        n_before, since = -1, time.monotonic()
        while not self._over.is_set():
            # Anew after each failure: a client that met a broker amid its start may not know topics for long.
            with Reader(self._broker.bootstrap, "progress", N_PARTITIONS) as reader:
                try:
                    while not self._over.wait(0.1):
                        n_now = reader.n_records(self._topic)
                        if n_now > n_before:
                            self._note(time.monotonic() - since)
                            n_before, since = n_now, time.monotonic()
                except KafkaException:
                    self._over.wait(0.5)
        self._note(time.monotonic() - since)

    def _note(self, seconds: float) -> None:
        if seconds >= STANDSTILL_SECONDS:
            self.still_seconds += seconds
            self.longest_seconds = max(self.longest_seconds, seconds)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._over.set()
        self._thread.join()


def run_round(seed: int, delivery: str, seconds: float, folder: Path) -> Tally:
    """Run one round and judge it; whatever goes wrong is a violation in its tally."""
    rng = random.Random(seed)
    per_second = rng.randrange(300, MOST_PER_SECOND)
    name = rng.choice(["holding", "sliding"])
    checkpoint_seconds = rng.choice([0.2, 0.5, 1.0])
    delay_seconds = rng.choice([SHORT_DELAY_SECONDS, LONG_DELAY_SECONDS])
    print(
        f"round SEED={seed}: {delivery}, {name}, {per_second} events/s, "
        f"checkpoints every {checkpoint_seconds} s, labels within {delay_seconds} s",
        flush=True,
    )
    plan = with_labels(make_stream(name, seed, int(per_second * seconds), drifts=True))
    settings = {**LEARNING, "checkpoint_seconds": checkpoint_seconds, "label_delay_seconds": delay_seconds}
    plan = replace(plan, stream=replace(plan.stream, settings={**plan.stream.settings, **settings}))
    tally = Tally(n_rounds=1)
    with KafkaBroker() as broker:
        try:
            verdict = _disturb_and_judge(folder, broker, plan, delivery, seed, per_second, tally)
        except Exception as error:
            traceback.print_exc()
            tally.violations.append(f"SEED={seed} {delivery}: {type(error).__name__}: {error}"[:500])
        else:
            tally.n_events, tally.n_alerts = verdict.n_events, verdict.n_alerts
            tally.n_lost, tally.duplicates = len(verdict.lost), verdict.duplicates
            tally.differences.update({kind: len(found) for kind, found in verdict.differences.items()})
            faults = verdict.faults(exactly_once=delivery == "exactly_once")
            if faults:
                print(verdict)
                tally.violations.append(f"SEED={seed} {delivery}: {', '.join(faults)}")
        finally:
            if tally.violations:
                broker.stop()
                shutil.copytree(broker.directory, folder / "broker")
    return tally


def _disturb_and_judge(
    folder: Path,
    broker: KafkaBroker,
    plan: LabelPlan,
    delivery: str,
    seed: int,
    per_second: int,
    tally: Tally,
) -> Verdict:
    exactly_once = delivery == "exactly_once"
    with Trial(folder, broker, plan.stream, delivery) as trial:
        chaos = Chaos(trial, seed)
        tally.faults, tally.ended = chaos.faults, chaos.ended
        chaos.begin()
        labels = make_labels(plan, trial.topic, per_second)
        started = time.monotonic()
        feed = trial.feed_at(steady(len(plan.stream.records) / per_second), labels)
        progress = Progress(broker, trial.topic_of("predictions"))
        try:
            with progress:
                chaos.run(lambda: feed.is_over)
        finally:
            tally.seconds = time.monotonic() - started
            tally.still_seconds, tally.longest_still_seconds = (
                progress.still_seconds,
                progress.longest_seconds,
            )
        try:
            chaos.put_right()
            trial.await_all_committed()
            trial.await_all_joined()
            found = trial.outcome()
            told = wait_for(lambda: evaluations(trial.running[0]), "evaluations of all", trial.running)
        except Exception:
            names = ("predictions", "alerts", "dead_letters", "labels", "changelog")
            for line in find_open_transactions(broker.bootstrap, map(trial.topic_of, names)):
                print(f"  {line}", flush=True)
            raise
        topic, messages = trial.topic, trial.read("labels")
    clean = run_clean(folder / "clean", broker, plan.stream, topic)
    # When errors drift depends on when labels come. When features do, on all events, and those that an entity
    # was ahead of are not among them.
    aside = (ERROR_DRIFT,) if exactly_once else (ERROR_DRIFT, DRIFT)
    found_alerts, clean_alerts = split_alerts(found, aside), split_alerts(clean, aside)
    verdict = judge(found_alerts[0], clean_alerts[0])
    tally.drift_alerts = _compare_drift(found, clean)
    for of_one in found_alerts[1].values():
        if len(of_one) > 1:
            verdict.duplicates["alert"] += len(of_one) - 1
    became = judge_labels(
        found,
        [Label.of(message) for message in messages],
        told,
        Rules.of(trial.settings),
        exactly_once,
        verdict,
    )
    tally.n_labels, tally.n_own, tally.fates = became.n_labels, became.n_own, became.fates
    tally.ahead = +Counter({"labels unknown": became.n_unknown_ahead, "own labels": became.n_own_ahead})
    sent = {label.record.value for label in labels}
    lost = sent - {message.value() for message in messages}
    assert not lost, f"{len(lost)} labels never came to their topic"
    return verdict


def _compare_drift(found: Outcome, clean: Outcome) -> Counter[str]:
    """Count alerts of drift, and those of features that are not as in the clean run."""
    counts = Counter(
        told[0]["rule"] for told in found.alerts.values() if told[0]["rule"] in (DRIFT, ERROR_DRIFT)
    )
    drift_found, drift_clean = (split_alerts(outcome, [DRIFT])[1] for outcome in (found, clean))
    for about in drift_found.keys() | drift_clean.keys():
        if about not in drift_found or about not in drift_clean:
            counts["drift: not in both runs"] += 1
        elif differ(drift_found[about][0], drift_clean[about][0]):
            counts["drift: not the same"] += 1
    return counts


def main() -> int:
    """Run rounds until the time is over; return 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count up")
    parser.add_argument("--delivery", choices=[*DELIVERIES, "both"], default="both")
    parser.add_argument("--round-seconds", type=float, default=ROUND_SECONDS)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(100_000) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="nowcast-soak-"))
    totals = {delivery: Tally() for delivery in DELIVERIES if options.delivery in (delivery, "both")}
    # A service manager's TERM is the same wish as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    deadline = time.monotonic() + options.minutes * 60
    try:
        while time.monotonic() < deadline:
            delivery = list(totals)[seed % len(totals)]
            of_round = folder / f"round-{seed}"
            of_round.mkdir()
            tally = run_round(seed, delivery, options.round_seconds, of_round)
            print(tally, flush=True)
            totals[delivery].add(tally)
            if tally.violations:
                print(f"  logs: {of_round}", flush=True)
            else:
                shutil.rmtree(of_round)
            seed += 1
    except KeyboardInterrupt:
        print("\nstopped; the round under way does not count")
    for delivery, total in totals.items():
        print(f"total of {total.n_rounds} rounds {delivery}\n{total}", flush=True)
    violated = any(total.violations for total in totals.values())
    if not violated:
        shutil.rmtree(folder)
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
