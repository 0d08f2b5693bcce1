"""How many events a thinned trace would hold, counted without laying it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from tracekit.model import Timeline
from tracekit.render.rowtext import Ints
from tracekit.render.selection import Thinning, asked_steps, most_telling, step_windows


class Census:
    """The moments and durations of all that becomes slices and counter samples, in order.

    Arrows, names and what is derived on the way are not counted: they go with the rest, about in proportion.

    Raises:
        UsageError: `only_steps` names no step of this run.
    """

    def __init__(self, timeline: Timeline, only_steps: Sequence[int] | None) -> None:
        self._steps = timeline.steps
        self._whole = only_steps is None
        self._asked = asked_steps(timeline.steps, only_steps)
        starts, lasts = (np.concatenate(columns) for columns in zip(*_events(timeline), strict=True))
        order = np.argsort(starts, kind="stable")
        self._starts, self._lasts = starts[order], lasts[order]
        self.steps = int(self._asked.sum())

    def count(self, thinning: Thinning) -> int:
        """The events that this thinning leaves."""
        starts = self._starts[self._lasts >= thinning.min_ns] if thinning.min_ns else self._starts
        fewer = thinning.most_steps is not None and thinning.most_steps < self.steps
        if self._whole and not fewer:
            return len(starts)
        kept = most_telling(self._steps, self._asked, thinning.most_steps or 0) if fewer else self._asked
        return int(np.diff(np.searchsorted(starts, step_windows(self._steps, kept)), axis=1).sum())


def _events(timeline: Timeline) -> Iterator[tuple[Ints, Ints]]:
    run = timeline.run
    for table in (timeline.spans, timeline.copies, run.runtime_calls, run.frames, run.device_ops):
        start_ns = table["start_ns"].to_numpy(np.int64)
        yield start_ns, table["end_ns"].to_numpy(np.int64) - start_ns
    for _, t_ns in run.counters.groupby(["series", "device_index"], observed=True)["t_ns"]:
        yield _samples(t_ns)


def _samples(t_ns: pd.Series[int]) -> tuple[Ints, Ints]:
    """A sample lasts until the next one of its track."""
    times = np.sort(t_ns.to_numpy(np.int64))
    return times, np.diff(times, append=np.iinfo(np.int64).max)
