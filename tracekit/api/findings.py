"""What to change in a run, with evidence and the predicted gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekit.api.run import Run

if TYPE_CHECKING:
    from tracekit.model.report import Finding


def findings(run: Run) -> list[Finding]:
    """The named findings of a run, the largest gain first; none where the run has no device records."""
    from tracekit.analysis.findings import find_findings

    return find_findings(run.timeline, run.summary())
