from __future__ import annotations

from compute.dead_letters import dead_letter_headers


def test_headers_are_those_of_the_contract_in_order() -> None:
    assert dead_letter_headers("missing-key", "key: must ...", "events", 2, 1841, "decode") == [
        ("error", b"missing-key"),
        ("error-message", b"key: must ..."),
        ("source-topic", b"events"),
        ("source-partition", b"2"),
        ("source-offset", b"1841"),
        ("stage", b"decode"),
    ]


def test_a_message_that_utf_8_cannot_hold_is_escaped() -> None:
    headers = dict(dead_letter_headers("invalid-json", "\ud800 ü", "events", 0, 0, "decode"))
    assert headers["error-message"] == b"\\ud800 \xc3\xbc"
