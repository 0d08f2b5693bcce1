"""What to change in a profiled run: named findings, each with evidence from the run and a predicted gain."""

from tracekit.analysis.findings.find import advised, find_findings

__all__ = ["advised", "find_findings"]
