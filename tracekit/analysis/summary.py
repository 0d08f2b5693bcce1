"""Sum a timeline up: steps, phases, cold against warm, modules, and the verdict on them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tracekit.analysis.activity import Activity
from tracekit.analysis.causes import CauseFinder
from tracekit.analysis.ceilings import Ceilings, ceiling_rows
from tracekit.analysis.coldwarm import cold_warm, transfer_rows
from tracekit.analysis.copycosts import CopyCosts
from tracekit.analysis.hostevidence import HostEvidence
from tracekit.analysis.hostspeed import host_python_ns, unsteady_host
from tracekit.analysis.intervals import Coverage
from tracekit.analysis.memoryholders import out_of_memory
from tracekit.analysis.modules import module_rows
from tracekit.analysis.paging import paging_evidence
from tracekit.analysis.phases import PHASES
from tracekit.analysis.trust import trust_warnings
from tracekit.analysis.verdict import verdict
from tracekit.model import (
    NONE,
    Direction,
    HostMemory,
    Measure,
    Phase,
    PhaseRow,
    RunData,
    SpanKind,
    StepRow,
    Summary,
    Timeline,
)
from tracekit.model.text import row_numbers


def summarize(timeline: Timeline) -> Summary:
    """The summary of a run folder, its verdict included; its advice comes from tracekit.analysis.findings."""
    run, copies = timeline.run, timeline.copies
    manifest = run.manifest
    activity = timeline.once(Activity.of)
    h2d = copies.loc[copies["direction"] == Direction.H2D, ["size_bytes", "host_memory"]]
    measured = ceiling_rows(run.calibration)
    ceilings = Ceilings(measured)
    steps = _step_rows(timeline, activity, ceilings)
    windows = phase_windows(timeline)
    phases = _phase_rows(timeline, activity, windows)
    evidence = timeline.once(HostEvidence.of_timeline)
    transfers = transfer_rows(timeline, evidence, ceilings)
    paging = paging_evidence(timeline, evidence)
    costs = CopyCosts.of(timeline, evidence, ceilings)
    causes = CauseFinder(timeline, costs, pinned_ceiling=ceilings.has(Measure.PINNED_H2D))
    summary = Summary(
        path=run.path,
        workload=manifest.workload,
        pipeline_class=manifest.pipeline_class,
        mode=manifest.offload.mode,
        device_name=manifest.device.name,
        emulated=manifest.device.kind == "emulated",
        activity=manifest.activity,
        complete=manifest.complete,
        incomplete_reason=manifest.incomplete_reason,
        verdict="",
        denoisers=list(timeline.denoisers),
        total_ns=int(run.spans["end_ns"].max() - run.spans["start_ns"].min()) if len(run.spans) else 0,
        setup_ns=sum(row.wall_ns for row in phases if row.phase == Phase.SETUP),
        h2d_bytes=int(h2d["size_bytes"].sum()),
        d2h_bytes=int(copies["size_bytes"].sum() - h2d["size_bytes"].sum()),
        h2d_bytes_by_memory=_bytes_by_memory(h2d),
        peak_allocated_bytes=_peak(run, "allocated"),
        peak_reserved_bytes=_peak(run, "reserved"),
        steps=steps,
        phases=phases,
        cold_warm=cold_warm(steps, paging),
        causes=causes.step_rows(),
        phase_causes=causes.phase_rows(windows[windows["phase"] != Phase.DENOISE]),
        paging=paging,
        transfers=[*transfers.components, *transfers.modules, *transfers.parameters],
        ceilings=measured,
        conditions=manifest.conditions,
        modules=module_rows(timeline, activity, transfers.modules),
        unattributed_copies=int((~copies["is_weight"] & (copies["span_id"] == NONE)).sum()),
        device_only_copies=int((copies["copy_id"] == NONE).sum()),
        warnings=[*manifest.warnings, *trust_warnings(timeline, ceilings), *unsteady_host(steps, paging)],
        out_of_memory=out_of_memory(timeline),
    )
    summary.verdict = verdict(summary)
    return summary


def _step_rows(timeline: Timeline, activity: Activity, ceilings: Ceilings) -> list[StepRow]:
    amounts = _amounts(timeline.copies, "step_index")
    best = _ceiling_by_step(timeline.copies, ceilings)
    steps = timeline.steps
    splits = activity.splits(steps["start_ns"].to_numpy(), steps["end_ns"].to_numpy())
    names = (steps[name].tolist() for name in ("run_index", "step_index"))
    rows = []
    for run, step, split, python_ns in zip(*names, splits, host_python_ns(timeline), strict=True):
        count, h2d, d2h = amounts.get((run, step), (0, 0, 0))
        amount = {"copy_count": count, "h2d_bytes": h2d, "d2h_bytes": d2h}
        known = {"ceiling_ns": best.get((run, step)), "host_python_ns": python_ns}
        rows.append(StepRow(run_index=run, step_index=step, **known, **amount, **split))
    return rows


def _ceiling_by_step(copies: pd.DataFrame, ceilings: Ceilings) -> dict[tuple[int, int], int]:
    """What each step's copies to the device take at the ceiling of their size, where it was measured."""
    h2d = copies.loc[copies["direction"] == Direction.H2D, ["run_index", "step_index", "size_bytes"]]
    best = h2d.assign(ns=ceilings.to_device_ns(h2d["size_bytes"].to_numpy())).dropna()
    sums = best.groupby(["run_index", "step_index"])[["ns"]].sum().reset_index().to_dict("records")
    return {(row["run_index"], row["step_index"]): round(row["ns"]) for row in sums}


