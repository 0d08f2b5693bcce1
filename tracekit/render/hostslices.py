"""The host's slices by kind: runs, phases, steps, components, spans, copies, runtime calls.

The timeline's tables are indexed by position, which is each slice's `row`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tracekit.model import NONE, HostMemory, Phase, SpanKind, Timeline
from tracekit.model.kinetojson import KINDS_IN_NAMES, PROFILER_STEP
from tracekit.model.text import codes_and_texts, concat_rows, row_numbers, rows_by, same_text, starts_with, text_column
from tracekit.render.jsontext import Member, Words
from tracekit.render.rowtext import Ints
from tracekit.render.selection import Gap, Selection
from tracekit.render.slices import Slices
from tracekit.units import gb_per_s_column

STEP_CATEGORY = "user_annotation"
"""Kineto's category of a ProfilerStep, by which other tools find steps."""

_SPAN_COLUMNS = (
    "kind", "name", "fqn", "component", "phase", "note", "thread_id", "parent_id", "run_index", "step_index",
    "start_ns", "end_ns", "own_ns", "device_ns",
)  # fmt: skip
_COPY_COLUMNS = (
    "copy_id", "direction", "fqn", "parameter", "host_memory", "operation", "phase", "file_path", "file_offset",
    "thread_id", "run_index", "step_index", "start_ns", "end_ns", "duration_ns", "size_bytes", "correlation_id",
    "first", "is_weight",
)  # fmt: skip
_ASIDE = (SpanKind.EMPTY_CACHE, SpanKind.SYNCHRONIZE, SpanKind.TRACEKIT, SpanKind.GARBAGE)
_COMPONENT_KINDS = (SpanKind.FORWARD, SpanKind.ONLOAD, SpanKind.OFFLOAD)


def run_rows(timeline: Timeline) -> pd.DataFrame:
    """One row a run span, and one for each run that was cut off before its span ended, which has the note."""
    spans = timeline.spans
    columns = ["run_index", "thread_id", "start_ns", "end_ns", "name", "note"]
    ended = spans.loc[spans["kind"] == SpanKind.RUN, columns].sort_values("start_ns")
    cut = timeline.runs[~timeline.runs["run_index"].isin(ended["run_index"])]
    called = spans.loc[spans["phase"] != Phase.SETUP, ["run_index", "thread_id"]].drop_duplicates("run_index")
    threads = called.set_index("run_index")["thread_id"]
    cut = cut.assign(
        thread_id=cut["run_index"].map(threads).fillna(timeline.run.manifest.process_id).astype(np.int64),
        name=same_text(timeline.run.manifest.pipeline_class, len(cut)),
        note=same_text("" if timeline.run.manifest.complete else "cut off: the process ended in it", len(cut)),
    )
    return concat_rows([ended, cut])


def run_slices(timeline: Timeline, runs: pd.DataFrame) -> Slices:
    """One slice a run."""
    manifest = timeline.run.manifest
    args = [
        Member("workload", Words.same(manifest.workload, len(runs))),
        Member("mode", Words.same(manifest.offload.mode, len(runs))),
        Member("note", Words.of(runs["note"])),
        Member("run_index", _column(runs, "run_index")),
    ]
    return _slices(runs, "run", Words.of(runs["name"]), args)


def step_slices(timeline: Timeline, runs: pd.DataFrame) -> Slices:
    """One slice a step, named as torch.profiler names them: ``ProfilerStep#N``, N counting on from run to run."""
    steps = timeline.steps.sort_values(["run_index", "step_index"])
    threads = runs.drop_duplicates("run_index").set_index("run_index")["thread_id"]
    steps = steps.assign(thread_id=threads.reindex(steps["run_index"]).to_numpy())
    count = steps.groupby("run_index")["step_index"].transform("size") if len(steps) else steps["step_index"]
    place = [f"step {step + 1} of {most}" for step, most in zip(steps["step_index"], count, strict=True)]
    args = [
        Member("step", Words.of(place)),
        Member("run_index", _column(steps, "run_index")),
        Member("step_index", _column(steps, "step_index")),
    ]
    return _slices(steps, STEP_CATEGORY, Words.of([f"{PROFILER_STEP}{number}" for number in range(len(steps))]), args)


def phase_slices(timeline: Timeline, runs: pd.DataFrame) -> Slices:
    """What of a run lies before its denoising loop and after it: encode and decode."""
    loops = timeline.runs[timeline.runs["denoise_start_ns"] != NONE].set_index("run_index")
    loops = runs.drop_duplicates("run_index").join(loops[["denoise_start_ns", "denoise_end_ns"]], "run_index", "inner")
    encode = loops.assign(end_ns=loops["denoise_start_ns"], name=same_text(Phase.ENCODE, len(loops)))
    decode = loops.assign(start_ns=loops["denoise_end_ns"], name=same_text(Phase.DECODE, len(loops)))
    phases = concat_rows([encode, decode])
    phases = phases[phases["end_ns"] > phases["start_ns"]]
    return _slices(phases, "phase", Words.of(phases["name"]), [Member("run_index", _column(phases, "run_index"))])


