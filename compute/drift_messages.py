"""Drifts as the bytes that are published.

Owns the JSON of the contract's ``alerts`` topic, for what `compute/drift.py` and `compute/error_drift.py`
find.
"""

from __future__ import annotations

import msgspec
import numpy as np

from compute.alert_messages import Alert, Reason
from compute.alerts import alert_id
from compute.drift_findings import Finding, Shift
from compute.normalisation import normalise
from compute.predictions import decode_key


def encode_drift_alert(
    finding: Finding, *, event_id: str, key: bytes, timestamp: float, model: str, version: str
) -> bytes:
    """Return a drift as JSON; the features that drift are its reasons.

    A reason's value is the feature's mean in the window, its mean and stddev are those of the reference, and
    z is how many standard deviations lie between the means, within -100 and 100 as everywhere.

    Parameters
    ----------
    finding : Finding
        What was found.
    event_id, key, timestamp : str, bytes, float
        The event at which it was.
    model, version : str
        Who serves.

    Returns
    -------
    bytes

    Examples
    --------
    >>> shift = Shift("flow", share=1.0, value=24.0, value_stddev=1.0, mean=20.0, stddev=2.0)
    >>> finding = Finding(7, "drift", "firing", "warning", 0.4, 0.2, (shift,))
    >>> alert = encode_drift_alert(
    ...     finding, event_id="events-2-1841", key=b"pump-1", timestamp=1.5, model="detector",
    ...     version="builtin-1")
    >>> msgspec.json.decode(alert)["id"]
    'events-2-1841-drift-firing'
    >>> msgspec.json.decode(alert)["reasons"]
    [{'feature': 'flow', 'value': 24.0, 'mean': 20.0, 'stddev': 2.0, 'z': 2.0, 'share': 1.0}]
    """
    alert = Alert(
        id=alert_id(event_id, finding.rule, finding.state),
        key=decode_key(key),
        timestamp=float(timestamp),
        rule=finding.rule,
        severity=finding.severity,
        state=finding.state,
        score=finding.score,
        threshold=finding.threshold,
        reasons=[_explain(shift) for shift in finding.shifts],
        model=model,
        version=version,
        suppressed=0,
    )
    return msgspec.json.encode(alert)


def _explain(shift: Shift) -> Reason:
    value, mean, stddev = (np.array([[number]]) for number in (shift.value, shift.mean, shift.stddev))
    z = float(normalise(value, mean, stddev)[0, 0])
    return Reason(shift.feature, shift.value, shift.mean, shift.stddev, z, shift.share)
