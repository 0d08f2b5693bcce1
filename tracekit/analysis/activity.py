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
    collections: Coverage
    """Python's garbage collector, which no hook and no module is to blame for."""
    busy: Coverage
    """Copies or kernels."""
    busy_or_own: Coverage
    """Copies, kernels or tracekit."""

    @classmethod
    def of(cls, timeline: Timeline) -> Activity:
        """The activity of a timeline."""
        start, end = copy_times(timeline.copies)
        is_h2d = (timeline.copies["direction"] == Direction.H2D).to_numpy()
        copies = Coverage.of(start, end)
        kernels = Coverage.of_word(timeline.run.device_ops, "op", "kernel")
        busy = copies | kernels
        kinds = SpanKind.TRACEKIT, SpanKind.GARBAGE
        own, collections = (Coverage.of_word(timeline.spans, "kind", kind) for kind in kinds)
        return cls(Coverage.of(start[is_h2d], end[is_h2d]), copies, kernels, collections, busy, busy | own)

    def splits(self, starts: Times, ends: Times) -> list[Split]:
        """How each window ``[start, end)`` divides."""
        return [_split(row) for row in self._times(starts, ends).tolist()]

    def split(self, windows: Coverage) -> Split:
        """How the time in all the windows together divides."""
        return _split(self._times(windows.starts, windows.ends).sum(axis=0).tolist())

    def _times(self, starts: Times, ends: Times) -> Times:
        """A row a window, with the columns of a `Split`."""
        h2d, copies, kernels, busy, busy_or_own = (
            coverage.within(starts, ends)
            for coverage in (self.h2d, self.copies, self.kernels, self.busy, self.busy_or_own)
        )
        wall = ends - starts
        return np.stack([wall, h2d, copies, busy - kernels, kernels, wall - busy, busy_or_own - busy], axis=1)

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


def _split(times: list[int]) -> Split:
    wall, h2d, copies, exposed, compute, rest, own = times
    return Split(
        wall_ns=wall,
        h2d_ns=h2d,
        copy_ns=copies,
        exposed_copy_ns=exposed,
        compute_ns=compute,
        rest_ns=rest,
        tracekit_ns=own,
    )
