"""The charts of which modules' weights are on the device when, with what all of them hold there above."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracekit.model.report import Residency, ResidencyWindow
from tracekit.render.figures.common import (
    Figure,
    axis,
    figure,
    label,
    limit_line,
    matrix_values,
    plain_all,
    step_end,
    typed,
)
from tracekit.render.figures.heat import colour_bar, module_axis
from tracekit.units import DurationUnit, MemoryUnit, format_memory

_IN_SIGHT = 0.1
"""Share of the limit that the weights must hold for its line to be drawn."""
_MAP, _LEVEL = [0, 0.74], [0.8, 1]
"""What the map and the curve above it have of the height."""


def residency_figures(residency: Residency) -> dict[str, Figure]:
    """A figure a window, by its key; of the rows, those that are there at some time in it."""
    return {window.key: _figure(residency, window) for window in residency.windows if matrix_values(window.share).any()}


def _figure(residency: Residency, window: ResidencyWindow) -> Figure:
    unit = DurationUnit.fitting(window.end_ns - window.start_ns)
    values = matrix_values(window.share)
    rows = np.flatnonzero(values.any(axis=1))
    modules = [residency.modules[row] for row in rows]
    edges = [unit.value(edge) for edge in np.linspace(0, window.end_ns - window.start_ns, values.shape[1] + 1)]
    cells = {
        "type": "heatmap",
        "z": typed(100 * values[rows]),
        "x": [round((edges[at] + edges[at + 1]) / 2, 6) for at in range(values.shape[1])],
        "y": plain_all(modules),
        "zmin": 0,
        "zmax": 100,
        # A block that is brought in parts is never there as a whole: the lower half of the scale is spread.
        "colorscale": "@rooted",
        "ygap": 1 if len(rows) <= 80 else 0,
        "hovertemplate": f"%{{y}}<br>%{{x:.3~g}} {unit.name}: %{{z:.3~g}} % of its bytes<extra></extra>",
        "colorbar": colour_bar("% on the device", len=_MAP[1], y=0, yanchor="bottom"),
    }
    level, axis_above, limits, texts = _level(residency, window, edges, unit)
    ends = [step_end(unit.value(mark - window.start_ns)) for mark in window.marks_ns[:60]]
    return figure(
        [cells, level],
        f"time since the beginning, {unit.name}",
        "",
        height=min(760, max(320, 190 + 16 * len(rows))),
        margin={"l": 200, "r": 10},
        xaxis={"showgrid": False, "range": [0, edges[-1]]},
        yaxis={**module_axis(modules), "domain": _MAP},
        yaxis2=axis_above,
        shapes=[*ends, *limits],
        annotations=texts,
    )


def _level(
    residency: Residency, window: ResidencyWindow, edges: list[float], duration: DurationUnit
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """The curve of what all weights hold at once, with its axis, the limit's line and the labels."""
    limit, most = residency.limit_bytes, max(window.weight_bytes)
    in_sight = limit is not None and most >= _IN_SIGHT * limit
    top = max(most, limit) if in_sight and limit is not None else most
    unit = MemoryUnit.fitting(top)
    levels = [unit.value(size) for size in window.weight_bytes]
    curve = {
        "type": "scatter",
        "mode": "lines",
        "name": "weights on the device",
        # A slice's level reaches to the next one.
        "x": [round(edge, 6) for edge in edges],
        "y": [*levels, levels[-1]],
        "yaxis": "y2",
        "fill": "tozeroy",
        "line": {"color": "@staging", "width": 1.5, "shape": "hv"},
        "hovertemplate": f"%{{x:.3~g}} {duration.name}: %{{y:.3~g}} {unit.name}<extra></extra>",
    }
    shapes, texts, said = [], [], f"most {format_memory(most)}"
    if limit is not None:
        whole = f"{format_memory(limit)}{' cap' if residency.is_cap else ''}"
        said += f" of {whole}"
        if in_sight:
            shapes.append(limit_line(unit.value(limit), "y2"))
            texts.append(label(whole, unit.value(limit), "y2"))
    texts.append(label(said, unit.value(most), "y2"))
    above = axis(unit.name, domain=_LEVEL, range=[0, unit.value(top) * 1.35], anchor="x", nticks=4)
    return curve, above, shapes, texts
