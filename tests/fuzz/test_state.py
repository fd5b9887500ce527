"""Whatever the store or the changelog holds: read or refused, and nothing allocated for what is not there."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compute.alert_columns import PACKED_BYTES, AlertColumns, check_packed
from compute.entity_columns import EntityColumns
from compute.state_codec import decode_entity, decode_many, encode_many
from compute.state_format import HEADER, HEADER_FIELDS
from compute.statistics import score_and_learn, window_statistics
from tables.partition import PARTITION_KEY, Partition
from tests.agents.recording import DictStore
from tests.fuzz.amount import amount
from tests.fuzz.mutations import mutated

N_PANES, PANE_SECONDS = 4, 60.0
EXTREMES = {
    "u1": [0, 1, 255],
    "u2": [0, 1, 2, 5, 1_000, 65_535],
    "u4": [0, 1, 100, 2**16, 2**31, 2**32 - 1],
    "i8": [0, 1, -1, -(2**62), 2**53, 2**62, 2**63 - 1, -(2**63)],
    "f8": [0.0, -1.0, 1e-308, 60.0, 1e308, float("nan"), float("inf")],
}


def stored() -> list[bytes]:
    rng = np.random.default_rng(5)
    columns = EntityColumns(N_PANES, PANE_SECONDS, ["heat", "flow", "é"], 5)
    matrix = rng.normal(1e3, 1.0, (80, 3))
    matrix[rng.random(matrix.shape) < 0.3] = np.nan
    learnt, _ = score_and_learn(columns, rng.integers(0, 4, 80), np.arange(80), np.arange(80) // 20, matrix)
    columns.assign(learnt)
    alerts = AlertColumns(5)
    alerts.firing[1], alerts.since[1], alerts.last_fired[1] = 2, 5.0, 6.0
    return encode_many(columns, np.arange(5), [alerts.pack(np.array([i])).tobytes() for i in range(5)])


STORED = stored()


@st.composite
def wrong_values(draw: Any) -> bytes:
    """Return a stored entity with wrong fields in its header, wrong bytes anywhere, or none of it."""
    value = draw(st.sampled_from(STORED))
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind <= 2:
        found = bytearray(value)
        for name in draw(st.lists(st.sampled_from(HEADER_FIELDS.names), min_size=1, max_size=3)):
            dtype, at = HEADER_FIELDS.fields[name][:2]  # type: ignore[index]
            if dtype.str[1:] in EXTREMES:
                found[at : at + dtype.itemsize] = np.array(
                    draw(st.sampled_from(EXTREMES[dtype.str[1:]])), dtype
                ).tobytes()
        return bytes(found)
    if kind == 3:  # numbers of its panes
        found, at = bytearray(value), draw(st.integers(HEADER.size, max(len(value) - 8, HEADER.size)))
        struct.pack_into("<d", found, min(at, len(found) - 8), draw(st.sampled_from(EXTREMES["f8"])))
        return bytes(found)
    return draw(mutated(value))


@amount(500)
@given(st.lists(wrong_values(), min_size=1, max_size=4))
def test_a_value_is_read_or_refused_and_never_asks_for_more_than_there_is(values: list[bytes]) -> None:
    tracemalloc.start()
    try:
        readable = []
        for value in values:
            try:
                readable.append(decode_entity(value))
            except ValueError:
                continue
        try:
            assert len(decode_many(values)) == len(values) == len(readable)
        except ValueError:
            assert len(readable) < len(values)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    for state in readable:
        if (state.n_panes, state.pane_seconds) == (N_PANES, PANE_SECONDS):
            columns = EntityColumns(N_PANES, PANE_SECONDS, (), 1)
            columns.put([0], [state])
            window_statistics(columns, 0)
            assert len(encode_many(columns, np.array([0]))) == 1


@amount(300)
@given(st.one_of(st.binary(max_size=40), mutated(STORED[1][-PACKED_BYTES:])))
def test_alert_states_are_read_or_refused(packed: bytes) -> None:
    try:
        check_packed(packed)
    except ValueError:
        return
    columns = AlertColumns(1)
    columns.unpack(np.array([0]), packed)
    assert columns.pack(np.array([0])).tobytes()[: PACKED_BYTES - 4] == packed[: PACKED_BYTES - 4]


@amount(150)
@given(
    st.dictionaries(st.sampled_from([b"a", b"b", b"c", b"d"]), wrong_values(), max_size=4),
    st.one_of(st.none(), mutated(b"1003 70 60.0"), st.binary(max_size=20)),
    st.lists(st.sampled_from([b"a", b"b", b"c", b"e"]), min_size=1, max_size=6),
)
def test_a_partition_goes_on_with_whatever_its_store_holds(
    values: dict[bytes, bytes], about: bytes | None, keys: list[bytes]
) -> None:
    store = DictStore()
    store.values.update(values)
    if about is not None:
        store.values[PARTITION_KEY] = about
    partition = Partition(0, store, N_PANES, PANE_SECONDS, 100)
    for round_number in range(3):
        for key in values:
            partition.find(key)
        slots = partition.slots_of(keys, ["heat", "new"])
        n, columns = len(keys), partition.columns
        learnt, scored = score_and_learn(
            columns,
            slots,
            np.arange(n) + 1_000 + 10 * round_number,
            np.full(n, round_number),
            np.full((n, columns.n_features), 1.0),
            partition.watermark,
        )
        columns.assign(learnt)
        partition.mark_changed(slots)
        partition.watermark = scored.watermark
        partition.next_offset = 1_010 + 10 * round_number
        store.write(0, partition.take_changes(), 0)
        partition.shrink()
    for key, value in store.values.items():
        if key != PARTITION_KEY and key in keys:
            decode_entity(value)
    assert Partition(0, store, N_PANES, PANE_SECONDS, 100).next_offset == 1_030
