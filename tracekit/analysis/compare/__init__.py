"""Compare two runs, or two sets of repeats: settings, times and their causes, modules, memory. Pure functions."""

from tracekit.analysis.compare.compare import compare_runs, judged

__all__ = ["compare_runs", "judged"]
