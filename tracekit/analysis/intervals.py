"""Arithmetic on sets of time intervals: unions, and how much of a window they cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Coverage:
    """The union of half-open intervals, as disjoint ones in order. Times in ns."""

    starts: Times
    ends: Times
    _before: Times
    """Covered time before each interval; one entry more than there are intervals."""

    @classmethod
    def of(cls, starts: Times, ends: Times) -> Coverage:
        """The union of ``[start, end)`` intervals, given in any order; empty ones are left out."""
        keep = ends > starts
        if not keep.all():
            starts, ends = starts[keep], ends[keep]
        if (starts[1:] < starts[:-1]).any():
            order = np.argsort(starts, kind="stable")
            starts, ends = starts[order], ends[order]
        # One thread's or stream's intervals are mostly apart as they are.
        if (starts[1:] <= ends[:-1]).any():
            reach = np.maximum.accumulate(ends)
            first = np.flatnonzero(np.append(True, starts[1:] > reach[:-1]))
            starts, ends = starts[first], reach[np.append(first[1:], len(reach)) - 1]
        before = np.zeros(len(starts) + 1, np.int64)
        np.cumsum(ends - starts, out=before[1:])
        return cls(starts, ends, before)

    @classmethod
    def of_rows(cls, rows: pd.DataFrame, chosen: npt.NDArray[np.bool_]) -> Coverage:
        """The union of the chosen rows' intervals, from start_ns to end_ns."""
        # Positions: rows are mostly few among many.
        places = np.flatnonzero(chosen)
        return cls.of(rows["start_ns"].to_numpy()[places], rows["end_ns"].to_numpy()[places])

    @classmethod
    def of_word(cls, rows: pd.DataFrame, column: str, word: str) -> Coverage:
        """When at least one of the rows that say `word` in that column was under way."""
        return cls.of_rows(rows, (rows[column] == word).to_numpy())

    @property
    def total(self) -> int:
        """Covered time."""
        return int(self._before[-1])

    def __or__(self, other: Coverage) -> Coverage:
        return Coverage.of(np.concatenate([self.starts, other.starts]), np.concatenate([self.ends, other.ends]))

    def within(self, starts: Times, ends: Times) -> Times:
        """Covered time inside each window ``[start, end)``; windows may overlap, an empty one has none."""
        return np.where(ends > starts, self._until(ends) - self._until(starts), 0)

    def _until(self, times: Times) -> Times:
        """Covered time before each moment."""
        if not len(self.starts):
            return np.zeros(len(times), np.int64)
        index = np.searchsorted(self.starts, times, side="right")
        # The last interval that began may still be under way: take off what of it lies after the moment.
        after = np.maximum(self.ends[index - 1] - times, 0)
        return np.asarray(self._before[index] - np.where(index > 0, after, 0))


def grouped_union(groups: Times, starts: Times, ends: Times, group_count: int) -> Times:
    """The length of the union of each group's intervals; `groups` numbers them from 0 to `group_count` - 1.

    Intervals must not be empty.
    """
    if len(groups) == 0:
        return np.zeros(group_count, np.int64)
    order = np.lexsort((starts, groups))
    groups, starts, ends = groups[order], starts[order], ends[order]
    # How far the group's earlier intervals reach, by one running maximum over all groups: a later group's times are
    # lifted above every earlier group's. Ranks stand for times, which lifted would overflow.
    moments, ranks = np.unique(ends, return_inverse=True)
    lifted = np.maximum.accumulate(ranks.reshape(-1) + groups * len(moments))
    reach = moments[lifted - groups * len(moments)]
    begins = starts.copy()
    same = groups[1:] == groups[:-1]
    begins[1:][same] = np.maximum(starts[1:], reach[:-1])[same]
    lengths = np.zeros(group_count, np.int64)
    np.add.at(lengths, groups, np.maximum(ends - begins, 0))
    return lengths
