"""A run's charts by name, as plotly figures for notebooks and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tracekit.errors import UsageError

if TYPE_CHECKING:
    from tracekit.model.report import Report

Theme = Literal["light", "dark"]
Quantity = Literal["copy", "rate", "resident", "compute"]
Window = Literal["run", "first", "warm"]


class Figures:
    """The charts of a report with one run. Each raises UsageError where the run has no data for it."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def names(self) -> list[str]:
        """The charts that this run has data for."""
        return list(self._all())

    def waterfall(self, theme: Theme = "light") -> Any:
        """The way from a warm step to step 1, cause by cause."""
        return self._figure("waterfall", theme)

    def steps(self, theme: Theme = "light") -> Any:
        """Each step's wall time, stacked by cause."""
        return self._figure("steps", theme)

    def heat(self, quantity: Quantity = "copy", theme: Theme = "light") -> Any:
        """Modules against steps: copy time, GB/s, residency in the page cache, or kernel time."""
        return self._figure(f"heat-{quantity}", theme)

    def residency(self, window: Window = "run", theme: Theme = "light") -> Any:
        """Which blocks' weights are on the device when: in the whole run, in step 1 or in a warm step."""
        return self._figure(f"residency-{window}", theme)

    def bandwidth(self, theme: Theme = "light") -> Any:
        """Copies by size against what the link can do."""
        return self._figure("bandwidth", theme)

    def memory(self, theme: Theme = "light") -> Any:
        """Device memory over time."""
        return self._figure("memory", theme)

    def totals(self, theme: Theme = "light") -> Any:
        """Total time against the number of steps."""
        return self._figure("totals", theme)

    def _figure(self, name: str, theme: Theme) -> Any:
        from tracekit.render.notebook import plotly_figure

        figures = self._all()
        if name not in figures:
            raise UsageError(f"this run has no data for the chart {name!r}; it has some for {', '.join(figures)}")
        return plotly_figure(figures[name], theme)

    def _all(self) -> dict[str, dict[str, Any]]:
        from tracekit.render.figures import comparison_figures, run_figures

        return run_figures(self._report.runs[0]) | comparison_figures(self._report)
