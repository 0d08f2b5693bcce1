"""Rows found by their ids, whether these are numbered one after the other or anyhow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.ids import positions

NUMBERS = st.one_of(st.integers(-1, 12), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(NUMBERS), st.lists(NUMBERS))
def test_each_id_is_found_where_it_stands_last(ids: list[int], wanted: list[int]) -> None:
    last = {number: place for place, number in enumerate(ids)}
    asked = [*wanted, *ids]
    found = positions(np.array(ids, np.int64), np.array(asked, np.int64))
    assert found.tolist() == [-1 if number == -1 else last.get(number, -1) for number in asked]


@pytest.mark.parametrize("ids", [[2**62, 5], [-(2**62), 5]])
def test_an_id_that_is_far_away_costs_no_memory(ids: list[int]) -> None:
    assert positions(np.array(ids, np.int64), np.array([5, ids[0], 7])).tolist() == [1, 0, -1]
