"""The verdict as it is shown: the first and the warm step on one scale, and six figures."""

from __future__ import annotations

from collections.abc import Sequence

from tracekit.model import Measure, Summary
from tracekit.model.report import RunReport, StepParts
from tracekit.model.typical import warm_steps
from tracekit.render.figures.causes import part_names, part_texts
from tracekit.render.figures.palette import role
from tracekit.render.html.blocks import Bar, Fact, Segment, Table
from tracekit.render.html.tables import part_rows
from tracekit.units import (
    DurationUnit,
    format_bytes,
    format_duration,
    format_memory,
    format_rate,
)


def step_bars(steps: Sequence[tuple[str, StepParts]]) -> tuple[list[Bar], DurationUnit]:
    """The steps as bars on one scale, each with its label, and the unit of their texts."""
    longest = max(step.wall_ns for _, step in steps)
    unit = DurationUnit.fitting(longest)
    bars = []
    for label, step in steps:
        names = part_names([step])
        total, texts = part_texts(step, names, unit)
        amounts = {part.name: part.duration_ns for part in step.parts}
        segments = [
            Segment(name, role(name), round(100 * amounts[name] / max(longest, 1), 3), text)
            for name, text in zip(names, texts, strict=True)
        ]
        bars.append(Bar(label, f"{total} {unit.name}", segments))
    return bars, unit


def first_and_warm(run: RunReport) -> list[tuple[str, StepParts]]:
    """The steps of the verdict's bars."""
    warm = f"Warm step ({run.warm.label})" if run.warm else ""
    return [(label, step) for label, step in (("Step 1", run.first), (warm, run.warm)) if step is not None]


def bars_table(run: RunReport) -> Table | None:
    """The bars' figures."""
    steps = first_and_warm(run)
    if not steps:
        return None
    unit, rows = part_rows([step for _, step in steps])
    header = ["part", *(f"{label}, {unit.name}" for label, _ in steps)]
    return Table("Step 1 and the warm step that stands for the others, by part", header, rows)


def facts(run: RunReport) -> list[Fact]:
    """The six figures."""
    summary, cold = run.summary, run.summary.cold_warm
    setup = f"of it {format_duration(summary.setup_ns)} set-up" if summary.setup_ns else "from first span to last"
    figures = [Fact("Total", format_duration(summary.total_ns), setup)]
    if cold is None:
        figures.append(Fact("Warm step", "none", "no step was recorded"))
        figures.append(Fact("Step 1", "none", "no step was recorded"))
    else:
        warm = cold.warm_step_ns
        note = f"median of {cold.warm_samples}" if cold.warm_samples else "only one step ran"
        figures.append(Fact("Warm step", "no sample" if warm is None else format_duration(warm), note))
        ratio = "" if not warm else f"{cold.first_step_ns / warm:.1f} times a warm one"
        figures.append(Fact("Step 1", format_duration(cold.first_step_ns), ratio))
    return [*figures, *_link_facts(summary), _memory_fact(run)]


def _link_facts(summary: Summary) -> list[Fact]:
    steps = warm_steps(summary.steps, summary.paging) or summary.steps
    if not steps:
        return [
            Fact("Copied in all", format_bytes(summary.h2d_bytes), "to the device"),
            Fact("Host to device", "-", "no step was recorded"),
        ]
    copied = sum(step.h2d_bytes for step in steps) / len(steps)
    rate = format_rate(sum(step.h2d_bytes for step in steps), sum(step.h2d_ns for step in steps))
    pinned = [row for row in summary.ceilings if row.measure == Measure.PINNED_H2D]
    best = max(pinned, key=lambda row: row.size_bytes / max(row.median_ns, 1), default=None)
    of_link = f"the link: {format_rate(best.size_bytes, best.median_ns)}" if best else "when warm"
    return [
        Fact("Copied per step", format_bytes(copied), "to the device"),
        Fact("Host to device", rate, of_link),
    ]


def _memory_fact(run: RunReport) -> Fact:
    peak = run.summary.peak_allocated_bytes
    if peak is None:
        return Fact("Peak device memory", "-", "not sampled")
    limit = run.manifest.device.limit_bytes
    return Fact("Peak device memory", format_memory(peak), f"of {format_memory(limit)}" if limit else "allocated")
