"""Divide each run into phases and steps, and say which of them a moment belongs to.

A pipeline's steps end where `scheduler.step` ends. The denoiser is every component whose forwards happen between two
such ends, and the one that ran last before the first; the loop begins at its first onload or forward. Each step
begins where the one before ends, so that every moment of the loop has a step. What comes before the loop is encode,
after it decode, and what lies outside any run is set-up. Of a bare module, each outermost call is a step. In a trace
that torch.profiler made, steps are what it marked as such, and the run reaches from the first to the last of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.intervals import Times
from tracekit.model import NONE, Phase, RunData, SpanKind
from tracekit.model.kinetojson import PROFILER_STEP
from tracekit.model.text import codes_and_texts, says, starts_with, text_column

Flags = npt.NDArray[np.bool_]

PHASES = (Phase.SETUP, Phase.ENCODE, Phase.DENOISE, Phase.DECODE)
"""The phases in a run's order: a moment's is how many of the run's bounds it has passed."""

_USUAL_DENOISERS = ("transformer", "unet", "transformer_2", "prior")
"""Components taken for the denoiser where no step has ended that would show it: in a run killed during its first."""

_RUN_COLUMNS = ("run_index", "start_ns", "end_ns", "denoise_start_ns", "denoise_end_ns")
_STEP_COLUMNS = ("run_index", "step_index", "start_ns", "end_ns")


@dataclass(frozen=True)
class Phases:
    """Where runs, their denoising loops and their steps begin and end; frames as `Timeline` documents them."""

    runs: pd.DataFrame
    steps: pd.DataFrame
    denoisers: tuple[str, ...]

    def runs_at(self, run_index: Times, times: Times) -> Times:
        """`run_index`, filled where it is `NONE`: the run going on at that time, else the next one, else the last."""
        if self.runs.empty:
            return run_index
        runs = self.runs.sort_values("start_ns")
        starts, ends = runs["start_ns"].to_numpy(), np.maximum.accumulate(runs["end_ns"].to_numpy())
        begun = np.searchsorted(starts, times, side="right") - 1
        going_on = (begun >= 0) & (times < ends[np.maximum(begun, 0)])
        index = np.minimum(np.where(going_on, begun, begun + 1), len(runs) - 1)
        return np.where(run_index == NONE, runs["run_index"].to_numpy()[index], run_index).astype(np.int64)

    def phases_at(self, run_index: Times, times: Times) -> Times:
        """The phase of moments, each in the run of that index, as a position in `PHASES`."""
        if self.runs.empty:
            return np.zeros(len(times), np.int64)
        index, start, end, loop_start, loop_end = (self.runs[name].to_numpy() for name in _RUN_COLUMNS)
        loop_start, loop_end = (np.where(bound == NONE, end, bound) for bound in (loop_start, loop_end))
        run = np.minimum(np.searchsorted(index, run_index), len(index) - 1)
        inside = (index[run] == run_index) & (times >= start[run]) & (times < end[run])
        return np.where(inside, 1 + (times >= loop_start[run]) + (times >= loop_end[run]), 0)

    def steps_at(self, run_index: Times, times: Times) -> Times:
        """The step of moments, each in the run of that index; `NONE` outside steps."""
        result = np.full(len(times), NONE, dtype=np.int64)
        order = np.argsort(run_index, kind="stable")
        for run in self.steps["run_index"].unique():
            steps = self.steps[self.steps["run_index"] == run]
            low, high = np.searchsorted(run_index, np.array([run, run + 1]), sorter=order)
            own = order[low:high]
            last = np.searchsorted(steps["start_ns"].to_numpy(), times[own], side="right") - 1
            inside = (last >= 0) & (times[own] < steps["end_ns"].to_numpy()[last])
            result[own[inside]] = steps["step_index"].to_numpy()[last[inside]]
        return result


def components(fqn: pd.Series[str]) -> pd.Categorical:
    """The component of each FQN: what comes before its first dot."""
    codes, names = codes_and_texts(fqn)
    return text_column(codes, [name.partition(".")[0] for name in names])


def find_phases(run: RunData, parent: Times) -> Phases:
    """The phases of every run in the folder, also of runs that never ended.

    `parent` is the position of each span's parent, -1 where it has none.
    """
    spans = _Spans.of(run.spans, parent)
    is_bare = list(run.manifest.components.values()) == [run.manifest.pipeline_class]
    in_runs = (spans.run_index != NONE) & ~spans.is_kind(SpanKind.TRACEKIT, SpanKind.GARBAGE)
    runs, steps, denoisers = [], [], []
    for run_index in np.unique(spans.run_index[in_runs]).tolist():
        own = in_runs & (spans.run_index == run_index)
        whole = own & spans.is_kind(SpanKind.RUN)
        # A killed run has no span of its own: its children's extent stands for it.
        extent = whole if whole.any() else own
        start, end = int(spans.start[extent].min()), int(spans.end[extent].max())
        ends = np.sort(spans.end[own & spans.is_kind(SpanKind.SCHEDULER)])
        marks = spans.marked_steps(own)
        if len(ends) == 0 and marks:
            loop, bounds = (start, end), marks
        elif is_bare and len(ends) == 0:
            denoisers += spans.by_first_start(own)
            loop, bounds = (start, end), spans.bare_steps(own)
        else:
            names = _denoisers(spans, own, ends)
            denoisers += names
            loop, bounds = _loop(spans, own & spans.is_of(names), ends, end)
        runs.append((run_index, start, end, *loop))
        steps += [(run_index, index, *bound) for index, bound in enumerate(bounds)]
    return Phases(
        pd.DataFrame(runs, columns=list(_RUN_COLUMNS), dtype=np.int64),
        pd.DataFrame(steps, columns=list(_STEP_COLUMNS), dtype=np.int64),
        tuple(name for name in dict.fromkeys(denoisers) if name),
    )


