"""The ids and names of a process's tracks: a thread's or stream's own number where viewers can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tracekit.render.rowtext import Ints

_MAX_ID = 2**31 - 1


@dataclass(frozen=True)
class Track:
    """One track of a process, in display order."""

    tid: int
    name: str
    sort_index: int


class TrackIds:
    """Gives every (number, lane, purpose) of one process a tid of its own.

    A number's first lane keeps the number, so that it is found by it; the others, and numbers that viewers cannot
    hold, get free ones above all of them, where old viewers (which sort by tid) show them last.
    """

    def __init__(self, noun: str, pid: int, names: Mapping[int, str] | None = None) -> None:
        """`noun` is what the numbers count; `names` are better words for some of them."""
        self.pid = pid
        self._noun = noun
        self._names = names or {}
        self._tids: dict[tuple[str, int, int], int] = {}

    def threads(self, numbers: Ints, lanes: Ints, purpose: str = "") -> Ints:
        """The tid of each row."""
        numbers, lanes = numbers.astype(np.int64), lanes.astype(np.int64)
        number_codes, distinct = pd.factorize(numbers)
        width = int(lanes.max(initial=0)) + 1
        codes, pairs = pd.factorize(number_codes * width + lanes)
        keys = [(purpose, int(distinct[pair // width]), int(pair % width)) for pair in pairs.tolist()]
        # First lanes claim their own numbers before other lanes take free ones.
        for key in sorted(keys, key=lambda key: (key[2], key[1])):
            if key not in self._tids:
                self._tids[key] = self._free_id(key)
        return np.array([self._tids[key] for key in keys], np.int64)[codes]

    def tracks(self) -> list[Track]:
        """All tracks given so far, main thread first, lanes and other purposes after what they belong to."""
        order = sorted(self._tids, key=lambda key: (key[1] != self.pid, key[1], key[0], key[2]))
        return [Track(self._tids[key], self._title(*key), index) for index, key in enumerate(order)]

    def _free_id(self, key: tuple[str, int, int]) -> int:
        purpose, number, lane = key
        taken = set(self._tids.values())
        if not purpose and not lane and 0 < number <= _MAX_ID and number not in taken:
            return number
        free = max([self.pid, *taken]) + 1
        return free if free <= _MAX_ID else next(tid for tid in range(1, _MAX_ID) if tid not in taken)

    def _title(self, purpose: str, number: int, lane: int) -> str:
        noun = self._names.get(number, self._noun)
        # Perfetto puts the tid behind a track's name: the number is there already when it is the tid.
        if self._tids[purpose, number, lane] != number and number != self.pid:
            noun = f"{noun} {number}"
        title = f"{noun}: {purpose}" if purpose else noun
        return f"{title} (overlapping, lane {lane + 1})" if lane else title
