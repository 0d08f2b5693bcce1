"""Where slices go so that none crosses another: clipped by the clocks' error, or moved to a lane of its own.

Viewers draw a track as a stack. Two slices that cross cannot be drawn, and Perfetto drops the later one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracekit.model import NONE
from tracekit.render.rowtext import Ints

MAX_DEPTH = 500  # Perfetto flattens a stack deeper than 512

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Nesting:
    """For each slice, in the order given.

    `lane`: 0, or the extra lane it had to move to. `parent`: position of the slice around it in its lane, or `NONE`.
    `open_ns`: the first moment at which it is the innermost slice, or `NONE` when its children fill it.
    """

    lane: IntArray
    parent: IntArray
    open_ns: IntArray


def nest(start_ns: Ints, end_ns: Ints, rank: Ints) -> Nesting:
    """Stack one thread's slices; of two that cross, the one with the higher rank moves to an extra lane.

    Of two equal intervals the lower rank is around the other, then the one given first. So is the file's order then.
    """
    count = len(start_ns)
    nesting = Nesting(np.zeros(count, np.int64), np.full(count, NONE, np.int64), np.full(count, NONE, np.int64))
    left = np.lexsort((rank, -end_ns.astype(np.int64), start_ns))
    if _stack_at_once(left, start_ns, end_ns, nesting):
        return nesting
    lane = 0
    while len(left):
        nesting.lane[left] = lane
        left = left[_stack(left, start_ns, end_ns, rank, nesting)]
        lane += 1
    return nesting


def _stack_at_once(order: IntArray, start_ns: Ints, end_ns: Ints, nesting: Nesting) -> bool:
    """Stack slices as `_stack` does where none crosses another, by whole depths; false, and nothing done, else."""
    starts, ends = start_ns[order], end_ns[order]
    depth = _depths(starts, ends)
    if len(depth) and not 0 <= depth.min() <= depth.max() < MAX_DEPTH:
        return False
    by_depth = np.argsort(depth.astype(np.int16), kind="stable")
    parents, opens = np.full(len(order), NONE, np.int64), starts.copy()
    above = np.zeros(0, np.int64)
    for rows in np.split(by_depth, np.cumsum(np.bincount(depth))[:-1]):
        if (ends[rows[:-1]] > starts[rows[1:]]).any():
            return False
        if len(above):
            place = np.searchsorted(above, rows) - 1
            parent = above[place]
            if (place < 0).any() or (ends[parent] < ends[rows]).any() or (ends[parent] <= starts[rows]).any():
                return False
            parents[rows] = parent
            # Children that follow each other without a gap from the parent's start on close it up to their end.
            is_first = np.diff(parent, prepend=NONE) != 0
            before = np.where(is_first, starts[parent], np.append(NONE, ends[rows[:-1]]))
            gaps = np.cumsum(starts[rows] != before)
            seen = np.append(0, gaps[:-1])[is_first][np.cumsum(is_first) - 1]
            closing = gaps == seen
            opens[parent[closing]] = ends[rows[closing]]  # of several, the last one stays
        above = rows
    nesting.parent[order] = np.where(parents >= 0, order[parents], NONE)
    nesting.open_ns[order] = np.where(opens < ends, opens, NONE)
    return True


def _depths(starts: Ints, ends: Ints) -> IntArray:
    """How many of the slices before each one, outer ones first, are not over when it begins."""
    empty = starts == ends
    over = np.searchsorted(np.sort(ends), starts, side="right")
    # Of those over by then, empty ones at that very moment may come after it, or be itself.
    later = np.searchsorted(starts[empty], starts, side="right") - (np.cumsum(empty) - empty)
    return np.asarray(np.arange(len(starts)) - over + later, np.int64)


def _stack(order: IntArray, start_ns: Ints, end_ns: Ints, rank: Ints, nesting: Nesting) -> npt.NDArray[np.bool_]:
    """Stack the slices in `order` (outer ones first) into one lane; true for each that has no place in it."""
    starts, ends, ranks = start_ns[order].tolist(), end_ns[order].tolist(), rank[order].tolist()
    opens = list(starts)
    parents = [NONE] * len(starts)
    evicted = np.zeros(len(starts), np.bool_)
    stack: list[int] = []
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        while stack and ends[stack[-1]] <= start:
            stack.pop()
        while stack and ends[stack[-1]] < end and ranks[stack[-1]] > ranks[index]:
            evicted[stack.pop()] = True
        if stack:
            top = stack[-1]
            if ends[top] < end or len(stack) >= MAX_DEPTH:
                evicted[index] = True
                continue
            parents[index] = top
            if opens[top] == start:
                opens[top] = end
        stack.append(index)
    # One whose parent was evicted after it was placed belongs to what was around that parent.
    parent, opened = np.array(parents, np.int64), np.array(opens, np.int64)
    while (orphan := (parent >= 0) & evicted[parent]).any():
        parent[orphan] = parent[parent[orphan]]
    nesting.parent[order] = np.where(parent >= 0, order[parent], NONE)
    nesting.open_ns[order] = np.where(opened < end_ns[order], opened, NONE)
    return evicted


def clip_into(start_ns: Ints, end_ns: Ints, bounds_ns: Ints, error_ns: int) -> tuple[IntArray, IntArray]:
    """Slices of another clock moved off the bounds they cross, each end by at most `error_ns`; others as they are.

    The stretch between two bounds that holds a slice's middle is where it belongs.
    """
    start, end = start_ns.astype(np.int64), end_ns.astype(np.int64)
    if error_ns <= 0 or not len(bounds_ns) or not len(start):
        return start, end
    limit = np.iinfo(np.int64)
    bounds = np.concatenate(([limit.min], np.sort(bounds_ns), [limit.max]))
    place = np.searchsorted(bounds, start + (end - start) // 2, side="right")
    clipped_start = np.maximum(start, bounds[place - 1])
    clipped_end = np.minimum(end, bounds[place])
    near = (clipped_start - start <= error_ns) & (end - clipped_end <= error_ns)
    return np.where(near, clipped_start, start), np.where(near, clipped_end, end)


def flat_lanes(start_ns: Ints, end_ns: Ints) -> IntArray:
    """The lane of each slice when none may overlap another at all: lane 0 wherever it is free."""
    order = np.lexsort((end_ns, start_ns))
    starts, ends = start_ns[order], end_ns[order]
    lanes = np.zeros(len(order), np.int64)
    if len(order) and (starts[1:] < np.maximum.accumulate(ends)[:-1]).any():
        free_at: list[int] = []
        for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            lane = next((lane for lane, free in enumerate(free_at) if free <= start), len(free_at))
            free_at[lane : lane + 1] = [end]
            lanes[index] = lane
    result = np.empty(len(order), np.int64)
    result[order] = lanes
    return result
