"""What this machine can do at each size, from the brief measurements that came before the runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.intervals import Times
from tracekit.model import CeilingRow, Measure

Nanoseconds = npt.NDArray[np.float64]


def ceiling_rows(calibration: pd.DataFrame) -> list[CeilingRow]:
    """One row for each measure and size: the median of its samples, the fastest and the slowest."""
    grouped = calibration.groupby(["measure", "size_bytes"], observed=True)["duration_ns"]
    rows = grouped.agg(["size", "median", "min", "max"]).reset_index().to_dict("records")
    order = {measure: place for place, measure in enumerate(Measure)}
    return sorted(
        (
            CeilingRow(
                measure=Measure(row["measure"]),
                size_bytes=int(row["size_bytes"]),
                samples=int(row["size"]),
                median_ns=round(row["median"]),
                min_ns=int(row["min"]),
                max_ns=int(row["max"]),
            )
            for row in rows
        ),
        key=lambda row: (order[row.measure], row.size_bytes),
    )


class Ceilings:
    """The time that a size takes at a measure's ceiling, between the sizes that were measured, too."""

    def __init__(self, rows: Sequence[CeilingRow]) -> None:
        self._rows = {measure: [row for row in rows if row.measure == measure] for measure in Measure}

    def has(self, measure: Measure) -> bool:
        """Whether it was measured."""
        return bool(self._rows[measure])

    def median_ns(self, measure: Measure, size_bytes: Times) -> Nanoseconds:
        """How long these sizes usually take; NaN where it was not measured.

        The rate of the medians is interpolated in the logarithm of the size. Below the smallest measured size and above
        the largest, the rate of that size holds.
        """
        return _at_rates(self._rows[measure], size_bytes, [row.median_ns for row in self._rows[measure]])

    def to_device_ns(self, size_bytes: Times) -> Nanoseconds:
        """How long these sizes take to the device at best: pinned, else (the emulated device) pageable; else NaN."""
        best = Measure.PINNED_H2D if self.has(Measure.PINNED_H2D) else Measure.PAGEABLE_H2D
        return self.median_ns(best, size_bytes)

    def fastest_ns(self, measure: Measure, size_bytes: Times) -> Nanoseconds:
        """How long these sizes take at the fastest sample's rate; NaN where it was not measured."""
        return _at_rates(self._rows[measure], size_bytes, [row.min_ns for row in self._rows[measure]])


def _at_rates(rows: Sequence[CeilingRow], size_bytes: Times, times_ns: Sequence[int]) -> Nanoseconds:
    if not rows:
        return np.full(len(size_bytes), np.nan)
    sizes = np.array([row.size_bytes for row in rows], np.float64)
    rates = sizes / np.maximum(np.array(times_ns, np.float64), 1)
    wanted = np.maximum(size_bytes, 1).astype(np.float64)
    return np.asarray(wanted / np.interp(np.log(wanted), np.log(np.maximum(sizes, 1)), rates))
