"""How much faster and slower than usual the same work goes on a machine, as far as one run can tell."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, geometric_mean

from tracekit.analysis.drift import LEAST_BYTES
from tracekit.model import CeilingRow, Measure

Band = tuple[float, float]
"""The fastest and the slowest, against what is usual."""


def band(sums: Sequence[float], usual: Sequence[float]) -> Band:
    """The least and the largest of a sum over the warm steps, against its mean over the usual ones."""
    middle = fmean(usual) if usual else 0.0
    return (min(sums) / middle, max(sums) / middle) if middle > 0 else (1.0, 1.0)


def spread(rows: Sequence[CeilingRow], measure: Measure) -> Band:
    """How far the calibration's samples of the same work lie from their median.

    Minutes apart a machine is as unlike itself as its cores are, or its seconds: what the calibration saw of that is
    the only thing that one run can tell. The geometric mean over sizes, as of one that is alone few samples tell much.
    """
    counted = [row for row in rows if row.measure is measure and _says_of_machine(row) and row.median_ns]
    if not counted:
        return 1.0, 1.0
    low, high = (
        geometric_mean(max(getattr(row, name), 1) / row.median_ns for row in counted) for name in ("min_ns", "max_ns")
    )
    return low, high


def _says_of_machine(row: CeilingRow) -> bool:
    """Not of a small copy: it takes what its call takes."""
    return row.measure is Measure.CODE_BETWEEN_ALONE or row.size_bytes >= LEAST_BYTES


def wider(one: Band, other: Band) -> Band:
    """From the lower of two beginnings to the higher of two ends."""
    return min(one[0], other[0]), max(one[1], other[1])
