"""Charts of where steps' time goes: stacked causes per step, and the way from a warm step to step 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracekit.model import Cause
from tracekit.model.report import COMPUTING, COPYING, NEITHER, RunReport, StepParts
from tracekit.render.figures.common import Figure, figure, fill, plain
from tracekit.units import DurationUnit

ORDER = list(dict.fromkeys([*map(str, Cause), COPYING, COMPUTING, NEITHER]))
"""Parts in display order."""
MAX_BARS = 60
"""Steps shown one by one; of more, the first and the last."""


def part_names(steps: Sequence[StepParts]) -> list[str]:
    """The parts that any of the steps has, in display order."""
    there = {part.name for step in steps for part in step.parts}
    return [name for name in ORDER if name in there]


def durations(step: StepParts) -> dict[str, int]:
    """A step's parts by name, ns."""
    return {part.name: part.duration_ns for part in step.parts}


def shown_steps(steps: Sequence[StepParts]) -> list[StepParts]:
    """The steps that have a bar of their own."""
    if len(steps) <= MAX_BARS:
        return list(steps)
    return [*steps[: MAX_BARS // 2], *steps[-MAX_BARS // 2 :]]


def part_texts(step: StepParts, names: Sequence[str], unit: DurationUnit) -> tuple[str, list[str]]:
    """A step's total and its parts as texts that add up."""
    amounts = durations(step)
    return unit.split([amounts.get(name, 0) for name in names])


def steps_figure(runs: Sequence[RunReport]) -> Figure:
    """Each step a bar of its parts; several runs beside each other on the same axis."""
    shown = [(run, step) for run in runs for step in shown_steps(run.steps)]
    unit = DurationUnit.fitting(max(step.wall_ns for _, step in shown))
    labels = [step.label for _, step in shown]
    x: Any = labels if len(runs) == 1 else [[plain(run.name) for run, _ in shown], labels]
    names = part_names([step for _, step in shown])
    texts = [part_texts(step, names, unit)[1] for _, step in shown]
    data = [
        {
            "type": "bar",
            "name": name,
            "x": x,
            "y": [unit.value(durations(step).get(name, 0)) for _, step in shown],
            "customdata": [row[index] for row in texts],
            "marker": fill(name),
            "hovertemplate": f"step %{{x}}<br>{name}: %{{customdata}} {unit.name}<extra></extra>",
        }
        for index, name in enumerate(names)
    ]
    kind = {"type": "category"} if len(runs) == 1 else {"type": "multicategory"}
    place = {"b": 48 if len(runs) == 1 else 72}
    return figure(data, "step", unit.name, 420, barmode="stack", bargap=0.25, margin=place, xaxis=kind, showlegend=True)


@dataclass(frozen=True)
class Change:
    """One part of a step in both steps, in quanta of a unit."""

    name: str
    warm: int
    first: int

    @property
    def difference(self) -> int:
        """What step 1 has more of it; negative where it has less."""
        return self.first - self.warm


def changes(first: StepParts, warm: StepParts, unit: DurationUnit) -> list[Change]:
    """Every part of either step, as rounded for display, the largest difference first."""
    names = part_names([first, warm])
    before, after = (unit.quanta([durations(step).get(name, 0) for name in names]) for step in (warm, first))
    rows = [Change(*row) for row in zip(names, before, after, strict=True)]
    return sorted(rows, key=lambda row: -row.difference)


def signed(quanta: int, unit: DurationUnit) -> str:
    """A difference with its sign."""
    return f"{'+' if quanta >= 0 else '−'}{unit.quanta_text(abs(quanta))}"


def waterfall_figure(first: StepParts, warm: StepParts) -> Figure:
    """From the warm step to step 1, a bar for each part that differs, each beginning where the one before ends."""
    unit = DurationUnit.fitting(first.wall_ns)
    rows = changes(first, warm, unit)
    before, after = sum(row.warm for row in rows), sum(row.first for row in rows)
    whole = {"color": "@tracekit", "line": {"width": 0}}
    bars: list[tuple[str, int, int, dict[str, Any], str]] = [("warm step", 0, before, whole, unit.quanta_text(before))]
    reached = before
    for row in rows:
        if row.difference:
            bars.append((row.name, reached, row.difference, fill(row.name), signed(row.difference, unit)))
            reached += row.difference
    bars.append(("step 1", 0, after, whole, unit.quanta_text(after)))
    data = [_bar(*bar, unit) for bar in bars]
    reach = max(max(base, base + length) for _, base, length, _, _ in bars) * unit.quantum_ns
    return figure(
        data,
        unit.name,
        "",
        height=76 + 34 * len(bars),
        margin={"l": 132, "r": 64},
        xaxis={"range": [0, unit.value(reach) * 1.02], "zeroline": True},
        yaxis={"autorange": "reversed", "showgrid": False, "ticks": "", "tickfont": {"color": "@ink"}},
        barmode="overlay",
    )


def _bar(name: str, base: int, length: int, marker: dict[str, Any], text: str, unit: DurationUnit) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": [name],
        "x": [unit.value(length * unit.quantum_ns)],
        "base": [unit.value(base * unit.quantum_ns)],
        "marker": marker,
        "text": [text],
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"color": "@ink", "size": 12},
        "hovertemplate": f"{name}: {text} {unit.name}<extra></extra>",
    }