@dataclass(frozen=True)
class _Spans:
    """Columns of the spans as arrays: of millions of spans even a few columns take long to copy, so none are.

    Methods take and return flags, one a span.
    """

    run_index: Times
    start: Times
    end: Times
    parent: Times
    kind: pd.Series[str]
    component: pd.Series[str]
    is_mark: Flags

    @classmethod
    def of(cls, spans: pd.DataFrame, parent: Times) -> _Spans:
        run_index, start, end = (spans[name].to_numpy() for name in ("run_index", "start_ns", "end_ns"))
        component = pd.Series(components(spans["fqn"]))
        is_mark = (spans["kind"] == SpanKind.ANNOTATION).to_numpy() & starts_with(spans["name"], PROFILER_STEP)
        return cls(run_index, start, end, parent, spans["kind"], component, is_mark)

    def is_kind(self, *kinds: SpanKind) -> Flags:
        return says(self.kind, kinds.__contains__)

    def is_of(self, names: Sequence[str]) -> Flags:
        return says(self.component, names.__contains__)

    def outermost(self, chosen: Flags) -> Times:
        """Positions of those chosen whose parent is not, by start."""
        rows = np.flatnonzero(chosen)
        parent = self.parent[rows]
        rows = rows[(parent < 0) | ~chosen[parent]]
        return rows[np.argsort(self.start[rows], kind="stable")]

    def by_first_start(self, chosen: Flags) -> list[str]:
        """The components of those chosen in the order in which they were first called."""
        codes, names = codes_and_texts(self.component[chosen])
        never = np.iinfo(np.int64).max
        first = np.full(len(names), never)
        np.minimum.at(first, codes, self.start[chosen])
        return [names[code] for code in np.argsort(first, kind="stable").tolist() if first[code] != never]

    def marked_steps(self, chosen: Flags) -> list[tuple[int, int]]:
        """The steps that the program's own torch.profiler marked; of several threads' marks, those that come first."""
        rows = np.flatnonzero(chosen & self.is_mark)
        marks = pd.DataFrame({"start": self.start[rows], "end": self.end[rows]}).sort_values("start", kind="stable")
        apart = marks["start"] >= marks["end"].cummax().shift(fill_value=0)
        return list(marks[apart].itertuples(index=False, name=None))

    def bare_steps(self, chosen: Flags) -> list[tuple[int, int]]:
        """Each outermost call, with the onloads right before it and the offloads right after it."""
        rows = self.outermost(chosen & self.is_kind(SpanKind.FORWARD, SpanKind.ONLOAD, SpanKind.OFFLOAD))
        is_call, is_offload = (self.is_kind(kind)[rows] for kind in (SpanKind.FORWARD, SpanKind.OFFLOAD))
        # An offload belongs to the call before it, an onload to the call after it.
        step: Times = np.cumsum(is_call) - np.where(is_call | is_offload, 1, 0)
        calls = pd.DataFrame({"start": self.start[rows], "end": self.end[rows], "step": step})
        grouped = calls[(step >= 0) & (step < is_call.sum())].groupby("step")
        return list(zip(grouped["start"].min().tolist(), grouped["end"].max().tolist(), strict=True))


def _denoisers(spans: _Spans, own: Flags, step_ends: Times) -> list[str]:
    forwards = own & spans.is_kind(SpanKind.FORWARD)
    if len(step_ends) == 0:
        return [name for name in _USUAL_DENOISERS if (forwards & spans.is_of([name])).any()]
    names = spans.by_first_start(forwards & (spans.start > step_ends[0]) & (spans.start < step_ends[-1]))
    # Wan's first steps may use one transformer and the later ones another; with one step there is only this.
    before = spans.outermost(forwards & (spans.start < step_ends[0]))
    return list(dict.fromkeys([*spans.component.iloc[before[-1:]].tolist(), *names]))


def _loop(
    spans: _Spans, denoiser: Flags, step_ends: Times, run_end: int
) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """The denoising loop, and its steps. After the last step's end it goes on only if the denoiser does, unfinished."""
    begins = spans.start[denoiser & spans.is_kind(SpanKind.FORWARD, SpanKind.ONLOAD)]
    if len(begins) == 0 and len(step_ends) == 0:
        return (NONE, NONE), []
    start = min(int(moments.min()) for moments in (begins, step_ends) if len(moments))
    if len(step_ends) == 0:
        return (start, run_end), []
    bounds = [start, *(int(end) for end in step_ends)]
    end = run_end if len(begins) and begins.max() >= bounds[-1] else bounds[-1]
    return (start, end), list(itertools.pairwise(bounds))
