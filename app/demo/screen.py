"""What a person sees of the demo: a live line, the first alerts and the summary at the end."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

from app.demo.story import Story
from app.demo.watcher import Watcher
from app.replay import ReplaySummary

FIRST_ALERTS = 5
PLAIN_SECONDS = 5.0  # between two lines where the output is no terminal


@dataclass
class Screen:
    """Prints; keeps what it needs to show a rate."""

    watcher: Watcher
    out: TextIO = field(default_factory=lambda: sys.stdout)
    _n_alerts: int = 0
    _last: tuple[float, int] = (0.0, 0)
    _rate: float = 0.0
    _printed: float = 0.0

    def update(self) -> None:
        """Show where the run is, and the first alerts."""
        now, ledger = time.monotonic(), self.watcher.ledger
        if now - self._last[0] >= 1.0:
            if self._last[0]:
                self._rate = (ledger.n_predictions - self._last[1]) / (now - self._last[0])
            self._last = (now, ledger.n_predictions)
        story = self.watcher.story
        for news in story.take_news() if story is not None else []:
            self.say(f"  {news}")
        # A story tells of the alerts that belong to it.
        while story is None and self.watcher.alerts and self._n_alerts < FIRST_ALERTS:
            self._n_alerts += 1
            self.say(describe_alert(self.watcher.alerts.popleft()))
            if self._n_alerts == FIRST_ALERTS:
                self.say("  (more alerts on the dashboard)")
        line = (
            f"  events {ledger.n_events:,}  predictions {ledger.n_predictions:,}  "
            f"alerts {self.watcher.n_alerts['firing']:,}  dead letters {ledger.n_dead_letters:,}  "
            f"{self._rate:,.0f}/s"
        )
        if story is not None:
            line += f"  labels {story.n_labels:,}  accuracy {describe_accuracy(story)}"
        if self.out.isatty():
            self.out.write(f"\r\x1b[K{line}")
            self.out.flush()
        elif now - self._printed >= PLAIN_SECONDS:
            self._printed = now
            print(line, file=self.out, flush=True)

    def say(self, text: str) -> None:
        """Print a line of its own."""
        start = "\r\x1b[K" if self.out.isatty() else ""
        print(start + text, file=self.out, flush=True)


def describe_accuracy(story: Story) -> str:
    """Say how good what serves is over the window: the model, or the built-in detector before there is one.

    Examples
    --------
    >>> story = Story()
    >>> describe_accuracy(story)
    'unknown'
    >>> value = {"role": "built-in", "group": "", "version": "builtin-1", "window": {"accuracy": 0.8125}}
    >>> story.add_evaluation(value, 0.0)
    >>> describe_accuracy(story)
    '0.812 (built-in detector)'
    """
    if story.accuracy is not None:
        return f"{story.accuracy:.3f}"
    built_in = story.accuracy_built_in
    return "unknown" if built_in is None else f"{built_in:.3f} (built-in detector)"


def describe_alert(alert: dict[str, Any]) -> str:
    """Say in one line who raised which alert, and why.

    Examples
    --------
    >>> reason = {"feature": "heat", "value": 90.5, "mean": 50.0, "stddev": 2.0, "z": 20.25, "share": 1.0}
    >>> alert = {"severity": "critical", "key": "a", "score": 0.987, "rule": "score", "reasons": [reason]}
    >>> describe_alert(alert)
    '  ALERT critical  a  score 0.99: heat is 90.5, expected 50 +- 2'
    """
    line = f"  ALERT {alert['severity']}  {alert['key']}  score {alert['score']:.2f}"
    reason = next(iter(alert.get("reasons") or []), None)
    if reason is None or any(reason.get(name) is None for name in ("value", "mean", "stddev")):
        return line
    expected = f"{reason['mean']:.4g} +- {reason['stddev']:.3g}"
    return f"{line}: {reason['feature']} is {reason['value']:.4g}, expected {expected}"


def summarise(watcher: Watcher, sent: ReplaySummary) -> tuple[str, bool]:
    """Return the summary, and whether every event has its answer."""
    ledger = watcher.ledger
    complete = (
        ledger.n_open == 0
        and ledger.n_events >= sent.n_events  # others may send to the same topic of a shared broker
        and ledger.n_events == ledger.n_predictions + ledger.n_dead_letters
    )
    n_missing = max(ledger.n_events, sent.n_events) - ledger.n_predictions - ledger.n_dead_letters
    check = "all with a prediction or a dead letter" if complete else f"{n_missing:,} WITHOUT ANSWER"
    codes = ", ".join(f"{code} {n:,}" for code, n in watcher.errors.most_common())
    half, most = ledger.latency_ms(0.5), ledger.latency_ms(0.99)
    latency = "none" if most is None else f"p50 {half} ms, p99 {most} ms"
    lines = [
        f"events        {ledger.n_events:>10,}   ({check})",
        f"predictions   {ledger.n_predictions:>10,}"
        + (f"   ({ledger.n_repeats:,} repeated)" if ledger.n_repeats else ""),
        f"alerts        {watcher.n_alerts['firing']:>10,}   ({watcher.n_alerts['resolved']:,} resolved)",
        f"dead letters  {ledger.n_dead_letters:>10,}" + (f"   ({codes})" if codes else ""),
        f"events/s      {sent.events_per_second:>10,.0f}   ({sent.seconds:.1f} s)",
        f"latency       {latency}   (Kafka timestamps: prediction's record minus event's record)",
    ]
    if watcher.story is not None:
        lines.append(watcher.story.tell())
    return "\n".join(lines), complete
