from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.artefact import ArtefactError
from compute.decisions import (
    MAX_AT,
    MAX_DECISION_BYTES,
    Decision,
    Key,
    arm_of,
    arms_of,
    artefact_key,
    decision_key,
    decode_decision,
    encode_decision,
    next_time,
    read_key,
)

VERSION = "0123456789abcdef"
FIELDS = {"action": "promote", "model": "pump", "version": VERSION, "at": 1_700_000_000.5}


def decision(**more: object) -> Decision:
    return Decision(**{**FIELDS, **more})  # type: ignore[arg-type]


def test_an_entity_stays_with_its_arm_for_ever() -> None:
    # Another version of this code has to give the same, or entities change sides when workers are updated.
    given = arms_of([b"pump-%d" % number for number in range(20)], VERSION, 0.3)
    assert "".join("x" if arm else "." for arm in given) == ".xxx..x....x...x.x.."


@given(st.lists(st.binary()), st.text(max_size=100), st.floats(0, 1))
def test_many_entities_are_divided_as_one_by_one(keys: list[bytes], salt: str, share: float) -> None:
    assert arms_of(keys, salt, share).tolist() == [arm_of(key, salt, share) for key in keys]


@given(st.binary(), st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_who_belongs_to_a_share_belongs_to_a_larger_one(
    key: bytes, salt: str, one: float, two: float
) -> None:
    if arm_of(key, salt, min(one, two)):
        assert arm_of(key, salt, max(one, two))


@given(st.binary(), st.text(max_size=20))
def test_nobody_is_in_a_share_of_0_and_everybody_in_one_of_1(key: bytes, salt: str) -> None:
    assert not arm_of(key, salt, 0.0)
    assert arm_of(key, salt, 1.0)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_share_is_that_part_of_the_entities(share: float) -> None:
    n = 20_000
    n_given = int(arms_of([f"sensor-{i}".encode() for i in range(n)], VERSION, share).sum())
    assert abs(n_given - n * share) < 5 * math.sqrt(n * share * (1 - share))


def test_two_splits_draw_independently() -> None:
    keys = [f"sensor-{i}".encode() for i in range(20_000)]
    one, two = arms_of(keys, "0" * 16, 0.5), arms_of(keys, "1" * 16, 0.5)
    assert abs(int((one & two).sum()) - 5_000) < 5 * math.sqrt(20_000 * 0.25 * 0.75)


def test_keys_of_records_say_what_they_are() -> None:
    kept = artefact_key("pump", VERSION)
    decided = decision_key(decision(), "0a1b2c")
    assert read_key("pump") == Key("pump")
    assert read_key(kept) == Key("pump", VERSION)
    assert read_key(decided) == Key("pump", VERSION, True)
    assert decided.startswith(f"{kept}/decision-1700000000500-")


@pytest.mark.parametrize(
    "key",
    [
        *("", "pump@", "pump@0123", "pump@0123456789ABCDEF", f"@{VERSION}", f"pump@{VERSION}/"),
        *(f"a@b@{VERSION}", f"pump@{VERSION}\n", f"pump@{VERSION}/decision-1-0a1b2"),
        *(f"pump@{VERSION}/decision--0a1b2c", f"pump@{VERSION}/decision-1-0a1b2c/"),
    ],
)
def test_any_other_key_is_a_models_name(key: str) -> None:
    assert read_key(key) == Key(key)


@given(
    action=st.sampled_from(["challenge", "promote", "rollback", "retire"]),
    previous=st.sampled_from(["", VERSION]),
    by=st.text(max_size=200),
    at=st.floats(0, MAX_AT),
    reason=st.text(max_size=1_000),
    evidence=st.dictionaries(st.text(max_size=20), st.integers(-9, 9) | st.floats(-1e9, 1e9), max_size=9),
)
def test_a_decision_comes_back_as_it_was(**more: object) -> None:
    assert decode_decision(encode_decision(decision(**more))) == decision(**more)


def test_evidence_may_hold_numbers_of_numpy() -> None:
    evidence = {
        "difference": np.float64(0.5),
        "n_labels": np.int64(3),
        "row": np.arange(2),
        "p": np.float32(0.25),
    }
    encoded = encode_decision(decision(evidence=evidence))
    assert decode_decision(encoded).evidence == {"difference": 0.5, "n_labels": 3, "row": [0, 1], "p": 0.25}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"action": "praise"}, "Invalid enum value 'praise'"),
        ({"model": "a b"}, "`$.model`"),
        ({"version": "0123"}, "`$.version`"),
        ({"previous": "none"}, "`$.previous`"),
        ({"at": -1}, "`$.at`"),
        ({"at": 1e300}, "`$.at`"),
        ({"at": "now"}, "`$.at`"),
        ({"at": None}, "`$.at`"),
        ({"reason": "x" * 1_001}, "`$.reason`"),
        ({"evidence": []}, "`$.evidence`"),
        ({"shrae": 0.1}, "unknown field `shrae`"),
        ({"share": 0.1}, "share belongs to action 'split', received 0.1 for 'promote'"),
        ({"action": "split"}, "share belongs to action 'split', received None"),
        ({"action": "split", "share": 1.5}, "`$.share`"),
        ({"evidence": {"x": "y" * MAX_DECISION_BYTES}}, "at most 16384 bytes"),
    ],
)
def test_a_decision_that_is_none_is_refused_with_the_field(changed: dict[str, object], reason: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        decode_decision(json.dumps({**FIELDS, **changed}).encode())
    assert reason in str(caught.value)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_decision_or_refused(encoded: bytes) -> None:
    with pytest.raises(ArtefactError):
        decode_decision(encoded)


def test_what_cannot_be_read_back_is_not_written() -> None:
    with pytest.raises(ArtefactError, match="evidence must be JSON"):
        encode_decision(decision(evidence={"what": object()}))
    with pytest.raises(ArtefactError, match="at most 16384 bytes"):
        encode_decision(decision(evidence={"x": "y" * MAX_DECISION_BYTES}))


@given(st.floats(0, MAX_AT / 2), st.floats(0, MAX_AT / 2))
def test_a_decision_is_later_than_those_that_it_knows_of(now: float, last: float) -> None:
    chosen = next_time(now, last)
    assert chosen > last
    assert chosen >= now
