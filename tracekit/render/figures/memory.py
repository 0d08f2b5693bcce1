"""The chart of device memory over time, with the limit that it stays under."""

from __future__ import annotations

from typing import Any

from tracekit.model.report import MemorySeries, MemoryTrack, StepParts
from tracekit.render.figures.common import Figure, figure, label, limit_line, step_end
from tracekit.units import NS_PER_S, MemoryUnit, format_memory

_STYLES = {
    "allocated": ("staging", "solid"),
    "reserved": ("allocation", "dash"),
    "used on the GPU": ("waiting", "dot"),
}
"""Colour and dash of each series."""
_IN_SIGHT = 0.1
"""Share of the limit that must have been used for its line to be drawn."""


def memory_figure(memory: MemoryTrack, steps: list[StepParts]) -> Figure:
    """The series against seconds since the first sample; dotted lines are the steps' ends."""
    begin = min(series.t_ns[0] for series in memory.series)
    end = max(series.t_ns[-1] for series in memory.series)
    limit = memory.limit_bytes
    highest = max(memory.peak_bytes, max(max(series.high_bytes) for series in memory.series))
    # Where the limit is far away its line would press the curves flat.
    in_sight = limit is not None and highest >= _IN_SIGHT * limit
    top = max(highest, limit) if in_sight and limit is not None else highest
    unit = MemoryUnit.fitting(top)
    bounds = [step.end_ns for step in steps if begin <= step.end_ns <= end][:60]
    shapes: list[dict[str, Any]] = [step_end((bound - begin) / NS_PER_S) for bound in bounds]
    annotations = [label(f"peak {format_memory(memory.peak_bytes)}", unit.value(memory.peak_bytes))]
    if limit is not None:
        kind = "cap" if memory.is_cap else "of the device"
        if in_sight:
            shapes.append(limit_line(unit.value(limit)))
            annotations.append(label(f"{format_memory(limit)} {kind}", unit.value(limit)))
        else:
            annotations.append(label(f"far below the {format_memory(limit)} {kind}", unit.value(top) * 1.09))
    return figure(
        [trace for series in memory.series for trace in _lines(series, begin, unit)],
        "seconds since the first sample",
        unit.name,
        height=360,
        showlegend=True,
        shapes=shapes,
        annotations=annotations,
        yaxis={"range": [0, unit.value(top) * (1.08 if in_sight else 1.2)]},
    )


def _lines(series: MemorySeries, begin_ns: int, unit: MemoryUnit) -> list[dict[str, Any]]:
    """The peaks as a line, and the band down to the troughs."""
    colour, dash = _STYLES[series.name]
    seconds = [(moment - begin_ns) / NS_PER_S for moment in series.t_ns]
    highs, lows = ([unit.value(size) for size in sizes] for sizes in (series.high_bytes, series.low_bytes))
    band = {
        "type": "scatter",
        "mode": "lines",
        "name": f"{series.name}: range",
        "showlegend": False,
        "hoverinfo": "skip",
        "x": [*seconds, *reversed(seconds)],
        "y": [*highs, *reversed(lows)],
        "fill": "toself",
        "line": {"width": 0, "color": f"@{colour}"},
        "opacity": 0.3,
    }
    peaks = {
        "type": "scatter",
        "mode": "lines",
        "name": series.name,
        "x": seconds,
        "y": highs,
        # A level holds until the next sample.
        "line": {"color": f"@{colour}", "width": 1.5, "dash": dash, "shape": "hv"},
        "hovertemplate": f"%{{x:.2f}} s: %{{y:.3~g}} {unit.name}<extra>%{{fullData.name}}</extra>",
    }
    return [band, peaks]
