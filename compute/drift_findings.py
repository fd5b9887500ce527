"""What is found when something drifts: which features, by how much, and what is told of it.

Owns the shape of a finding. Who finds is in `compute/drift.py` and `compute/error_drift.py`, the message in
`compute/drift_messages.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from compute.alerts import Severity, State
from compute.drift_reference import Reference
from compute.drift_watch import Comparison


class Shift(NamedTuple):
    """How one feature has changed.

    Attributes
    ----------
    feature : str
        Its name; `name (missing)` where what changed is how often it is missing.
    share : float
        Its part in the whole drift; the shares of a finding sum to 1.
    value, value_stddev : float
        Mean and standard deviation now.
    mean, stddev : float
        Mean and standard deviation before.
    psi, ks, p_value : float
        Population stability index, Kolmogorov-Smirnov distance, and how likely the index is without a change;
        NaN for errors, which are watched by other means.
    """

    feature: str
    share: float
    value: float
    value_stddev: float
    mean: float
    stddev: float
    psi: float = math.nan
    ks: float = math.nan
    p_value: float = math.nan


class Finding(NamedTuple):
    """A drift that begins, gets worse or ends.

    Attributes
    ----------
    row : int
        The event at which it does.
    rule : str
        "drift" or "error-drift".
    state, severity : str
        As of an alert: the severity of a firing one only rises, a resolved one carries the worst.
    score, threshold : float
        What was measured, and from what on it is a drift.
    shifts : tuple of Shift
        By share, the largest first.
    """

    row: int
    rule: str
    state: State
    severity: Severity
    score: float
    threshold: float
    shifts: tuple[Shift, ...]


def describe_shift(name: str, reference: Reference, comparison: Comparison, i: int) -> Shift:
    """Return how feature `i` has changed: its values, or how often it has none if that changed more.

    Its share is its index for now; `share_out` puts that right.
    """
    missing_before = 1.0 - float(reference.counts[i].sum()) / reference.n_sampled
    missing = float(comparison.missing[i])
    psi = float(comparison.psi[i])
    if max(missing_before, missing) == 1.0 or 2 * comparison.psi_missing[i] > psi:
        name = f"{name} (missing)"
        value, mean = missing, missing_before
        value_stddev, stddev = (math.sqrt(share * (1.0 - share)) for share in (missing, missing_before))
    else:
        value, value_stddev = float(comparison.mean[i]), float(comparison.stddev[i])
        mean, stddev = float(reference.mean[i]), float(reference.stddev[i])
    return Shift(
        feature=name,
        share=psi,
        value=value,
        value_stddev=value_stddev,
        mean=mean,
        stddev=stddev,
        psi=psi,
        ks=float(comparison.ks[i]),
        p_value=float(comparison.p_value[i]),
    )


def share_out(shifts: Sequence[Shift]) -> tuple[Shift, ...]:
    """Return the shifts by share, the largest first, their shares summing to 1.

    Examples
    --------
    >>> shifts = [Shift("flow", 1.0, 2.0, 1.0, 0.0, 1.0), Shift("heat", 3.0, 2.0, 1.0, 0.0, 1.0)]
    >>> [(shift.feature, shift.share) for shift in share_out(shifts)]
    [('heat', 0.75), ('flow', 0.25)]
    """
    total = sum(shift.share for shift in shifts)
    shared = [
        shift._replace(share=shift.share / total if total > 0 else 1.0 / len(shifts)) for shift in shifts
    ]
    return tuple(sorted(shared, key=lambda shift: -shift.share))
