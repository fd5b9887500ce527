from __future__ import annotations

import json
import math

import msgspec
import numpy as np
import pytest

from compute.alert_messages import Alert
from compute.drift import DriftMonitor
from compute.drift_findings import Finding, Shift
from compute.drift_messages import encode_drift_alert
from compute.error_drift import ErrorMonitor
from compute.normalisation import Z_LIMIT


def encode(finding, **changes):
    told = {
        "event_id": "events-2-1841",
        "key": b"pump-1",
        "timestamp": np.float64(1.5),
        "model": "detector",
        "version": "builtin-1",
    }
    return encode_drift_alert(finding, **(told | changes))


def finding_of(*shifts, state="firing"):
    return Finding(7, "drift", state, "warning", 0.4, 0.2, shifts)


def test_an_alert_has_the_fields_of_the_contract():
    flow = Shift("flow", 0.75, 24.0, 1.0, 20.0, 2.0, psi=0.4, ks=0.3, p_value=1e-9)
    heat = Shift("heat", 0.25, 4.0, 1.0, 5.0, 4.0, psi=0.3, ks=0.2, p_value=1e-9)
    assert json.loads(encode(finding_of(flow, heat))) == {
        "id": "events-2-1841-drift-firing",
        "key": "pump-1",
        "timestamp": 1.5,
        "rule": "drift",
        "severity": "warning",
        "state": "firing",
        "score": 0.4,
        "threshold": 0.2,
        "reasons": [
            {"feature": "flow", "value": 24.0, "mean": 20.0, "stddev": 2.0, "z": 2.0, "share": 0.75},
            {"feature": "heat", "value": 4.0, "mean": 5.0, "stddev": 4.0, "z": -0.25, "share": 0.25},
        ],
        "model": "detector",
        "version": "builtin-1",
        "suppressed": 0,
    }


@pytest.mark.parametrize(("value", "z"), [(7.0, 0.0), (7.1, Z_LIMIT), (6.9, -Z_LIMIT)])
def test_a_constant_that_changes_lies_at_the_limit(value, z):
    (reason,) = json.loads(encode(finding_of(Shift("flow", 1.0, value, 0.0, 7.0, 0.0))))["reasons"]
    assert reason["z"] == z


def test_a_key_that_is_no_text_is_shown_as_one():
    assert json.loads(encode(finding_of(), key=b"\xffpump"))["key"] == "\\xffpump"


def found_alerts():
    random = np.random.default_rng(1)
    matrix = np.column_stack([random.normal(size=3600), np.repeat(7.0, 3600), random.normal(size=3600)])
    matrix[1200:2400, 0] += 3.0
    matrix[1200:2400, 1] = 8.0
    matrix[1200:2400, 2] = np.nan
    monitor = DriftMonitor(4, 400, 0.2)
    panes = np.arange(3600) // 100
    yield from monitor.observe(["a", "b", "c"], matrix, np.zeros(3600), panes, "1")
    errors = (random.random(3000) < np.repeat([0.1, 0.6, 0.1], 1000)) * 1.0
    yield from ErrorMonitor().observe(errors, "1")


def test_whatever_is_found_becomes_an_alert_of_finite_numbers_whose_shares_sum_to_one():
    findings = list(found_alerts())
    kinds = [(finding.rule, finding.state) for finding in findings]
    assert kinds == [
        ("drift", "firing"),
        ("drift", "resolved"),
        ("error-drift", "firing"),
        ("error-drift", "resolved"),
    ]
    for finding in findings:
        alert = msgspec.json.decode(encode(finding), type=Alert)  # refuses null for a number
        assert alert.id == f"events-2-1841-{finding.rule}-{finding.state}"
        shares = [reason.share for reason in alert.reasons]
        assert shares == sorted(shares, reverse=True)
        assert math.fsum(shares) == pytest.approx(1.0)
        assert all(-Z_LIMIT <= reason.z <= Z_LIMIT for reason in alert.reasons)
    features = {reason.feature for reason in msgspec.json.decode(encode(findings[0]), type=Alert).reasons}
    assert features == {"a", "b", "c (missing)"}
    assert {shift.feature for shift in findings[2].shifts} == {"error"}
