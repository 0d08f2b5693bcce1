"""What to change in a profiled run: named findings, each with evidence from the run and a predicted gain."""

from tracekit.analysis.findings.find import find_findings

__all__ = ["find_findings"]
