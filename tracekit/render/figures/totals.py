"""The chart of total time against the number of steps, a line a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracekit.model.finding import Basis
from tracekit.model.plan import TYPICAL_STEPS
from tracekit.model.report import TotalLine
from tracekit.render.figures.common import Figure, figure, plain
from tracekit.render.figures.palette import DASHES, LINE_ROLES
from tracekit.units import DurationUnit

STEPS = 100


def totals_figure(lines: Sequence[TotalLine]) -> Figure:
    """Totals for 1 to `STEPS` steps; a band where warm steps differ, a mark where the measurement ends."""
    unit = DurationUnit.fitting(max(line.total_ns(STEPS) for line in lines))
    data: list[dict[str, Any]] = []
    for index, line in enumerate(lines):
        colour, dash = f"@{LINE_ROLES[index % len(LINE_ROLES)]}", DASHES[index % len(DASHES)]
        data += _line(line, unit, colour, dash)
    marker = {
        "type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": TYPICAL_STEPS, "x1": TYPICAL_STEPS,
        "line": {"color": "@bound", "width": 1.5, "dash": "dot"},
    }  # fmt: skip
    return figure(
        data,
        "steps before the process exits",
        unit.name,
        showlegend=True,
        shapes=[marker],
        xaxis={"range": [0, STEPS]},
        yaxis={"rangemode": "tozero"},
    )


def _line(line: TotalLine, unit: DurationUnit, colour: str, dash: str) -> list[dict[str, Any]]:
    steps = [1, STEPS]
    (first_low, first_high), (last_low, last_high) = line.bounds_ns(1), line.bounds_ns(STEPS)
    band = [first_low, last_low, last_high, first_high]
    predicted = line.basis is Basis.PREDICTED
    drawn: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "name": f"{plain(line.name)}: range", "showlegend": False,
            "hoverinfo": "skip", "x": [1, STEPS, STEPS, 1], "y": [unit.value(value) for value in band],
            "fill": "toself", "line": {"width": 0, "color": colour}, "opacity": 0.25,
            # A prediction is hatched.
            "fillpattern": {"shape": "/" if predicted else "", "fillmode": "overlay"},
        },
        {
            "type": "scatter", "mode": "lines", "name": plain(line.name), "x": steps,
            "y": [unit.value(line.total_ns(count)) for count in steps],
            "line": {"color": colour, "width": 2.5, "dash": dash},
            "hovertemplate": f"%{{x}} steps: %{{y:.3~g}} {unit.name}<extra>%{{fullData.name}}</extra>",
        },
    ]  # fmt: skip
    return drawn if predicted else [*drawn, _measured(line, unit, colour)]


def _measured(line: TotalLine, unit: DurationUnit, colour: str) -> dict[str, Any]:
    last = min(line.measured_steps, STEPS)
    return {
        "type": "scatter", "mode": "markers", "name": f"{plain(line.name)}: measured", "showlegend": False,
        "x": [1, last], "y": [unit.value(line.total_ns(count)) for count in (1, last)],
        "marker": {"color": colour, "size": 8, "symbol": "circle"},
        "hovertemplate": f"measured, %{{x}} steps: %{{y:.3~g}} {unit.name}<extra>%{{fullData.name}}</extra>",
    }  # fmt: skip
