"""How much longer the host's work takes where it follows copies that the host itself makes.

The driver stages a copy from pageable memory with the CPU, whose caches hold nothing of the program after it. The
calibration times one piece of host work after copies of several sizes; a mode's host work is taken to slow down as that
does after what is staged at a module on average. On average, since the caches are the neighbours', too: a norm with a
few bytes of weights runs after what the layer before it staged.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from tracekit.analysis.prediction.rates import Level
from tracekit.model import CeilingRow, Measure

Factors = tuple[float, float, float]
"""A mode's factor by the calibration's fastest, median and slowest samples."""


class Slowdown:
    """Factors by the bytes copied before the work; 1 for all where the calibration did not measure it."""

    def __init__(self, rows: Sequence[CeilingRow]) -> None:
        own = sorted((row for row in rows if row.measure is Measure.HOST_WORK), key=lambda row: row.size_bytes)
        self.measured = bool(own) and own[0].size_bytes == 0
        if not self.measured:
            return
        self._sizes = [row.size_bytes for row in own]
        alone = max(own[0].median_ns, 1)
        self._factors = [
            [1.0, *(max(time / alone, 1.0) for time in times)]
            for times in (
                [row.min_ns for row in own[1:]],
                [row.median_ns for row in own[1:]],
                [row.max_ns for row in own[1:]],
            )
        ]

    def usual(self, staged_bytes: Sequence[float]) -> Factors:
        """Where so many bytes are staged at each module."""
        if not self.measured or not staged_bytes:
            return 1.0, 1.0, 1.0
        mean = fmean(staged_bytes)
        low, middle, high = (float(np.interp(mean, self._sizes, factors)) for factors in self._factors)
        return low, middle, high


def scale(target: Factors, source: Factors, level: Level) -> float:
    """How much longer work takes in one mode than in another, at one end of what the samples say."""
    ratios = [to / of for to, of in zip(target, source, strict=True)]
    return {Level.LOW: min(ratios), Level.MIDDLE: ratios[1], Level.HIGH: max(ratios)}[level]
