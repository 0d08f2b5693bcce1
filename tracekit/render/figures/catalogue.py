"""Which charts a run has data for, and those of several runs together, by name."""

from __future__ import annotations

from tracekit.model.report import Report, RunReport
from tracekit.render.figures.bandwidth import bandwidth_figure
from tracekit.render.figures.causes import steps_figure, waterfall_figure
from tracekit.render.figures.common import Figure
from tracekit.render.figures.heat import heat_figures
from tracekit.render.figures.memory import memory_figure
from tracekit.render.figures.residency import residency_figures
from tracekit.render.figures.totals import totals_figure


def run_figures(run: RunReport) -> dict[str, Figure]:
    """``waterfall``, ``steps``, ``heat-<quantity>``, ``residency-<window>``, ``bandwidth``, ``memory``.

    As far as the run has data.
    """
    figures: dict[str, Figure] = {}
    if run.first is not None and run.warm is not None:
        figures["waterfall"] = waterfall_figure(run.first, run.warm)
    if run.steps:
        figures["steps"] = steps_figure([run])
    if run.heat is not None:
        figures |= {f"heat-{name}": figure for name, figure in heat_figures(run.heat).items()}
    if run.residency is not None:
        figures |= {f"residency-{key}": figure for key, figure in residency_figures(run.residency).items()}
    if run.copies:
        figures["bandwidth"] = bandwidth_figure(run.copies, run.summary.ceilings)
    if run.memory is not None:
        figures["memory"] = memory_figure(run.memory, run.steps)
    return figures


def comparison_figures(report: Report) -> dict[str, Figure]:
    """``totals`` for one run or several, and ``all-steps`` for several: as far as they have data."""
    figures: dict[str, Figure] = {}
    if report.totals:
        figures["totals"] = totals_figure(report.totals)
    if len(report.runs) > 1 and any(run.steps for run in report.runs):
        figures["all-steps"] = steps_figure([run for run in report.runs if run.steps])
    return figures