def component_slices(timeline: Timeline) -> Slices:
    """One slice for each stretch of a step or phase in which only one component is called."""
    spans = timeline.spans
    of_runs = ((spans["kind"] != SpanKind.RUN) & (spans["phase"] != Phase.SETUP)).to_numpy()
    inside = np.isin(_column(spans, "parent_id"), _column(spans, "span_id")[of_runs])
    # Anything else that the run calls ends the stretch, but what it does not ask for, its own waiting and tracekit's
    # work do not.
    aside = spans["kind"].isin(_ASIDE).to_numpy()
    kept = np.flatnonzero(of_runs & ~inside & ~aside)
    outermost = rows_by(spans, kept, ("thread_id", "start_ns", "span_id"), _SPAN_COLUMNS)
    named = (outermost["kind"].isin(_COMPONENT_KINDS) & (outermost["component"] != "")).to_numpy()
    place = row_numbers(outermost[["component", "thread_id", "run_index", "phase", "step_index"]].assign(named=named))
    begins = np.flatnonzero(np.diff(place, prepend=NONE))
    ends = np.maximum.reduceat(_column(outermost, "end_ns"), begins) if len(begins) else begins
    frame = outermost.iloc[begins].assign(end_ns=ends)[named[begins]]
    component, classes = Words.of(frame["component"]), timeline.run.manifest.components
    args = [Member("class", component.map(lambda name: classes.get(name, ""))), *context_members(frame)]
    return _slices(frame, "component", component, args)


def span_slices(timeline: Timeline, selection: Selection) -> Slices:
    """Every span in the kept windows but the runs, and steps that a program marked, which are steps here, too.

    A forward is named by its path below its caller, the others by what they do.
    """
    spans = timeline.spans
    is_step = (spans["kind"] == SpanKind.ANNOTATION).to_numpy() & starts_with(spans["name"], PROFILER_STEP)
    in_window = selection.keeps(_column(spans, "start_ns"))
    kept = np.flatnonzero((spans["kind"] != SpanKind.RUN).to_numpy() & ~is_step & in_window)
    spans = rows_by(spans, kept, ("start_ns", "span_id"), _SPAN_COLUMNS)
    is_forward = (spans["kind"] == SpanKind.FORWARD).to_numpy()
    args = [
        Member("fqn", Words.of(spans["fqn"])),
        Member("class", Words.of(spans["name"]).where(is_forward)),
        Member("note", Words.of(spans["note"])),
        Member("own_ns", np.where(is_forward, _column(spans, "own_ns"), NONE)),
        Member("device_ns", np.where(is_forward, _column(spans, "device_ns"), NONE)),
        *context_members(spans),
    ]
    return _slices(spans, Words.of(spans["kind"]), _span_names(spans, timeline.spans), args)


def copy_slices(timeline: Timeline, selection: Selection, launched_elsewhere: Ints) -> Slices:
    """The call of every copy in the kept windows on the host, as long as the host was in it.

    A copy carries its correlation id only where no runtime call does (`launched_elsewhere`): one id has one launcher.
    """
    copies = timeline.copies
    kept = np.flatnonzero((copies["copy_id"] != NONE).to_numpy() & selection.keeps(_column(copies, "start_ns")))
    copies = rows_by(copies, kept, ("start_ns", "copy_id"), _COPY_COLUMNS)
    correlation = _column(copies, "correlation_id")
    what = copies[["direction", "fqn", "parameter"]].assign(fqn=copies["fqn"] != "")
    args = [
        Member("bytes", _column(copies, "size_bytes")),
        Member("GB/s", gb_per_s_column(_column(copies, "size_bytes"), _column(copies, "duration_ns"))),
        *copy_members(timeline, copies),
        Member("file", Words.of(copies["file_path"])),
        Member("file_offset", _column(copies, "file_offset")),
        Member("correlation", np.where(np.isin(correlation, launched_elsewhere), NONE, correlation)),
    ]
    return _slices(copies, "copy", Words.each(what, _copy_name), args)


