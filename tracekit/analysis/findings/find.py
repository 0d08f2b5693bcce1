"""Ask every rule about a run, and rank what they found by the time it saves."""

from __future__ import annotations

from tracekit.analysis.findings.case import Case
from tracekit.analysis.findings.rules import RULES
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.errors import UsageError
from tracekit.model import Summary, Timeline
from tracekit.model.report import Finding


def find_findings(timeline: Timeline, summary: Summary) -> list[Finding]:
    """What to change in a run, the largest gain first, unknown gains last; nothing where nothing can be predicted."""
    try:
        case = Case(timeline, summary, Predictor(timeline))
    except UsageError:
        return []
    found = [finding for rule in RULES if (finding := rule(case)) is not None]
    return sorted(found, key=lambda finding: -(finding.low_ns or 0))
