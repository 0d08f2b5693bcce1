from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracekit.model import NONE
from tracekit.render.nesting import MAX_DEPTH, Nesting, _stack, _stack_at_once, clip_into, flat_lanes, nest

INTERVALS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 15)).map(lambda pair: (pair[0], sum(pair))), min_size=1, max_size=30
)


def columns(intervals: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array(intervals, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def inside(interval: tuple[int, int]) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Slices that nest in an interval, empty ones and ones that touch included."""
    start, end = interval
    cuts = st.lists(st.integers(start, end), min_size=2, max_size=5).map(sorted).map(itertools.pairwise).map(list)
    children = cuts.flatmap(lambda pairs: st.lists(st.sampled_from(pairs), unique=True)).map(sorted)
    deeper = children.flatmap(
        lambda own: st.tuples(
            *(inside(child) if child[1] - child[0] < end - start else st.just([child]) for child in own)
        )
    )
    return deeper.map(lambda lists: [interval, *itertools.chain.from_iterable(lists)])


NESTED = st.integers(0, 5).flatmap(lambda start: inside((start, start + 24)))


def crosses(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[0] < one[1] < other[1] or other[0] < one[0] < other[1] < one[1]


@given(INTERVALS, st.data())
def test_no_two_slices_of_a_lane_cross(intervals: list[tuple[int, int]], data: st.DataObject) -> None:
    ranks = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(intervals), max_size=len(intervals))))
    nesting = nest(*columns(intervals), ranks)
    for lane in range(nesting.lane.max() + 1):
        inside = [intervals[index] for index in np.flatnonzero(nesting.lane == lane)]
        assert inside
        assert not any(crosses(one, other) for one in inside for other in inside)


@given(INTERVALS)
def test_a_parent_lies_around_its_child_in_the_same_lane(intervals: list[tuple[int, int]]) -> None:
    nesting = nest(*columns(intervals), np.zeros(len(intervals), np.int64))
    for index, parent in enumerate(nesting.parent):
        if parent != NONE:
            assert nesting.lane[index] == nesting.lane[parent]
            assert intervals[parent][0] <= intervals[index][0] <= intervals[index][1] <= intervals[parent][1]


@given(INTERVALS)
def test_the_open_moment_is_the_first_without_a_child(intervals: list[tuple[int, int]]) -> None:
    nesting = nest(*columns(intervals), np.zeros(len(intervals), np.int64))
    for index, (start, end) in enumerate(intervals):
        children = [intervals[child] for child in np.flatnonzero(nesting.parent == index)]
        free = [time for time in range(start, end) if not any(left <= time < right for left, right in children)]
        assert nesting.open_ns[index] == (free[0] if free else NONE)


@given(NESTED)
def test_slices_stacked_at_once_lie_where_one_by_one_they_would(intervals: list[tuple[int, int]]) -> None:
    start, end = columns(intervals)
    ranks = np.zeros(len(intervals), np.int64)
    at_once, one_by_one = nest(start, end, ranks), nest(start, end, ranks)
    order = np.lexsort((-end, start))
    evicted = _stack(order, start, end, ranks, one_by_one)
    assert not evicted.any()
    assert _stack_at_once(order, start, end, nest(start, end, ranks))
    for name in ("lane", "parent", "open_ns"):
        assert getattr(at_once, name).tolist() == getattr(one_by_one, name).tolist()


@given(INTERVALS)
def test_slices_are_stacked_at_once_only_where_none_crosses(intervals: list[tuple[int, int]]) -> None:
    start, end = columns(intervals)
    nothing = np.full(len(start), NONE, np.int64)
    at_once = _stack_at_once(np.lexsort((-end, start)), start, end, Nesting(nothing.copy(), nothing.copy(), nothing))
    assert at_once == (not any(crosses(one, other) for one in intervals for other in intervals))


def test_of_two_that_cross_the_higher_rank_moves() -> None:
    start, end = columns([(0, 10), (5, 15)])
    assert nest(start, end, np.array([0, 1])).lane.tolist() == [0, 1]
    assert nest(start, end, np.array([1, 0])).lane.tolist() == [1, 0]


def test_a_child_of_one_that_moved_belongs_to_what_is_around_that() -> None:
    start, end = columns([(0, 100), (10, 50), (20, 30), (40, 60)])
    nesting = nest(start, end, np.array([0, 2, 3, 1]))
    assert nesting.lane.tolist() == [0, 1, 0, 0]
    assert nesting.parent.tolist() == [NONE, NONE, 0, 0]


def test_what_is_nested_too_deep_for_viewers_goes_to_another_lane() -> None:
    depth = MAX_DEPTH + 3
    start, end = columns([(index, 2 * depth - index) for index in range(depth)])
    assert np.bincount(nest(start, end, np.zeros(depth, np.int64)).lane).tolist() == [MAX_DEPTH, 3]


@given(INTERVALS, INTERVALS, st.integers(0, 6))
def test_clipping_moves_an_end_by_the_error_at_most_and_inwards(
    slices: list[tuple[int, int]], around: list[tuple[int, int]], error_ns: int
) -> None:
    start, end = columns(slices)
    clipped_start, clipped_end = clip_into(start, end, np.array(around).ravel(), error_ns)
    assert ((clipped_start - start >= 0) & (clipped_start - start <= error_ns)).all()
    assert ((end - clipped_end >= 0) & (end - clipped_end <= error_ns)).all()
    assert (clipped_start <= clipped_end).all()


def test_a_call_that_began_before_its_span_by_the_clocks_error_is_put_into_it() -> None:
    start, end = clip_into(*columns([(98, 150), (90, 150), (150, 202)]), np.array([100, 200]), 5)
    # The second is off by more than the clocks are: it stays, and is given a lane.
    assert list(zip(start, end, strict=True)) == [(100, 150), (90, 150), (150, 200)]


@given(INTERVALS)
def test_flat_lanes_hold_no_two_at_a_time_and_none_too_many(intervals: list[tuple[int, int]]) -> None:
    lanes = flat_lanes(*columns(intervals))
    for lane in range(lanes.max() + 1):
        inside = sorted(intervals[index] for index in np.flatnonzero(lanes == lane))
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(inside))
    busiest = max(sum(start <= time < max(end, start + 1) for start, end in intervals) for time in range(60))
    assert lanes.max() + 1 <= busiest
