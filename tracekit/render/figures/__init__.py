"""Charts of a report as plain plotly dictionaries, coloured by name: one source for the page, notebooks and tests."""

from tracekit.render.figures.catalogue import comparison_figures, run_figures
from tracekit.render.figures.palette import resolved

__all__ = ["comparison_figures", "resolved", "run_figures"]
