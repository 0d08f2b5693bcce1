"""What moving bytes costs on this machine, by size: the calibration's samples at their median, fastest or slowest."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache

import msgspec
import numpy as np

from tracekit.analysis.ceilings import Ceilings
from tracekit.model import CeilingRow, Measure


class Level(StrEnum):
    """Which end of the measured spreads is taken, everywhere at once."""

    LOW = "low"
    MIDDLE = "middle"
    HIGH = "high"


class UnknownCost(Exception):  # noqa: N818 - no error: it is what a run cannot tell
    """A cost that this run has no evidence for; the text says which, for people."""


_BRIEF = (Measure.PINNED_H2D, Measure.PAGEABLE_H2D, Measure.PINNED_D2H, Measure.PAGEABLE_D2H)
"""Measured down to sizes at which a copy costs the same whatever it carries."""


class Rates:
    """Times of copies, of page-locking and of cloning by size (ns).

    Beyond the calibrated sizes a duration is in proportion to the size, but for copies below the smallest one: what a
    brief copy costs does not shrink with its bytes.
    """

    def __init__(self, rows: Sequence[CeilingRow], level: Level) -> None:
        self._medians = rows
        self._rows = [msgspec.structs.replace(row, median_ns=_at(row, level)) for row in rows]
        self._ceilings = Ceilings(self._rows)
        self._smallest = {row.measure: row for row in reversed(self._rows)}
        self.ns, self.usual = cache(self._ns), cache(self._usual)

    def has(self, measure: Measure) -> bool:
        """Whether it was measured."""
        return self._ceilings.has(measure)

    def sizes(self, measure: Measure) -> list[int]:
        """The sizes at which it was measured."""
        return [row.size_bytes for row in self._rows if row.measure == measure]

    def _usual(self, measure: Measure) -> float | None:
        """The median at the smallest size, whatever the level; None where it was not measured."""
        return next((row.median_ns for row in self._medians if row.measure == measure), None)

    def _ns(self, measure: Measure, size_bytes: int) -> float:
        """How long it takes for so many bytes.

        Raises:
            UnknownCost: it was not measured.
        """
        if not self.has(measure):
            raise UnknownCost(f"{measure} was not measured in this run (its calibration is missing)")
        smallest = self._smallest[measure]
        if size_bytes <= smallest.size_bytes and measure in _BRIEF:
            return float(smallest.median_ns) if size_bytes else 0.0
        return float(self._ceilings.median_ns(measure, np.array([size_bytes]))[0])


def _at(row: CeilingRow, level: Level) -> int:
    return {Level.LOW: row.min_ns, Level.MIDDLE: row.median_ns, Level.HIGH: row.max_ns}[level]
