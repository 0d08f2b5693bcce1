"""How much longer the host's work takes where it follows copies that the host itself makes.

The driver stages a copy from pageable memory with the CPU, whose caches hold nothing of the program after it. The
calibration times the call of an offloaded module after copies of several sizes, and those of unlike modules after that,
which find the hooks' code in the caches again, but not their own. A mode's host work is taken to slow down by what its
modules do on average: one that stages bytes as the first, one that stages none, or few, as those that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

from tracekit.analysis.prediction.rates import Level
from tracekit.model import CeilingRow, Measure

Factors = tuple[float, float, float]
"""A mode's factor by the calibration's fastest, median and slowest samples."""


class Slowdown:
    """Factors by the bytes copied before the work; 1 for all where the calibration did not measure it."""

    def __init__(self, rows: Sequence[CeilingRow]) -> None:
        self._own, self._following = (_Curves(rows, measure) for measure in (Measure.HOST_WORK, Measure.HOST_WORK_NEXT))
        self.measured = self._own.measured

    def usual(self, staged_bytes: Sequence[float]) -> Factors:
        """Where so many bytes are staged at each module, in the order of their calls."""
        if not self.measured or not staged_bytes:
            return 1.0, 1.0, 1.0
        pairs = zip(self._own.factors(staged_bytes), self._following.factors(staged_bytes), strict=True)
        low, middle, high = (_mean(own, following) for own, following in pairs)
        return low, middle, high


class _Curves:
    """One measure's factors by size: by its fastest, median and slowest samples."""

    def __init__(self, rows: Sequence[CeilingRow], measure: Measure) -> None:
        own = sorted((row for row in rows if row.measure is measure), key=lambda row: row.size_bytes)
        self.measured = bool(own) and own[0].size_bytes == 0
        self._sizes, self._levels = [0], [[1.0], [1.0], [1.0]]
        if self.measured:
            alone, *after = own
            self._sizes += [row.size_bytes for row in after]
            for level, name in zip(self._levels, ("min_ns", "median_ns", "max_ns"), strict=True):
                level += [max(getattr(row, name) / max(alone.median_ns, 1), 1.0) for row in after]

    def factors(self, staged_bytes: Sequence[float]) -> list[npt.NDArray[np.float64]]:
        """Each level's factor after so many bytes."""
        return [np.interp(staged_bytes, self._sizes, level) for level in self._levels]


def _mean(own: npt.NDArray[np.float64], following: npt.NDArray[np.float64]) -> float:
    """The modules' mean factor: what a module staged counts for those after it until one stages as much as matters."""
    factors, after = [], 1.0
    for by_itself, left_behind in zip(own.tolist(), following.tolist(), strict=True):
        if by_itself >= after:
            after = left_behind
            factors.append(by_itself)
        else:
            factors.append(after)
    return fmean(factors)


def scale(target: Factors, source: Factors, level: Level) -> float:
    """How much longer work takes in one mode than in another, at one end of what the samples say."""
    ratios = [to / of for to, of in zip(target, source, strict=True)]
    return {Level.LOW: min(ratios), Level.MIDDLE: ratios[1], Level.HIGH: max(ratios)}[level]
