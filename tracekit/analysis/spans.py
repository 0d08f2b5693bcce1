"""What each host span has of its own: its component, its own time, and the device time that it launched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tracekit.analysis.ids import positions
from tracekit.analysis.intervals import Times, grouped_union
from tracekit.analysis.launches import Launches, LaunchFinder
from tracekit.analysis.phases import PHASES, Phases, components
from tracekit.model import NONE, Phase, RunData, SpanKind
from tracekit.model.text import text_column


class SpanTree:
    """Spans by nesting: where each one's parent is, and how deep it lies."""

    def __init__(self, spans: pd.DataFrame) -> None:
        self._start = spans["start_ns"].to_numpy()
        self._end = spans["end_ns"].to_numpy()
        self.parent = positions(spans["span_id"].to_numpy(), spans["parent_id"].to_numpy())
        """Position of the parent's row; -1 where there is none."""
        self._lift(np.flatnonzero((spans["kind"] == SpanKind.GARBAGE).to_numpy()))
        depth = _depths(self.parent)
        thread, self._threads = pd.factorize(spans["thread_id"].to_numpy())
        self._levels = int(depth.max(initial=-1)) + 1
        place = thread * self._levels + depth
        # As narrow as it can be: numbers of 16 bits and less are sorted in one pass.
        place = place.astype(np.min_scalar_type(int(place.max(initial=0))))
        order = np.lexsort((self._start, place))
        place = place[order]
        groups = np.split(order, np.flatnonzero(place[1:] != place[:-1]) + 1)
        self._rows = {(int(thread[rows[0]]), int(depth[rows[0]])): rows for rows in groups if len(rows)}

    def _lift(self, collections: Times) -> None:
        """Let each garbage collection's parent be the innermost of the spans that were open then and lie around it.

        One may begin before the onload or after the offload of the module whose forward was open, which bound that
        forward; or between a span's end and what takes it off the stack.
        """
        lifted = collections
        while len(lifted):
            parent = self.parent[lifted]
            around = (self._start[parent] <= self._start[lifted]) & (self._end[lifted] <= self._end[parent])
            lifted, parent = lifted[(parent >= 0) & ~around], parent[(parent >= 0) & ~around]
            self.parent[lifted] = self.parent[parent]

    def own_ns(self) -> Times:
        """Each span's duration less its children's."""
        own: Times = self._end - self._start
        has_parent = self.parent >= 0
        np.subtract.at(own, self.parent[has_parent], (self._end - self._start)[has_parent])
        return np.maximum(own, np.int64(0))

    def levels(self, times: Times, threads: Times) -> Iterator[tuple[Times, Times]]:
        """For each depth, from the outermost: which moments of threads lie in a span, and in which one (positions).

        Spans of one depth and thread are disjoint, so a moment lies in one of them at most, and only if it lies in that
        one's parent.
        """
        thread = pd.Index(self._threads).get_indexer(threads)
        moments = np.flatnonzero(thread >= 0)
        for depth in range(self._levels):
            moments, spans = self._inside(depth, moments, times, thread)
            if len(moments) == 0:
                return
            yield moments, spans

    def _inside(self, depth: int, moments: Times, times: Times, threads: Times) -> tuple[Times, Times]:
        found = np.full(len(moments), -1, dtype=np.int64)
        for thread in np.unique(threads[moments]).tolist():
            own = self._rows.get((thread, depth))
            if own is None:
                continue
            at = np.flatnonzero(threads[moments] == thread)
            asked = times[moments[at]]
            last = np.searchsorted(self._start[own], asked, side="right") - 1
            hit = (last >= 0) & (asked < self._end[own[last]])
            found[at[hit]] = own[last[hit]]
        return moments[found >= 0], found[found >= 0]

    def innermost(self, times: Times, threads: Times) -> Times:
        """The position of the innermost span in which each moment of a thread lies; -1 where there is none."""
        result = np.full(len(times), -1, dtype=np.int64)
        for moments, spans in self.levels(times, threads):
            result[moments] = spans
        return result

    def device_ns(self, kernels: pd.DataFrame, launches: Launches) -> Times:
        """Time in which at least one kernel launched inside each span ran."""
        total = np.zeros(len(self._start), np.int64)
        ran = np.flatnonzero((kernels["end_ns"] > kernels["start_ns"]).to_numpy())
        start, end = kernels["start_ns"].to_numpy()[ran], kernels["end_ns"].to_numpy()[ran]
        for launched, spans in self.levels(launches.start_ns[ran], launches.thread_id[ran]):
            own, group = np.unique(spans, return_inverse=True)
            total[own] = grouped_union(group.reshape(-1), start[launched], end[launched], len(own))
        return total


def describe_spans(run: RunData, phases: Phases, tree: SpanTree, launches: LaunchFinder) -> pd.DataFrame:
    """The spans table with the columns that `Timeline` documents."""
    spans = run.spans.copy(deep=False)
    start = spans["start_ns"].to_numpy()
    index = phases.runs_at(spans["run_index"].to_numpy(np.int64), start)
    phase = phases.phases_at(index, start)
    # A set-up in another thread may fall into a run's time without being part of it.
    outside = ((spans["run_index"] == NONE) & (spans["kind"] == SpanKind.SETUP)).to_numpy()
    phase[outside] = PHASES.index(Phase.SETUP)
    step = phases.steps_at(index, start)
    step[outside] = NONE
    kernels = run.device_ops.loc[run.device_ops["op"] == "kernel", ["start_ns", "end_ns", "correlation_id"]]
    spans["run_index"] = index
    spans["component"] = components(spans["fqn"])
    spans["own_ns"] = tree.own_ns()
    spans["device_ns"] = tree.device_ns(kernels, launches.find(kernels))
    spans["phase"] = text_column(phase, PHASES)
    spans["step_index"] = step
    return spans


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
