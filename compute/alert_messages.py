"""Alerts as the bytes that are published.

Owns the JSON of the contract's ``alerts`` topic; when there is one is decided in ``compute/alerts.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from compute.alerts import AlertRule, Transition, alert_id
from compute.detector import share_blame
from compute.predictions import decode_key


class Reason(msgspec.Struct, gc=False):
    """How far one feature was from what was expected, and its part in that."""

    feature: str
    value: float
    mean: float
    stddev: float
    z: float
    share: float


class Alert(msgspec.Struct, gc=False):
    """A change of state that a person should see."""

    id: str
    key: str
    timestamp: float
    rule: str
    severity: str
    state: str
    score: float
    threshold: float
    reasons: list[Reason]
    model: str
    version: str
    suppressed: int


def encode_alert(
    transition: Transition,
    *,
    rule: AlertRule,
    event_id: str,
    key: bytes,
    timestamp: float,
    score: float,
    feature_names: Sequence[str],
    values: NDArray[np.float64],
    means: NDArray[np.float64],
    stddevs: NDArray[np.float64],
    z: NDArray[np.float64],
    model: str,
    version: str,
) -> bytes:
    """Return an alert as JSON, with its reasons: which features, by how much, what was expected.

    Parameters
    ----------
    transition : Transition
        What happened.
    rule : AlertRule
        The rule by which it did.
    event_id, key, timestamp, score : str, bytes, float, float
        The event at which it happened.
    feature_names : sequence of str, length n_features
        Names of the features.
    values, means, stddevs, z : ndarray, shape (n_features,), float64
        The event's features, their expected value and spread before it, and the distance in standard
        deviations. A feature whose distance is NaN is missing and left out of the reasons.
    model, version : str
        Who scored.

    Returns
    -------
    bytes

    Examples
    --------
    >>> alert = encode_alert(
    ...     Transition(0, "firing", "warning", 2), rule=AlertRule(), event_id="events-2-1841", key=b"pump-1",
    ...     timestamp=1.5, score=0.8, feature_names=["flow", "heat"], values=np.array([16.0, 30.0]),
    ...     means=np.array([10.0, 30.0]), stddevs=np.array([1.0, 2.0]), z=np.array([6.0, 0.0]),
    ...     model="detector", version="builtin-1")
    >>> msgspec.json.decode(alert)["reasons"][0]
    {'feature': 'flow', 'value': 16.0, 'mean': 10.0, 'stddev': 1.0, 'z': 6.0, 'share': 1.0}
    """
    shares = share_blame(z[np.newaxis, :])[0]
    by_share = np.argsort(-shares, kind="stable")  # equal shares stay in the order of the features
    present = by_share[~np.isnan(z[by_share])]
    reasons = [
        Reason(feature_names[feature], *numbers)
        for feature, numbers in zip(
            present.tolist(),
            np.column_stack([values, means, stddevs, z, shares])[present].tolist(),
            strict=True,
        )
    ]
    alert = Alert(
        id=alert_id(event_id, rule.name, transition.state),
        key=decode_key(key),
        timestamp=float(timestamp),
        rule=rule.name,
        severity=transition.severity,
        state=transition.state,
        score=float(score),
        threshold=rule.threshold,
        reasons=reasons,
        model=model,
        version=version,
        suppressed=transition.suppressed,
    )
    return msgspec.json.encode(alert)
