from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.varints import decode_varints, encode_varints


def slow(number: int) -> bytes:
    packed = []
    while number >= 0x80:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*packed, number])


@given(
    st.lists(st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1), st.sampled_from([2**63, 2**56 - 1])))
)
def test_arrays_are_packed_as_one_by_one_and_read_back(numbers):
    packed = encode_varints(np.array(numbers, np.uint64))
    assert packed == b"".join(map(slow, numbers))
    assert decode_varints(packed).tolist() == numbers


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(packed):
    try:
        numbers = decode_varints(packed)
    except ValueError:
        return
    assert decode_varints(encode_varints(numbers)).tolist() == numbers.tolist()


@pytest.mark.parametrize(
    "packed", [b"\x80", b"\x00\xff", b"\xff" * 10 + b"\x00", b"\xff" * 9 + b"\x02", b"\x80" * 50]
)
def test_what_has_no_end_or_more_than_64_bits_is_refused(packed):
    with pytest.raises(ValueError, match="packed integers: "):
        decode_varints(packed)
