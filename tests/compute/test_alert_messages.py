from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.alert_messages import encode_alert
from compute.alerts import AlertRule, Transition


def encode(z: list[float], transition: Transition | None = None, **changes: Any) -> dict[str, Any]:
    n_features = len(z)
    columns: dict[str, Any] = {
        "rule": AlertRule(),
        "event_id": "events-2-1841",
        "key": b"pump-1",
        "timestamp": np.float64(1.5),
        "score": np.float64(0.85),
        "feature_names": [f"f{feature}" for feature in range(n_features)],
        "values": np.array(z) * 2 + 10,
        "means": np.full(n_features, 10.0),
        "stddevs": np.full(n_features, 2.0),
        "z": np.array(z, np.float64),
        "model": "detector",
        "version": "builtin-1",
    }
    alert: dict[str, Any] = json.loads(
        encode_alert(transition or Transition(0, "firing", "warning", 3), **(columns | changes))
    )
    return alert


def test_an_alert_has_the_fields_of_the_contract() -> None:
    assert encode([5.0]) == {
        "id": "events-2-1841-score-firing",
        "key": "pump-1",
        "timestamp": 1.5,
        "rule": "score",
        "severity": "warning",
        "state": "firing",
        "score": 0.85,
        "threshold": 0.8,
        "reasons": [{"feature": "f0", "value": 20.0, "mean": 10.0, "stddev": 2.0, "z": 5.0, "share": 1.0}],
        "model": "detector",
        "version": "builtin-1",
        "suppressed": 3,
    }


def test_a_resolved_alert_says_so_in_state_and_id() -> None:
    alert = encode([0.1], Transition(0, "resolved", "critical", 0))
    assert (alert["id"], alert["state"], alert["severity"]) == (
        "events-2-1841-score-resolved",
        "resolved",
        "critical",
    )


def test_reasons_are_sorted_by_share_and_missing_features_left_out() -> None:
    reasons = encode([3.0, np.nan, -4.0, 3.0])["reasons"]
    assert [reason["feature"] for reason in reasons] == ["f2", "f0", "f3"]
    assert reasons[0]["share"] == pytest.approx(16 / 34)


def test_an_event_without_features_has_no_reasons() -> None:
    assert encode([np.nan])["reasons"] == encode([])["reasons"] == []


@given(st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), max_size=6))
def test_shares_of_the_reasons_sum_to_one(z: list[float]) -> None:
    shares = [reason["share"] for reason in encode(z)["reasons"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0) or not np.isfinite(z).any()
