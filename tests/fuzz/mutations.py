"""Valid input made wrong: bytes that change, go, come and move."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_ODD = [
    b"\x00" * 8,
    b"\xff" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\x80",
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
    b'"',
    b"{",
]


@st.composite
def mutated(draw: Any, valid: bytes, max_changes: int = 4) -> bytes:
    """Return valid bytes after a few changes."""
    found = bytearray(valid)
    for _ in range(draw(st.integers(1, max_changes))):
        at = draw(st.integers(0, len(found)))
        n_bytes = draw(st.sampled_from([1, 1, 2, 4, 8, 50]))
        match draw(st.sampled_from(["replace", "flip", "delete", "insert", "copy", "cut", "odd"])):
            case "replace":
                found[at : at + n_bytes] = draw(st.binary(max_size=n_bytes))
            case "flip" if at < len(found):
                found[at] ^= 1 << draw(st.integers(0, 7))
            case "delete":
                del found[at : at + n_bytes]
            case "insert":
                found[at:at] = draw(st.binary(min_size=1, max_size=n_bytes))
            case "copy":
                source = draw(st.integers(0, len(found)))
                found[at:at] = found[source : source + n_bytes]
            case "cut":
                del found[at:]
            case "odd":
                odd = draw(st.sampled_from(_ODD))
                found[at : at + len(odd)] = odd
    return bytes(found)
