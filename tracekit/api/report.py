"""One report of several runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tracekit.api.run import Run


def report_page(runs: Sequence[Run]) -> str:
    """The report of one run or several: an HTML page that needs no network and no other file."""
    from tracekit.analysis.report import build_report
    from tracekit.render.html import render_report

    return render_report(build_report([(run.timeline, run.summary()) for run in runs]))


def write_page(page: str, path: Path) -> Path:
    """Write a page as a file, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    from tracekit.render.files import write_file

    content = page.encode()
    write_file(path, lambda stream: stream.write(content))
    return path
