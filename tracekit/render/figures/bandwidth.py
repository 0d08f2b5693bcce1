"""The chart of copies by size, against what this machine's link can do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from tracekit.model import CeilingRow, Measure
from tracekit.model.report import CopyGroup
from tracekit.render.figures.common import Figure, figure
from tracekit.render.figures.palette import role
from tracekit.units import format_bytes, gb_per_s, megabytes

_SYMBOLS = {"mmap": "circle", "anonymous": "diamond", "pinned": "square", "unknown": "x"}
_CEILINGS = {Measure.PINNED_H2D: ("pinned ceiling", "solid"), Measure.PAGEABLE_H2D: ("pageable, whole calls", "dash")}


def series_name(group: CopyGroup) -> str:
    """What a group's series is called: its state and its memory."""
    return f"{group.state}, {group.host_memory}"


def bandwidth_figure(groups: Sequence[CopyGroup], ceilings: Sequence[CeilingRow]) -> Figure:
    """Each series' copies as faint marks, each size's median as a bold one with its quartiles, and the ceilings."""
    data: list[dict[str, Any]] = []
    for name, own in itertools.groupby(groups, key=series_name):
        data += _series(name, list(own))
    data += [trace for measure in _CEILINGS if (trace := _ceiling(measure, ceilings))]
    ticks = [10**power for power in range(3, 10)]
    sizes = [size for trace in data for size in trace["x"]]
    reach = [math.log10(min(sizes)) - 0.15, math.log10(max(sizes)) + 0.15]
    return figure(
        data,
        "size of the copy",
        "GB/s",
        height=360,
        showlegend=True,
        xaxis={
            "type": "log",
            "range": reach,
            "tickvals": [megabytes(size) for size in ticks],
            "ticktext": [format_bytes(size).replace(".00", "").replace(".0", "") for size in ticks],
        },
        yaxis={"rangemode": "tozero"},
        margin={"r": 24},
    )


def _series(name: str, groups: list[CopyGroup]) -> list[dict[str, Any]]:
    colour, symbol = f"@{role(groups[0].state)}", _SYMBOLS.get(groups[0].host_memory, "x")
    points = [point for group in groups for point in group.points]
    cloud = {
        "type": "scatter",
        "mode": "markers",
        "name": f"{name}: copies",
        "showlegend": False,
        "hoverinfo": "skip",
        "x": [megabytes(size) for size, _, _ in points],
        "y": [gb_per_s(size, duration) for size, duration, _ in points],
        "marker": {"color": colour, "symbol": symbol, "size": 5, "opacity": 0.3},
    }
    rates = [gb_per_s(group.size_bytes, group.median_ns) for group in groups]
    best = [gb_per_s(group.size_bytes, group.low_ns) for group in groups]
    worst = [gb_per_s(group.size_bytes, group.high_ns) for group in groups]
    spread = {
        "type": "data",
        "symmetric": False,
        "array": [high - rate for high, rate in zip(best, rates, strict=True)],
        "arrayminus": [rate - low for low, rate in zip(worst, rates, strict=True)],
        "color": colour,
        "thickness": 1,
        "width": 3,
    }
    medians = {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [megabytes(group.size_bytes) for group in groups],
        "y": rates,
        "error_y": spread,
        "customdata": [f"{group.copies:,}" for group in groups],
        "marker": {"color": colour, "symbol": symbol, "size": 10, "line": {"color": "@card", "width": 1}},
        "hovertemplate": "%{x:.3~g} MB: %{y:.3~g} GB/s<br>median of %{customdata}<extra>%{fullData.name}</extra>",
    }
    return [cloud, medians]


def _ceiling(measure: Measure, ceilings: Sequence[CeilingRow]) -> dict[str, Any] | None:
    rows = sorted((row for row in ceilings if row.measure == measure), key=lambda row: row.size_bytes)
    if not rows:
        return None
    name, dash = _CEILINGS[measure]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [megabytes(row.size_bytes) for row in rows],
        "y": [gb_per_s(row.size_bytes, row.median_ns) for row in rows],
        "line": {"color": "@bound", "width": 2, "dash": dash},
        "hovertemplate": "%{x:.3~g} MB: %{y:.3~g} GB/s<extra>%{fullData.name}</extra>",
    }
