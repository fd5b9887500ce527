from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.alert_columns import CRITICAL, PACKED_BYTES, QUIET, AlertColumns


def filled() -> AlertColumns:
    columns = AlertColumns(3)
    columns.firing[:] = [0, 1, 2]
    columns.since[:] = [-np.inf, 1.5, 2.5]
    columns.last_fired[:] = [-np.inf, 10.5, 1e18]
    columns.suppressed[:] = [0, 7, 2**32 + 5]
    return columns


def test_new_slots_are_quiet_and_have_never_fired() -> None:
    columns = AlertColumns()
    columns.grow(1)
    assert (columns.firing[0], columns.since[0], columns.last_fired[0], columns.suppressed[0]) == (
        QUIET,
        -np.inf,
        -np.inf,
        0,
    )


@given(st.lists(st.integers(0, 50), max_size=10))
def test_growing_keeps_what_is_there_and_never_shrinks(sizes: list[int]) -> None:
    columns = filled()
    for size in sizes:
        columns.grow(size)
        assert len(columns) >= max(size, 3)
    assert columns.firing[:3].tolist() == [0, 1, 2]
    assert columns.suppressed[1] == 7
    assert {len(a) for a in (columns.firing, columns.since, columns.last_fired, columns.suppressed)} == {
        len(columns)
    }


def test_a_cleared_slot_is_as_new() -> None:
    columns = filled()
    columns.clear(np.array([2]))
    assert columns.pack(np.array([2])).tobytes() == AlertColumns(1).pack(np.array([0])).tobytes()
    assert columns.firing[1] == 1


def test_the_stored_form_does_not_depend_on_machine_or_order() -> None:
    assert filled().pack(np.array([1])).tobytes().hex() == (
        "01" + "01" + "000000000000f83f" + "0000000000002540" + "07000000"
    )


def test_slots_are_restored_in_any_order_from_array_or_bytes() -> None:
    packed = filled().pack(np.array([2, 1]))
    for form in (packed, packed.tobytes(), packed[:, ::-1][:, ::-1]):
        columns = AlertColumns(4)
        columns.unpack(np.array([0, 3]), form)
        assert columns.firing.tolist() == [CRITICAL, 0, 0, 1]
        assert columns.last_fired.tolist() == [1e18, -np.inf, -np.inf, 10.5]
        assert columns.suppressed.tolist() == [
            2**32 - 1,
            0,
            0,
            7,
        ]  # a count too large for its place stays there


def test_no_slots_are_no_bytes() -> None:
    none = np.empty(0, np.int64)
    assert filled().pack(none).shape == (0, PACKED_BYTES)
    filled().unpack(none, b"")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"\x01", "must be 22 bytes for each of 1 slots, received 1 bytes"),
        (b"\x02" + bytes(PACKED_BYTES - 1), "format must be 1 to 1, received 2"),
        (b"\x01\x03" + bytes(PACKED_BYTES - 2), "firing must be 0 to 2, received 3"),
    ],
)
def test_bytes_that_were_not_written_here_are_refused_and_change_nothing(stored: bytes, message: str) -> None:
    columns = filled()
    with pytest.raises(ValueError, match=message):
        columns.unpack(np.array([1]), stored)
    assert columns.pack(np.arange(3)).tobytes() == filled().pack(np.arange(3)).tobytes()