def _phase_rows(timeline: Timeline, activity: Activity, windows: pd.DataFrame) -> list[PhaseRow]:
    """Each run's phases that took any time or made copies."""
    amounts = _amounts(timeline.copies, "phase")
    rows = []
    for run_index in timeline.runs["run_index"].tolist():
        own = windows[windows["run_index"] == run_index]
        for phase in PHASES:
            window = _windows(own[own["phase"] == phase])
            count, h2d, d2h = amounts.get((run_index, phase), (0, 0, 0))
            if window.total or count:
                split = activity.split(window)
                amount = {"copy_count": count, "h2d_bytes": h2d, "d2h_bytes": d2h}
                rows.append(PhaseRow(run_index=run_index, phase=str(phase), **amount, **split))
    return rows


def phase_windows(timeline: Timeline) -> pd.DataFrame:
    """When each phase of each run went on: run_index, phase, start_ns, end_ns, disjoint within a phase.

    Set-up is where its spans and the copies outside any run are; it may have several windows.
    """
    setup = _setup_times(timeline)
    rows = []
    for run in timeline.runs.to_dict("records"):
        run_index, start, end = int(run["run_index"]), run["start_ns"], run["end_ns"]
        loop = (run["denoise_start_ns"], run["denoise_end_ns"]) if run["denoise_start_ns"] != NONE else (end, end)
        own = _windows(setup[setup["run_index"] == run_index])
        rows += [(run_index, Phase.SETUP, *window) for window in zip(own.starts, own.ends, strict=True)]
        bounds = ((Phase.ENCODE, start, loop[0]), (Phase.DENOISE, *loop), (Phase.DECODE, loop[1], end))
        rows += [(run_index, *bound) for bound in bounds]
    return pd.DataFrame(rows, columns=["run_index", "phase", "start_ns", "end_ns"]).astype(
        {"run_index": np.int64, "start_ns": np.int64, "end_ns": np.int64}
    )


def _setup_times(timeline: Timeline) -> pd.DataFrame:
    """When each run's set-up spans, and the copies outside any run, went on."""
    columns = ["run_index", "start_ns", "end_ns"]
    spans, copies = timeline.spans, timeline.copies
    spans = spans.loc[(spans["kind"] == SpanKind.SETUP) & (spans["phase"] == Phase.SETUP), columns]
    return pd.concat([spans, copies.loc[copies["phase"] == Phase.SETUP, columns]])


def _amounts(copies: pd.DataFrame, by: str) -> dict[tuple[int, int | str], tuple[int, int, int]]:
    """Copies, H2D bytes and D2H bytes by run and step, or run and phase."""
    unit = row_numbers(copies[["run_index", by]])
    _, at = np.unique(unit, return_index=True)
    is_h2d = (copies["direction"] == Direction.H2D).to_numpy()
    size = copies["size_bytes"].to_numpy()
    sums = np.zeros((3, len(at)), np.int64)
    sums[0] = np.bincount(unit, minlength=len(at))
    np.add.at(sums[1], unit, np.where(is_h2d, size, 0))
    np.add.at(sums[2], unit, np.where(is_h2d, 0, size))
    keys = zip(copies["run_index"].iloc[at], copies[by].iloc[at], strict=True)
    return {key: (count, h2d, d2h) for key, (count, h2d, d2h) in zip(keys, sums.T.tolist(), strict=True)}


def _bytes_by_memory(h2d: pd.DataFrame) -> dict[str, int]:
    sums = h2d.groupby("host_memory", observed=True)["size_bytes"].sum()
    return {str(memory): int(sums[memory]) for memory in HostMemory if sums.get(memory, 0)}


def _peak(run: RunData, what: str) -> int | None:
    """The largest sample of the device's memory, or the peak that the device itself kept."""
    series = {f"device_{what}_bytes", f"device_peak_{what}_bytes"}
    values = run.counters.loc[run.counters["series"].isin(series), "value"]
    values = values[np.isfinite(values)]
    return int(values.max()) if len(values) else None


def _windows(rows: pd.DataFrame) -> Coverage:
    return Coverage.of(rows["start_ns"].to_numpy(np.int64), rows["end_ns"].to_numpy(np.int64))
