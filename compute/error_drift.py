"""Drift of errors: whether the model that serves is wrong more often, or by more, than it used to be.

Owns when that is told, when it is over, and the stored form. The test is in `compute/page_hinkley.py`. What
an error is (0 or 1 for a class, a distance for a number) is up to whoever calls.

A rise of errors is found against all labels since the version began to serve. It is over when they are back
on the near side of the middle between what they were and what they rose to: Page's test (1954) for that
change, of the same threshold. Then everything begins anew, as it does with another version.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from compute.alert_columns import CRITICAL, QUIET, WARNING
from compute.alerts import Severity, State
from compute.drift_findings import Finding, Shift
from compute.moments import Floats
from compute.page_hinkley import Level, PageHinkley, Rise

RULE = "error-drift"

DELTA = 0.1
"""Rise that does not count, in standard deviations."""

THRESHOLD = 50.0
"""What the sum of deviations has to gain, in standard deviations: about one false alarm in 100,000 labels."""

MIN_ERRORS = 30
"""Labels before which nothing is told."""

_MAGIC = b"NR\x01"
_STORED = struct.Struct("<3sBH19d")
_NO_VERSION = 0xFFFF
_LARGEST = 1e100
_AT_A_TIME = 2_000  # what comes after a rise is gone through again
_SEVERITIES: dict[int, Severity] = {WARNING: "warning", CRITICAL: "critical"}


class ErrorMonitor:
    """Watches the errors of the model that serves, on the labelled events of one partition.

    Examples
    --------
    >>> monitor = ErrorMonitor()
    >>> errors = (np.arange(2000) % np.repeat([10, 2, 10], [1000, 200, 800]) == 0) * 1.0
    >>> for finding in monitor.observe(errors, version="1"):
    ...     shift = finding.shifts[0]
    ...     print(finding.row, finding.state, finding.severity, round(shift.mean, 2), round(shift.value, 2))
    1042 firing critical 0.1 0.51
    1276 resolved critical 0.1 0.09
    """

    def __init__(self) -> None:
        self._begin(None)

    def observe(self, errors: Floats, version: str, timestamps: Floats | None = None) -> list[Finding]:
        """Take in errors in the order of their labels, and return what drifts begin or end with them.

        Parameters
        ----------
        errors : ndarray, shape (n,), float64
            Higher is worse; what is not finite is passed over.
        version : str
            Of the model that made them; another one than the last begins anew.
        timestamps : ndarray, shape (n,), float64, seconds, optional
            Of the events, for `describe`.

        Returns
        -------
        list of Finding
        """
        if not len(errors):
            return []
        findings = []
        if version != self._version:
            if self._severity:
                findings.append(self._tell(0, "resolved", self._raised))
            self._begin(version)
        rows = np.flatnonzero(np.isfinite(errors))
        # Squares of larger ones would leave nothing that can be counted with.
        values, at = np.clip(np.take(errors, rows), -_LARGEST, _LARGEST), 0
        while at < len(values):
            part = values[at : at + _AT_A_TIME]
            rise = self._test.observe(-part if self._severity else part)
            if rise is None:
                at += len(part)
                continue
            at += rise.row + 1
            row = int(rows[at - 1])
            if self._severity:
                findings.append(self._tell(row, "resolved", rise.after._replace(mean=0.0 - rise.after.mean)))
                self._begin(version)
            else:
                self._fire(rise)
                self._since = math.nan if timestamps is None else float(timestamps[row])
                findings.append(self._tell(row, "firing", self._raised))
        return findings

    def describe(self) -> dict[str, Any]:
        """Return what people want to see.

        `state` is "collecting", "quiet" or "firing", `since` the time of the event with which the drift
        began, `n_errors` and `error` how many errors there were since the beginning or since the drift, and
        their mean; `reference` is the mean before it.
        """
        level, since = self._test.level, self._since
        quiet = "quiet" if level.n_values >= MIN_ERRORS else "collecting"
        return {
            "state": "firing" if self._severity else quiet,
            "since": since if math.isfinite(since) else None,
            "n_errors": level.n_values,
            "error": 0.0 - level.mean if self._severity else level.mean,
            "reference": self._calm.mean if self._severity else None,
        }

    def encode(self) -> bytes:
        """Return the stored form: 158 bytes, and the version."""
        version = (self._version or "").encode()
        if len(version) >= _NO_VERSION:
            raise ValueError(f"version: must be below {_NO_VERSION} bytes, received {len(version)}")
        n_bytes = _NO_VERSION if self._version is None else len(version)
        levels = (*self._calm, *self._raised)
        numbers = (self._since, self._score, *self._target, *levels, *self._test.numbers())
        return _STORED.pack(_MAGIC, self._severity, n_bytes, *numbers) + version

    @classmethod
    def decode(cls, stored: bytes) -> ErrorMonitor:
        """Return the monitor that `encode` stored.

        Raises
        ------
        ValueError
            If the bytes are no stored monitor, whatever they are.

        Examples
        --------
        >>> ErrorMonitor.decode(ErrorMonitor().encode()).describe()["state"]
        'collecting'
        """
        if len(stored) < _STORED.size:
            raise ValueError(f"stored errors: must have {_STORED.size} bytes or more, received {len(stored)}")
        magic, severity, n_bytes, since, score, *numbers = _STORED.unpack_from(stored)
        n_version = 0 if n_bytes == _NO_VERSION else n_bytes
        if magic != _MAGIC or len(stored) != _STORED.size + n_version:
            raise ValueError(f"stored errors: must begin with {_MAGIC!r} and have as many bytes as it says")
        if not QUIET <= severity <= CRITICAL:
            raise ValueError(f"stored errors: severity must be {QUIET} to {CRITICAL}, received {severity}")
        target, levels, rest = numbers[:2], numbers[2:8], numbers[8:]
        if not np.isfinite([score, *target, *levels]).all() or min(target[1], levels[2], levels[5]) < 0:
            raise ValueError("stored errors: levels must be finite and standard deviations at least 0")
        monitor = cls()
        monitor._begin(None if n_bytes == _NO_VERSION else stored[_STORED.size :].decode())
        monitor._severity, monitor._since, monitor._score = severity, since, score
        monitor._calm, monitor._raised = Level(*levels[:3]), Level(*levels[3:])
        if severity:
            monitor._look_for_end((target[0], target[1]))
        monitor._test.restore(tuple(rest))
        return monitor

    def _begin(self, version: str | None) -> None:
        self._version, self._severity, self._since, self._score = version, QUIET, math.nan, 0.0
        self._calm: Level = Level(0, 0.0, 0.0)
        self._raised: Level = self._calm
        self._target: tuple[float, float] = (0.0, 0.0)
        self._test: PageHinkley = PageHinkley(DELTA, THRESHOLD, MIN_ERRORS, in_stddevs=True)

    def _fire(self, rise: Rise) -> None:
        self._calm, self._raised, self._score = rise.before, rise.after, rise.statistic
        risen = rise.after.mean - rise.before.mean
        self._severity = CRITICAL if risen >= rise.before.stddev else WARNING
        # Not of the errors before: these may never have differed.
        spread = self._test.level.stddev
        self._look_for_end((-(rise.before.mean + rise.after.mean) / 2, spread))

    def _look_for_end(self, target: tuple[float, float]) -> None:
        """Watch for a rise of what is now counted as negative: the errors."""
        self._target = target
        self._test = PageHinkley(0.0, THRESHOLD, 1, target=target)

    def _tell(self, row: int, what: State, now: Level) -> Finding:
        shift = Shift("error", 1.0, now.mean, now.stddev, self._calm.mean, self._calm.stddev)
        return Finding(row, RULE, what, _SEVERITIES[self._severity], self._score, THRESHOLD, (shift,))
