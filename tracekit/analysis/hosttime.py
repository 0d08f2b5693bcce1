"""What the run's main thread was doing: stretches of host time by cause, the ones that others yield to first."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.intervals import Coverage, Times
from tracekit.analysis.launches import LaunchFinder
from tracekit.model import NONE, Cause, RunData, SpanKind
from tracekit.model.text import codes_and_texts

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

_SPAN_COLUMNS = ["kind", "start_ns", "end_ns"]
_CALL_COLUMNS = ["name", "thread_id", "start_ns", "end_ns", "correlation_id"]


def host_time(run: RunData) -> list[tuple[Cause, Coverage]]:
    """When the main thread was in each kind of work; a moment in several belongs to the first of them.

    tracekit's own work is its spans, and the probes of copies' host memory: each is put before its copy, where all but
    a few microseconds of it are.
    """
    main = _main_threads(run.spans)
    spans, calls = (
        # Only what is needed: on millions of rows, copying frames is the cost.
        rows.loc[np.isin(rows["thread_id"].to_numpy(), main), columns]
        for rows, columns in ((run.spans, _SPAN_COLUMNS), (run.runtime_calls, _CALL_COLUMNS))
    )
    loading = _calls(calls, _LOADING) | _slow_first_launches(run.device_ops, calls)
    return [
        (Cause.TRACEKIT, _spans(spans, SpanKind.TRACEKIT) | _probes(run)),
        (Cause.ALLOCATION, _calls(calls, _ALLOCATION) | _spans(spans, SpanKind.EMPTY_CACHE)),
        (Cause.FIRST_USE, loading),
        (Cause.WAITING, _calls(calls, _WAITING) | _spans(spans, SpanKind.SYNCHRONIZE)),
        (Cause.HOOKS, _spans(spans, SpanKind.ONLOAD, SpanKind.OFFLOAD)),
        (Cause.MODEL, _spans(spans, SpanKind.FORWARD, SpanKind.SCHEDULER)),
    ]


def _main_threads(spans: pd.DataFrame) -> Times:
    """The threads that called the pipeline: those of run spans, or of a killed run's steps and forwards."""
    in_runs = spans.loc[spans["run_index"] != NONE, ["kind", "thread_id"]]
    for kind in (SpanKind.RUN, SpanKind.SCHEDULER, SpanKind.FORWARD):
        own = in_runs.loc[in_runs["kind"] == kind, "thread_id"]
        if len(own):
            return np.asarray(own.unique())
    return np.zeros(0, np.int64)


def _spans(spans: pd.DataFrame, *kinds: SpanKind) -> Coverage:
    codes, texts = codes_and_texts(spans["kind"])
    return _coverage(spans, np.array([text in kinds for text in texts], bool)[codes])


def _probes(run: RunData) -> Coverage:
    """When copies' host memory was probed."""
    samples = run.host_samples.loc[run.host_samples["probe_ns"] > 0, ["copy_id", "probe_ns"]]
    probed = samples.merge(run.copies[["copy_id", "start_ns"]], on="copy_id")
    ends = probed["start_ns"].to_numpy()
    return Coverage.of(ends - probed["probe_ns"].to_numpy(), ends)


def _calls(calls: pd.DataFrame, pattern: re.Pattern[str]) -> Coverage:
    return _coverage(calls, _matches(calls, pattern))


def _coverage(rows: pd.DataFrame, chosen: npt.NDArray[np.bool_]) -> Coverage:
    return Coverage.of(rows["start_ns"].to_numpy()[chosen], rows["end_ns"].to_numpy()[chosen])


def _matches(calls: pd.DataFrame, pattern: re.Pattern[str]) -> npt.NDArray[np.bool_]:
    codes, names = codes_and_texts(calls["name"])
    return np.array([bool(pattern.match(name)) for name in names], bool)[codes]


def _slow_first_launches(ops: pd.DataFrame, calls: pd.DataFrame) -> Coverage:
    """What each kernel's first launch took beyond the median of its later ones, where that is far more.

    A kernel that was launched once is held against all launches.
    """
    kernels = ops.loc[ops["op"] == "kernel", ["name", "start_ns", "end_ns", "correlation_id"]]
    found = LaunchFinder(calls[_matches(calls, _LAUNCH)]).find(kernels)
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
