"""How a stretch of time divides into copies, kernels and neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.intervals import Coverage, Times
from tracekit.model import NONE, Direction, SpanKind, Timeline


class Split(TypedDict):
    """The times of a `StepRow`: wall = exposed_copy + compute + rest."""

    wall_ns: int
    h2d_ns: int
    copy_ns: int
    exposed_copy_ns: int
    compute_ns: int
    rest_ns: int
    tracekit_ns: int


@dataclass(frozen=True)
class Activity:
    """When at least one copy, kernel or piece of tracekit's own work was under way, over the whole timeline."""

    h2d: Coverage
    copies: Coverage
    kernels: Coverage
    busy: Coverage
    """Copies or kernels."""
    busy_or_own: Coverage
    """Copies, kernels or tracekit."""

    @classmethod
    def of(cls, timeline: Timeline) -> Activity:
        """The activity of a timeline."""
        start, end = copy_times(timeline.copies)
        is_h2d = (timeline.copies["direction"] == Direction.H2D).to_numpy()
        ops = timeline.run.device_ops
        kernel = ops[ops["op"] == "kernel"]
        own = timeline.spans[timeline.spans["kind"] == SpanKind.TRACEKIT]
        copies = Coverage.of(start, end)
        kernels = _coverage(kernel)
        busy = copies | kernels
        return cls(Coverage.of(start[is_h2d], end[is_h2d]), copies, kernels, busy, busy | _coverage(own))

    def split(self, windows: Coverage) -> Split:
        """How the time in `windows` divides."""

        def inside(coverage: Coverage) -> int:
            return int(coverage.within(windows.starts, windows.ends).sum())

        busy, kernels = inside(self.busy), inside(self.kernels)
        return Split(
            wall_ns=windows.total,
            h2d_ns=inside(self.h2d),
            copy_ns=inside(self.copies),
            exposed_copy_ns=busy - kernels,
            compute_ns=kernels,
            rest_ns=windows.total - busy,
            tracekit_ns=inside(self.busy_or_own) - busy,
        )

    def exposed_ns(self, copies: pd.DataFrame) -> Times:
        """Each copy's time with no kernel beside it."""
        start, end = copy_times(copies)
        return np.asarray(end - start - self.kernels.within(start, end))


def copy_times(copies: pd.DataFrame) -> tuple[Times, Times]:
    """When each copy ran: on the device where it is known, else its call on the host."""
    known: npt.NDArray[np.bool_] = (copies["device_start_ns"] != NONE).to_numpy()
    start = np.where(known, copies["device_start_ns"], copies["start_ns"])
    end = np.where(known, copies["device_end_ns"], copies["end_ns"])
    return start, end


def _coverage(rows: pd.DataFrame) -> Coverage:
    return Coverage.of(rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy())
