"""What the run's main thread was doing: stretches of host time by cause, the ones that others yield to first."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.ids import positions
from tracekit.analysis.intervals import Coverage, Times
from tracekit.analysis.launches import LaunchFinder
from tracekit.model import NONE, Cause, RunData, SpanKind
from tracekit.model.text import codes_and_texts, says

_ALLOCATION = re.compile(
    r"cuda(Malloc|Free|Host(Alloc|Register|Unregister))"
    r"|cuMem(Alloc|Free|Create|Release|Map|Unmap|SetAccess|Address|Host)|emulated (malloc|free)"
)
"""Runtime and driver calls that get memory or give it back, page-locking and torch's expandable segments among them."""
_LOADING = re.compile(r"cu(Module|Library|Kernel)(Load|Get)|cudaFuncGetAttributes|cudaLibraryLoad|cudaGetKernel")
"""Calls that load kernels, or ask for one that may have to be loaded."""
_WAITING = re.compile(r"cu(da)?(Device|Stream|Event|Ctx)Synchronize")
_LAUNCH = re.compile(r"cu(da)?Launch")

_SLOW_LAUNCH = 10
_SLOW_LAUNCH_NS = 100_000
"""A kernel's first launch loaded it when it took this many times, and this much longer than, its later ones."""


def host_time(run: RunData) -> list[tuple[Cause, Coverage]]:
    """When the main thread was in each kind of work; a moment in several belongs to the first of them.

    tracekit's own work is its spans, and the probes of copies' host memory: each is put before its copy, where all but
    a few microseconds of it are.
    """
    threads = _main_threads(run.spans)
    on_main, called_on_main = (
        np.isin(rows["thread_id"].to_numpy(), threads) for rows in (run.spans, run.runtime_calls)
    )

    def spans(*kinds: SpanKind) -> Coverage:
        return Coverage.of_rows(run.spans, on_main & says(run.spans["kind"], kinds.__contains__))

    def calls(pattern: re.Pattern[str]) -> Coverage:
        return Coverage.of_rows(run.runtime_calls, called_on_main & _matches(run.runtime_calls, pattern))

    loading = calls(_LOADING) | _slow_first_launches(run, called_on_main)
    return [
        (Cause.TRACEKIT, spans(SpanKind.TRACEKIT) | _probes(run)),
        (Cause.ALLOCATION, calls(_ALLOCATION) | spans(SpanKind.EMPTY_CACHE)),
        (Cause.FIRST_USE, loading),
        (Cause.WAITING, calls(_WAITING) | spans(SpanKind.SYNCHRONIZE)),
        # On whichever thread: it holds the interpreter's lock, so that the main thread's Python waits for it.
        (Cause.GARBAGE, Coverage.of_word(run.spans, "kind", SpanKind.GARBAGE)),
        (Cause.HOOKS, spans(SpanKind.ONLOAD, SpanKind.OFFLOAD)),
        (Cause.MODEL, spans(SpanKind.FORWARD, SpanKind.SCHEDULER)),
    ]


def _main_threads(spans: pd.DataFrame) -> Times:
    """The threads that called the pipeline: those of run spans, or of a killed run's steps and forwards."""
    in_runs = (spans["run_index"] != NONE).to_numpy()
    for kind in (SpanKind.RUN, SpanKind.SCHEDULER, SpanKind.FORWARD):
        own = spans["thread_id"].to_numpy()[in_runs & (spans["kind"] == kind).to_numpy()]
        if len(own):
            return np.unique(own)
    return np.zeros(0, np.int64)


def _probes(run: RunData) -> Coverage:
    """When copies' host memory was probed."""
    took = run.host_samples["probe_ns"].to_numpy()
    probed = positions(run.copies["copy_id"].to_numpy(), run.host_samples["copy_id"].to_numpy())
    known = (took > 0) & (probed != NONE)
    ends = run.copies["start_ns"].to_numpy()[probed[known]]
    return Coverage.of(ends - took[known], ends)


def _matches(calls: pd.DataFrame, pattern: re.Pattern[str]) -> npt.NDArray[np.bool_]:
    return says(calls["name"], lambda name: pattern.match(name) is not None)


def _slow_first_launches(run: RunData, on_main: npt.NDArray[np.bool_]) -> Coverage:
    """What each kernel's first launch took beyond the median of its later ones, where that is far more.

    A kernel that was launched once is held against all launches.
    """
    ops, calls = run.device_ops, run.runtime_calls
    kernels = ops.loc[ops["op"] == "kernel", ["name", "start_ns", "end_ns", "correlation_id"]]
    found = LaunchFinder(calls, on_main & _matches(calls, _LAUNCH)).find(kernels)
    known = np.flatnonzero(found.row != NONE)
    starts, took = found.start_ns[known], (found.end_ns - found.start_ns)[known]
    if len(known) == 0:
        return Coverage.of(starts, starts)
    frame = pd.DataFrame({"name": codes_and_texts(kernels["name"])[0][known], "took": took, "start": starts})
    frame = frame.sort_values(["start", "name", "took"], kind="stable")
    again = frame["name"].duplicated()
    first = frame[~again]
    usual: Any = frame[again].groupby("name")["took"].median().reindex(first["name"]).fillna(float(np.median(took)))
    start, long, usual = first["start"].to_numpy(), first["took"].to_numpy(), usual.to_numpy()
    slow = long > np.maximum(_SLOW_LAUNCH * usual, usual + _SLOW_LAUNCH_NS)
    return Coverage.of(start[slow], start[slow] + (long[slow] - usual[slow]).astype(np.int64))
