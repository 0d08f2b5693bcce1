"""One report of several runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracekit.api.run import Run


def report_page(runs: Sequence[Run]) -> str:
    """The report of one run or several: an HTML page that needs no network and no other file."""
    from tracekit.analysis.report import build_report
    from tracekit.render.html import render_report

    return render_report(build_report([run.reported() for run in runs]))
