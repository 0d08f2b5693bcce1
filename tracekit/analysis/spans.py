"""What each host span has of its own: its component, its own time, and the device time that it launched."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tracekit.analysis.intervals import Times, grouped_union
from tracekit.analysis.launches import Launches, find_launches
from tracekit.analysis.phases import Phases, components
from tracekit.model import NONE, Phase, RunData, SpanKind


class SpanTree:
    """Spans by nesting: where each one's parent is, and how deep it lies."""

    def __init__(self, spans: pd.DataFrame) -> None:
        self._start = spans["start_ns"].to_numpy()
        self._end = spans["end_ns"].to_numpy()
        self._thread = spans["thread_id"].to_numpy()
        ids = spans["span_id"].to_numpy()
        self.parent = _positions(ids, spans["parent_id"].to_numpy())
        """Position of the parent's row; -1 where there is none."""
        self.depth = _depths(self.parent)

    def own_ns(self) -> Times:
        """Each span's duration less its children's."""
        own: Times = self._end - self._start
        has_parent = self.parent >= 0
        np.subtract.at(own, self.parent[has_parent], (self._end - self._start)[has_parent])
        return np.maximum(own, np.int64(0))

    def inside(self, depth: int, times: Times, threads: Times) -> Times:
        """The position of the span of that depth in which each moment of a thread lies; -1 where there is none."""
        result = np.full(len(times), -1, dtype=np.int64)
        rows = np.flatnonzero(self.depth == depth)
        rows = rows[np.argsort(self._start[rows], kind="stable")]
        for thread in np.unique(self._thread[rows]):
            own = rows[self._thread[rows] == thread]
            at = np.flatnonzero(threads == thread)
            last = np.searchsorted(self._start[own], times[at], side="right") - 1
            hit = (last >= 0) & (times[at] < self._end[own[last]])
            result[at[hit]] = own[last[hit]]
        return result

    def innermost(self, times: Times, threads: Times) -> Times:
        """The position of the innermost span in which each moment of a thread lies; -1 where there is none."""
        result = np.full(len(times), -1, dtype=np.int64)
        for depth in range(int(self.depth.max(initial=-1)) + 1):
            found = self.inside(depth, times, threads)
            result = np.where(found >= 0, found, result)
        return result

    def device_ns(self, kernels: pd.DataFrame, launches: Launches) -> Times:
        """Time in which at least one kernel launched inside each span ran.

        Spans of one depth and thread are disjoint, so at each depth a kernel belongs to one span at most.
        """
        total = np.zeros(len(self._start), np.int64)
        ran = np.flatnonzero((kernels["end_ns"] > kernels["start_ns"]).to_numpy())
        start, end = kernels["start_ns"].to_numpy()[ran], kernels["end_ns"].to_numpy()[ran]
        times, threads = launches.start_ns[ran], launches.thread_id[ran]
        for depth in range(int(self.depth.max(initial=-1)) + 1):
            span = self.inside(depth, times, threads)
            hit = span >= 0
            if hit.any():
                total += grouped_union(span[hit], start[hit], end[hit], len(total))
        return total


def describe_spans(run: RunData, phases: Phases, tree: SpanTree) -> pd.DataFrame:
    """The spans table with the columns that `Timeline` documents."""
    spans = run.spans
    start = spans["start_ns"].to_numpy()
    index = phases.runs_at(spans["run_index"].to_numpy(np.int64), start)
    phase = phases.phases_at(index, start)
    # A set-up in another thread may fall into a run's time without being part of it.
    outside = ((spans["run_index"] == NONE) & (spans["kind"] == SpanKind.SETUP)).to_numpy()
    phase[outside] = str(Phase.SETUP)
    step = phases.steps_at(index, start)
    step[outside] = NONE
    kernels = run.device_ops[run.device_ops["op"] == "kernel"]
    return spans.assign(
        run_index=index,
        component=components(spans["fqn"]),
        own_ns=tree.own_ns(),
        device_ns=tree.device_ns(kernels, find_launches(run, kernels)),
        phase=phase,
        step_index=step,
    )


def _positions(ids: Times, wanted: Times) -> Times:
    """Where each wanted id is among unsorted unique ids; -1 where it is not."""
    order = np.argsort(ids, kind="stable")
    if len(order) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    at = order[np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)]
    return np.where(ids[at] == wanted, at, -1)


def _depths(parent: Times) -> Times:
    """How many ancestors each row has, by pointer doubling: a chain of any length takes its logarithm of rounds."""
    ancestor = parent.copy()
    depth = (parent >= 0).astype(np.int64)
    while (ancestor >= 0).any():
        rows = np.flatnonzero(ancestor >= 0)
        jump = ancestor[rows]
        depth[rows] += depth[jump]
        ancestor[rows] = ancestor[jump]
    return depth
