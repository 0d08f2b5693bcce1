"""What the recorded rows mean: phases, transfers, exposed time, the summary and its verdict. Pure functions."""

from tracekit.analysis.summary import summarize
from tracekit.analysis.timeline import build_timeline

__all__ = ["build_timeline", "summarize"]
