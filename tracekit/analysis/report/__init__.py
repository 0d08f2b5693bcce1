"""What a report shows of one run or several, drawn from their timelines and summaries. Pure functions."""

from tracekit.analysis.report.build import build_report

__all__ = ["build_report"]
