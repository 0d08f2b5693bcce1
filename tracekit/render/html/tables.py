"""The tables behind the charts, from the same figures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tracekit.model import Measure, Summary
from tracekit.model.finding import Basis
from tracekit.model.plan import VerifiedRow
from tracekit.model.report import CopyGroup, MemoryTrack, Residency, RunReport, StepParts, TotalLine
from tracekit.render.figures.bandwidth import series_name
from tracekit.render.figures.causes import MAX_BARS, changes, part_names, part_texts, shown_steps, signed
from tracekit.render.figures.common import matrix_values
from tracekit.render.html.blocks import Table
from tracekit.render.plan import amount
from tracekit.units import DurationUnit, format_bytes, format_duration, format_memory, format_rate, format_share

_STEP_COUNTS = (1, 4, 10, 28, 50)


def waterfall_table(run: RunReport) -> Table | None:
    """Each part of the warm step and of step 1, with how it was found."""
    first, warm = run.first, run.warm
    if first is None or warm is None:
        return None
    unit = DurationUnit.fitting(first.wall_ns)
    rows = changes(first, warm, unit)
    found = _evidence(run.summary, first)
    texts = [
        [
            row.name,
            found.get(row.name, ""),
            unit.quanta_text(row.warm),
            unit.quanta_text(row.first),
            signed(row.difference, unit),
        ]
        for row in rows
    ]
    before, after = sum(row.warm for row in rows), sum(row.first for row in rows)
    texts.append(["total", "", unit.quanta_text(before), unit.quanta_text(after), signed(after - before, unit)])
    header = ["part", "how it was found", f"warm step, {unit.name}", f"step 1, {unit.name}", "difference"]
    return Table("From the median warm step to step 1", header, texts, texts=2)


def _evidence(summary: Summary, step: StepParts) -> dict[str, str]:
    rows = [row for row in summary.causes if (row.run_index, row.step_index) == (step.run_index, step.step_index)]
    return {str(row.cause): f"{row.evidence}: {row.reason}" if row.reason else str(row.evidence) for row in rows}


def steps_table(runs: Sequence[RunReport]) -> Table:
    """Each shown step's parts."""
    shown = [(run, step) for run in runs for step in shown_steps(run.steps)]
    unit = DurationUnit.fitting(max(step.wall_ns for _, step in shown))
    names = part_names([step for _, step in shown])
    several = len(runs) > 1
    rows = []
    for run, step in shown:
        total, texts = part_texts(step, names, unit)
        rows.append([*([run.name] if several else []), step.label, total, *texts])
    left_out = sum(max(0, len(run.steps) - MAX_BARS) for run in runs)
    note = f"{left_out:,} steps between the first and the last {MAX_BARS // 2} are left out." if left_out else ""
    header = [*(["run"] if several else []), "step", f"wall, {unit.name}", *names]
    return Table("Each step's wall time by part", header, rows, texts=2 if several else 1, note=note)


def residency_table(residency: Residency) -> Table:
    """Of each block how much of the time its bytes were on the device, and above all what all of them held at most."""
    windows = residency.windows
    shares = [matrix_values(window.share).mean(axis=1) for window in windows]
    most = [format_memory(max(window.weight_bytes)) for window in windows]
    rows = [["all weights, most at once", format_memory(sum(residency.sizes_bytes)), *most, ""]]
    for row, (name, size, stay) in enumerate(
        zip(residency.modules, residency.sizes_bytes, residency.stay_ns, strict=True)
    ):
        times = [format_share(float(share[row])) for share in shares]
        rows.append([name, format_memory(size), *times, format_duration(stay)])
    header = ["block", "weights", *(window.title for window in windows), "mean stay"]
    note = "Per cent are of the time, averaged over the block's bytes."
    return Table("Weights on the device by block", header, rows, note=note)


