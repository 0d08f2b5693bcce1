"""Put a report together: every section's data for each run, and what the runs say beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from tracekit.analysis.report.bandwidth import copy_groups
from tracekit.analysis.report.beside import compared, ranges
from tracekit.analysis.report.checks import checks
from tracekit.analysis.report.heat import heat_map
from tracekit.analysis.report.limits import not_worth, slower
from tracekit.analysis.report.memory import memory_track
from tracekit.analysis.report.moments import module_moments
from tracekit.analysis.report.parts import find_step, step_parts
from tracekit.analysis.report.residency import device_residency
from tracekit.analysis.report.titles import titles
from tracekit.analysis.report.totals import break_even, predicted_lines, total_line
from tracekit.model import Manifest, Summary, Timeline
from tracekit.model.plan import OffloadPlan
from tracekit.model.report import MAX_HEAT_ROWS, Report, RunReport
from tracekit.model.typical import typical_step
from tracekit.units import format_memory


def build_report(runs: Sequence[tuple[Timeline, Summary, OffloadPlan | None]]) -> Report:
    """The report of one run or several, each with its plan if there is one, in the order given."""
    names = _names([timeline.run.manifest for timeline, *_ in runs], [summary.path for _, summary, _ in runs])
    # One page holds all of them, so each has less room.
    rows = max(60, MAX_HEAT_ROWS // len(runs))
    reports = [_run_report(*run, name, rows) for run, name in zip(runs, names, strict=True)]
    lines = [run.total for run in reports if run.total is not None]
    # Of several runs the measured lines are enough to look at.
    if len(reports) == 1 and lines and reports[0].plan is not None:
        lines += predicted_lines(reports[0].plan)
    return Report(
        title=reports[0].titles.verdict if len(reports) == 1 else f"{len(reports)} runs: {'; '.join(names)}",
        runs=reports,
        totals=lines,
        break_even=break_even(lines),
        ranges=ranges(reports),
        compared=compared(reports),
    )


def _run_report(timeline: Timeline, summary: Summary, plan: OffloadPlan | None, name: str, max_rows: int) -> RunReport:
    steps = step_parts(timeline, summary)
    first = find_step(steps, summary.steps[0] if summary.steps else None)
    warm = find_step(steps, typical_step(summary))
    heat = heat_map(timeline, max_rows)
    copies, memory = copy_groups(timeline), memory_track(timeline)
    verified = checks(timeline, summary, steps)
    return RunReport(
        name=name,
        path=summary.path,
        summary=summary,
        manifest=timeline.run.manifest,
        titles=titles(summary, steps, first, warm, heat, copies, memory, verified),
        steps=steps,
        first=first,
        warm=warm,
        heat=heat,
        residency=device_residency(timeline, first, warm),
        copies=copies,
        memory=memory,
        total=total_line(name, summary),
        checks=verified,
        plan=plan,
        not_worth=[*not_worth(summary, steps), *(slower(plan) if plan is not None else [])],
        moments=module_moments(timeline),
    )


def _names(manifests: Sequence[Manifest], paths: Sequence[str]) -> list[str]:
    """What tells the runs apart: the mode with its options, and the folder's name where that is not enough."""
    names = [configuration(manifest) for manifest in manifests]
    common = Counter(names)
    return [
        name if common[name] == 1 else f"{name} ({PurePath(path).name})"
        for name, path in zip(names, paths, strict=True)
    ]


def configuration(manifest: Manifest) -> str:
    """The offload mode with what changes it: ``group, leaf_level, stream``, ``partial, resident 8.00 GiB, pinned``."""
    words = [manifest.offload.mode]
    for key, value in manifest.offload.options.items():
        name = key.removesuffix("_bytes").replace("_", " ")
        if value is True:
            words.append(name)
        elif key.endswith("_bytes") and isinstance(value, int):
            words.append(f"{name} {format_memory(value)}")
        elif isinstance(value, str) and value:
            words.append(value)
        elif value not in (None, False, ""):
            words.append(f"{name} {value}")
    if manifest.offload.host_memory not in ("as-loaded", ""):
        words.append(manifest.offload.host_memory)
    return ", ".join(words)
