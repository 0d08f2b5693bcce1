"""Charts of an experiment: what each hypothesis' cause costs, and the arms beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracekit.model.experiment import ArmRow, Effect, ExperimentSummary, HypothesisRow, Verdict, Window
from tracekit.render.figures.common import Figure, figure, plain
from tracekit.units import DurationUnit

_MARKS = {
    Verdict.SUPPORTED: ("disk", "circle"),
    Verdict.REFUTED: ("compute", "square"),
    Verdict.CANNOT_TELL: ("waiting", "diamond-open"),
}
"""Colour and symbol of each verdict."""


def experiment_figures(summary: ExperimentSummary) -> dict[str, Figure]:
    """``effects``, ``every`` and ``arms``, as far as anything has finished."""
    figures = {}
    for name, window, title in (
        ("effects", Window.EXCESS, "of step 1 beyond a warm step"),
        ("every", Window.WARM, "of every warm step"),
    ):
        effects = [(row, row.effect(window)) for row in summary.hypotheses]
        judged = [(row, effect) for row, effect in effects if effect.mean_ns is not None]
        if judged:
            figures[name] = _effects(judged, title)
    arms = [arm for arm in summary.arms if arm.first_ns is not None]
    if arms:
        figures["arms"] = _arms(arms)
    return figures


def _effects(judged: Sequence[tuple[HypothesisRow, Effect]], title: str) -> Figure:
    unit = DurationUnit.fitting(max(abs(effect.high_ns or effect.mean_ns or 0) for _, effect in judged))
    data = []
    for verdict, (colour, symbol) in _MARKS.items():
        own = [(row, effect) for row, effect in judged if effect.verdict == verdict]
        if own:
            data.append(_dots(own, unit, verdict, colour, symbol))
    zero = {
        "type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": 0, "x1": 0, "line": {"color": "@bound", "width": 1.5},
    }  # fmt: skip
    names = [plain(row.hypothesis) for row, _ in judged]
    return figure(
        data,
        f"{unit.name} {title}",
        "",
        height=110 + 36 * len(judged),
        showlegend=True,
        shapes=[zero],
        margin={"l": 170},
        yaxis={
            "type": "category",
            "categoryorder": "array",
            "categoryarray": names[::-1],
            "tickfont": {"color": "@ink"},
        },
    )


def _dots(
    own: Sequence[tuple[HypothesisRow, Effect]], unit: DurationUnit, verdict: Verdict, colour: str, symbol: str
) -> dict[str, Any]:
    means = [effect.mean_ns or 0 for _, effect in own]
    highs = [mean if effect.high_ns is None else effect.high_ns for (_, effect), mean in zip(own, means, strict=True)]
    lows = [mean if effect.low_ns is None else effect.low_ns for (_, effect), mean in zip(own, means, strict=True)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": str(verdict),
        "x": [unit.value(mean) for mean in means],
        "y": [plain(row.hypothesis) for row, _ in own],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [unit.value(high - mean) for high, mean in zip(highs, means, strict=True)],
            "arrayminus": [unit.value(mean - low) for low, mean in zip(lows, means, strict=True)],
            "color": f"@{colour}",
            "thickness": 2,
        },
        "marker": {"color": f"@{colour}", "symbol": symbol, "size": 12},
        "hovertemplate": f"%{{y}}: %{{x:.3~g}} {unit.name}<extra>{verdict}</extra>",
    }


def _arms(arms: Sequence[ArmRow]) -> Figure:
    unit = DurationUnit.fitting(max(arm.first_ns or 0 for arm in arms))
    names = [plain(arm.arm) for arm in arms]
    series = (
        ("step 1", "disk", "x", [arm.first_ns for arm in arms]),
        ("warm step", "staging", "", [arm.warm_ns for arm in arms]),
    )
    data = [
        {
            "type": "bar",
            "name": name,
            "x": names,
            "y": [None if value is None else unit.value(value) for value in values],
            "customdata": ["" if value is None else unit.text(value) for value in values],
            "marker": {
                "color": f"@{colour}",
                "pattern": {"shape": shape, "fillmode": "overlay", "fgcolor": "@card", "fgopacity": 0.4},
            },
            "hovertemplate": f"%{{x}}, {name}: %{{customdata}} {unit.name}<extra></extra>",
        }
        for name, colour, shape, values in series
    ]
    return figure(data, "", unit.name, 360, barmode="group", bargap=0.3, showlegend=True, margin={"b": 90})