def bandwidth_table(groups: Sequence[CopyGroup], summary: Summary) -> Table:
    """A row for each mark of the chart, and one for each point of a ceiling."""
    rows = []
    for name, own in itertools.groupby(groups, key=series_name):
        rows += [
            [
                name,
                format_bytes(group.size_bytes),
                f"{group.copies:,}",
                format_bytes(group.total_bytes),
                format_rate(group.size_bytes, group.median_ns),
                format_rate(group.size_bytes, group.high_ns),
                format_rate(group.size_bytes, group.low_ns),
            ]
            for group in own
        ]
    for ceiling in summary.ceilings:
        if ceiling.measure in (Measure.PINNED_H2D, Measure.PAGEABLE_H2D):
            rates = [format_rate(ceiling.size_bytes, ns) for ns in (ceiling.median_ns, ceiling.max_ns, ceiling.min_ns)]
            kind = f"ceiling, {ceiling.measure}"
            rows.append([kind, format_bytes(ceiling.size_bytes), f"{ceiling.samples:,}", "", *rates])
    header = ["copies", "size", "number", "in all", "median", "slow quartile", "fast quartile"]
    note = "Of a ceiling: its slowest and its fastest sample." if summary.ceilings else ""
    return Table("Weight copies to the device by state and size", header, rows, note=note)


def memory_table(memory: MemoryTrack) -> Table:
    """The largest sample of each quantity in each part of the run."""
    names = [series.name for series in memory.series]
    rows = [
        [title, *(format_memory(found[name]) if name in found else "-" for name in names)]
        for title, found in memory.peaks
    ]
    return Table("Largest samples of device memory", ["part of the run", *names], rows)


def totals_table(lines: Sequence[TotalLine]) -> Table:
    """What each configuration's total is made of, and what it comes to."""
    rows = [
        [
            line.name,
            str(line.basis),
            *(format_duration(part) for part in (line.setup_ns, line.around_ns, line.first_step_ns, line.warm_step_ns)),
            *(total_text(line, count) for count in _STEP_COUNTS),
        ]
        for line in lines
    ]
    parts = ["set-up", "encode and decode", "step 1", "each warm step"]
    counts = [f"{count} step{'s' if count > 1 else ''}" for count in _STEP_COUNTS]
    return Table("Total time by number of steps", ["configuration", "basis", *parts, *counts], rows, texts=2)


def total_text(line: TotalLine, steps: int) -> str:
    """The total of that many steps; of a prediction with its bounds."""
    total = format_duration(line.total_ns(steps))
    if line.basis is not Basis.PREDICTED:
        return total
    low, high = (format_duration(bound) for bound in line.bounds_ns(steps))
    return f"{total} ({low} to {high})"


def verified_table(rows: Sequence[VerifiedRow]) -> Table:
    """What was predicted beside what was measured when it was run."""
    cells = [
        [
            row.configuration,
            row.quantity,
            amount(row, row.predicted.value),
            amount(row, row.measured),
            f"{row.error:+.0%}",
        ]
        for row in rows
    ]
    return Table(
        "Predicted against measured", ["configuration", "quantity", "predicted", "measured", "error"], cells, texts=2
    )


def causes_table(runs: Sequence[RunReport]) -> Table | None:
    """The runs' warm steps beside each other, part by part."""
    steps = [(run.name, run.warm or run.first) for run in runs]
    there = [(name, step) for name, step in steps if step is not None]
    if not there:
        return None
    unit, rows = part_rows([step for _, step in there])
    return Table(f"The median warm step of each run by part, {unit.name}", ["part", *(name for name, _ in there)], rows)


def part_rows(steps: Sequence[StepParts]) -> tuple[DurationUnit, list[list[str]]]:
    """Steps beside each other: a row a part and one of the totals, a column a step, in the unit that is returned."""
    unit = DurationUnit.fitting(max(step.wall_ns for step in steps))
    names = part_names(steps)
    columns = [part_texts(step, names, unit) for step in steps]
    rows = [[name, *(texts[index] for _, texts in columns)] for index, name in enumerate(names)]
    return unit, [*rows, ["total", *(total for total, _ in columns)]]
