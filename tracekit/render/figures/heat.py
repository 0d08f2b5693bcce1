"""The heat map of modules against steps, for each of the quantities that a run has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracekit.model.report import HeatMap, Matrix
from tracekit.render.figures.common import Figure, figure, matrix_values, plain, plain_all, typed
from tracekit.render.plaintext import shorten_left
from tracekit.units import DurationUnit

_ROW_TICKS = 14
"""Modules named on the axis; all are in the hover text and in the table."""


def heat_figures(heat: HeatMap) -> dict[str, Figure]:
    """A figure a quantity, by its key, in the order in which they are offered."""
    times = {"copy": heat.copy, "compute": heat.compute}
    unit = DurationUnit.fitting(round(max((_largest(matrix) for matrix in times.values() if matrix), default=0)))
    figures = {}
    if heat.copy:
        figures["copy"] = _figure(heat, heat.copy, f"copy time, {unit.name}", unit.name, scale=unit.value(1))
    if heat.rate:
        # One byte per ns is 1 GB/s.
        figures["rate"] = _figure(heat, heat.rate, "GB/s", "GB/s", scale=1)
    if heat.resident:
        figures["resident"] = _figure(heat, heat.resident, "% in page cache", "%", scale=100, top=100)
    if heat.compute:
        figures["compute"] = _figure(heat, heat.compute, f"kernel time, {unit.name}", unit.name, scale=unit.value(1))
    return figures


HEAT_NAMES = {"copy": "Copy time", "rate": "GB/s", "resident": "Host residency", "compute": "Kernel time"}


def _largest(matrix: Matrix) -> float:
    return float(np.nanmax(matrix_values(matrix)))


def _figure(heat: HeatMap, matrix: Matrix, title: str, unit: str, scale: float, top: float | None = None) -> Figure:
    values = matrix_values(matrix) * np.float32(scale)
    trace = {
        "type": "heatmap",
        "z": typed(values),
        "x": heat.steps,
        "zmin": 0,
        "zmax": top if top is not None else float(np.nanmax(values)),
        "colorscale": "@sequential" if top is not None or unit == "GB/s" else "@rooted",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1 if matrix.rows <= 80 else 0,
        "hovertemplate": f"%{{y}}<br>step %{{x}}: %{{z:.3~g}} {unit}<extra></extra>",
        "y": plain_all(heat.modules),
        "colorbar": colour_bar(title),
    }
    return figure(
        [trace],
        "step",
        "",
        height=min(720, max(260, 100 + 16 * matrix.rows)),
        margin={"l": 200, "r": 10},
        xaxis={"type": "category", "showgrid": False},
        yaxis=module_axis(heat.modules),
    )


def module_axis(modules: Sequence[str]) -> dict[str, Any]:
    """The vertical axis of rows of modules, the first at the top; all their names are in the hover text.

    The component is left out where all are of one.
    """
    at = _ticks(modules)
    skipped = 1 if len({module.partition(".")[0] for module in modules}) == 1 else 0
    return {
        "type": "category",
        "autorange": "reversed",
        "showgrid": False,
        "tickmode": "array",
        "tickvals": at,
        "ticktext": [_short_name(modules[row], skipped) for row in at],
    }


def colour_bar(title: str, **settings: Any) -> dict[str, Any]:
    """The key to a heat map's colours."""
    return {
        "title": {"text": title, "side": "right", "font": {"color": "@muted"}},
        "thickness": 12,
        "outlinewidth": 0,
        "tickfont": {"color": "@muted"},
        **settings,
    }


def _ticks(modules: Sequence[str]) -> list[int]:
    """Rows to name: where a numbered block begins, or simply every so many, and not more than fit."""
    blocks = [_block(module, 0) for module in modules]
    begins = [row for row in range(len(blocks)) if row == 0 or blocks[row] != blocks[row - 1]]
    return begins[:: -(-len(begins) // _ROW_TICKS)]


def _block(module: str, skipped: int) -> str:
    """The path down to the first number, without its first parts: ``transformer_blocks.12``; else all of it."""
    path = module.partition(" to ")[0].split(".")
    number = next((at for at, part in enumerate(path) if part.isdigit()), len(path) - 1)
    return ".".join(path[skipped : number + 1] or path)


def _short_name(module: str, skipped: int) -> str:
    """A row's name beside the axis."""
    return plain(shorten_left(_block(module, skipped), 28))
