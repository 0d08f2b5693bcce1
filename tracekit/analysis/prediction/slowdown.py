"""How much longer the host's work takes where it follows copies that the host itself makes.

The driver stages a copy from pageable memory with the CPU, whose caches hold nothing of the program after it. The
calibration times the call of an offloaded module after copies of several sizes, and those of unlike modules after it,
which find the hooks' code in the caches again, but not their own. So there are two kinds of host work: what modules
that have weights do themselves, their hooks and their own forward, and the code apart from them, between one such
module and the next. Each is taken to slow down by what a mode's modules do to it on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracekit.analysis.prediction.rates import Level
from tracekit.model import CeilingRow, Measure

Factors = tuple[float, float, float]
"""A mode's factor by the calibration's fastest, median and slowest samples."""


class Slower(NamedTuple):
    """How much longer a mode's host work takes than without copies that the host makes."""

    near: Factors
    """Hooks and own forwards of modules that have weights."""
    apart: Factors
    """Everything else."""


UNCHANGED = Slower((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))


class Slowdown:
    """Factors by the bytes copied before the work; 1 for all where the calibration did not measure it."""

    def __init__(self, rows: Sequence[CeilingRow]) -> None:
        self._own, self._following = (_Curves(rows, measure) for measure in (Measure.HOST_WORK, Measure.HOST_WORK_NEXT))
        self.measured = self._own.measured

    def usual(self, staged_bytes: Sequence[float]) -> Slower:
        """Where so many bytes are staged at each module, in the order of their calls."""
        if not self.measured or not staged_bytes:
            return UNCHANGED
        pairs = zip(self._own.factors(staged_bytes), self._following.factors(staged_bytes), strict=True)
        low, middle, high = (_means(own, following) for own, following in pairs)
        return Slower((low[0], middle[0], high[0]), (low[1], middle[1], high[1]))


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


def _means(own: npt.NDArray[np.float64], following: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The modules' mean factors, near and apart: what one staged counts until another stages as much as matters."""
    near, apart, after = [], [], 1.0
    for by_itself, left_behind in zip(own.tolist(), following.tolist(), strict=True):
        near.append(max(by_itself, after))
        if by_itself >= after:
            after = left_behind
        apart.append(after)
    return fmean(near), fmean(apart)


def scale(target: Factors, source: Factors, level: Level) -> float:
    """How much longer work takes in one mode than in another, at one end of what the samples say."""
    ratios = [to / of for to, of in zip(target, source, strict=True)]
    return {Level.LOW: min(ratios), Level.MIDDLE: ratios[1], Level.HIGH: max(ratios)}[level]
