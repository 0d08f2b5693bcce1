"""Interval arithmetic against sets of single nanoseconds, which cannot be wrong."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.intervals import Coverage, grouped_union

MOMENT = st.integers(-20, 20)
INTERVALS = st.lists(st.tuples(MOMENT, MOMENT), max_size=12)


def columns(pairs):
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return array[:, 0].copy(), array[:, 1].copy()


def moments(pairs) -> set[int]:
    return {moment for start, end in pairs for moment in range(start, end)}


@given(INTERVALS)
def test_a_union_is_disjoint_in_order_and_covers_the_same_moments(pairs):
    union = Coverage.of(*columns(pairs))
    assert moments(zip(union.starts, union.ends, strict=True)) == moments(pairs)
    assert union.total == len(moments(pairs))
    assert (union.starts < union.ends).all()
    assert (union.starts[1:] > union.ends[:-1]).all()


@given(INTERVALS, INTERVALS)
def test_coverage_of_windows(pairs, windows):
    within = Coverage.of(*columns(pairs)).within(*columns(windows))
    assert within.tolist() == [len(moments(pairs) & moments([window])) for window in windows]


@given(INTERVALS, INTERVALS)
def test_exposed_time_is_what_a_union_adds(copies, kernels):
    kernel = Coverage.of(*columns(kernels))
    busy = Coverage.of(*columns(copies)) | kernel
    assert busy.total - kernel.total == len(moments(copies) - moments(kernels))


@given(st.lists(st.tuples(st.integers(0, 3), MOMENT, st.integers(1, 9)), max_size=20))
def test_unions_by_group(rows):
    groups = np.array([group for group, _, _ in rows], dtype=np.int64)
    starts = np.array([start for _, start, _ in rows], dtype=np.int64)
    ends = starts + np.array([length for _, _, length in rows], dtype=np.int64)
    expected = [
        len(moments([(start, start + length) for group, start, length in rows if group == wanted]))
        for wanted in range(4)
    ]
    assert grouped_union(groups, starts, ends, 4).tolist() == expected


def test_times_of_a_long_uptime_do_not_overflow():
    starts = np.array([2**60, 2**60 + 5], dtype=np.int64)
    assert grouped_union(np.array([0, 2**20]), starts, starts + 10, 2**20 + 1)[[0, -1]].tolist() == [10, 10]
