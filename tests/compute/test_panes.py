from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.panes import EMPTY, MAX_PANE, pane_index, panes_in_ring, silent


@pytest.mark.parametrize("time", [math.nan, math.inf, 1e300])
def test_a_time_without_an_exact_pane_is_refused(time):
    with pytest.raises(ValueError, match="timestamp: must lie within"):
        pane_index(np.array([0.0, time]), 60.0)


@given(st.integers(-MAX_PANE + 1, MAX_PANE - 1), st.integers(1, 40))
def test_each_position_stands_for_the_one_pane_of_the_ring_that_lies_there(newest, n_panes):
    panes = panes_in_ring(np.array([newest]), n_panes)[0].tolist()
    assert sorted(panes) == list(range(newest - n_panes + 1, newest + 1))
    assert all(pane % n_panes == position for position, pane in enumerate(panes))


def test_an_entity_without_events_is_silent_once_there_is_a_watermark():
    assert silent(np.array([EMPTY]), watermark=0, n_panes=1000).all()
    assert not silent(np.array([EMPTY]), watermark=EMPTY, n_panes=1).any()