def copy_members(timeline: Timeline, copies: pd.DataFrame) -> list[Member]:
    """What is known of a copy, beside its size and speed."""
    samples = timeline.run.host_samples.drop_duplicates("copy_id").set_index("copy_id").reindex(copies["copy_id"])
    resident = samples["resident_before"].to_numpy(np.float64)
    read = samples["read_bytes"].fillna(NONE).to_numpy(np.int64)
    # Page-locked memory cannot leave memory: nobody needs to look.
    sampled = ~np.isnan(resident) | (read != NONE) | (copies["host_memory"] == HostMemory.PINNED).to_numpy()
    paged = (resident < 1) | (read > 0)
    first = copies["first"].to_numpy(np.bool_)
    is_weight = copies["is_weight"].to_numpy(np.bool_)
    # One word for each case: first and paged may both hold, and without a sample nobody knows whether it paged.
    states = ("first", "first and paged", "not first", "paged", "warm")
    state = np.select([first & paged, first, paged, sampled], [1, 0, 3, 4], 2)
    return [
        Member("direction", Words.of(copies["direction"])),
        Member("host_memory", Words.of(copies["host_memory"])),
        Member("fqn", Words.of(copies["fqn"])),
        Member("parameter", Words.of(copies["parameter"])),
        Member("cold_or_warm", Words(np.where(is_weight, state, -1).astype(np.int32), states)),
        Member("resident_before", resident),
        Member("read_bytes", read),
        Member("operation", Words.of(copies["operation"])),
        *context_members(copies),
    ]


def runtime_slices(timeline: Timeline) -> Slices:
    """Calls into the CUDA runtime and driver."""
    calls = timeline.run.runtime_calls
    calls = rows_by(calls, np.arange(len(calls)), ("start_ns",), list(calls.columns))
    args = [Member("correlation", _column(calls, "correlation_id"))]
    return _slices(calls, "cuda_runtime", Words.of(calls["name"]), args)


def frame_slices(timeline: Timeline) -> Slices:
    """Python function calls."""
    frames = timeline.run.frames
    frames = rows_by(frames, np.arange(len(frames)), ("start_ns",), list(frames.columns))
    return _slices(frames, "python_function", Words.of(frames["name"]), ())


def gap_slices(gaps: Sequence[Gap], runs: pd.DataFrame) -> Slices:
    """What was left out of a run, as slices that say so."""
    threads = dict(zip(runs["run_index"], runs["thread_id"], strict=True))
    rows = [(threads[gap.run_index], gap.start_ns, gap.end_ns) for gap in gaps]
    frame = pd.DataFrame(rows, columns=["thread_id", "start_ns", "end_ns"])
    return _slices(frame, "left_out", Words.of(gap.text for gap in gaps), ())


def context_members(rows: pd.DataFrame) -> list[Member]:
    """Where in the pipeline's life a row belongs."""
    return [
        Member("phase", Words.of(rows["phase"])),
        Member("run_index", _column(rows, "run_index")),
        Member("step_index", _column(rows, "step_index")),
    ]


def _span_names(spans: pd.DataFrame, every_span: pd.DataFrame) -> Words:
    """Readable in a narrow slice: where the path leaves that of the forward around it, and the class."""
    codes, fqns = codes_and_texts(every_span["fqn"])
    is_forward = (every_span["kind"] == SpanKind.FORWARD).to_numpy()
    by_id = pd.Series(codes[is_forward], index=every_span["span_id"].to_numpy()[is_forward])
    # The last text, at -1, stands for no forward around it.
    around = text_column(by_id.reindex(spans["parent_id"], fill_value=-1).to_numpy(), [*fqns, ""])
    return Words.each(spans[["kind", "name", "fqn"]].assign(around=around), _span_name)


def _copy_name(direction: str, is_weight: bool, parameter: str) -> str:
    return f"{direction} {parameter if is_weight else 'not a weight'}"


def _span_name(kind: str, name: str, fqn: str, around: str) -> str:
    path = _path_from(around, fqn)
    if kind == SpanKind.FORWARD:
        return f"{path}: {name}" if path else name
    if kind in (SpanKind.ONLOAD, SpanKind.OFFLOAD):
        return f"{kind} {path}".rstrip()
    return f"{kind}: {name}" if kind in KINDS_IN_NAMES else name


def _path_from(around: str, fqn: str) -> str:
    """The path without the modules that it shares with `around`, but never a bare number."""
    parts = fqn.split(".")
    shared = 0
    for own, other in zip(parts[:-1], around.split("."), strict=False):
        if own != other:
            break
        shared += 1
    # A list's item says little without the list.
    first = shared - 1 if shared and parts[shared].isdecimal() else shared
    return ".".join(parts[first:])


def _slices(rows: pd.DataFrame, categories: Words | str, names: Words, args: Sequence[Member]) -> Slices:
    return Slices(
        rows.index.to_numpy(np.int64),
        _column(rows, "thread_id"),
        _column(rows, "start_ns"),
        _column(rows, "end_ns"),
        categories if isinstance(categories, Words) else Words.same(categories, len(rows)),
        names,
        args,
    )


def _column(rows: pd.DataFrame, name: str) -> Ints:
    return rows[name].to_numpy(np.int64)
