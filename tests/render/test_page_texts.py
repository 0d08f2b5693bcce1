"""What pages say, as a reader without scripts, styles and pictures has it: golden texts of a small run's."""

from __future__ import annotations

import dataclasses

from builders import build_run
from golden import assert_golden, page_text
from test_comparison_text import make_comparison

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.report import build_report
from tracekit.model.finding import Basis, Finding, Gain
from tracekit.render.html import render_report
from tracekit.render.html.comparison import render_comparison_page

S = 10**9


def test_the_reports_text() -> None:
    timeline = build_timeline(dataclasses.replace(build_run(), path="runs/one"))
    summary = summarize(timeline)
    summary.findings = [
        Finding(
            slug="pageable-memory", title="Page-lock the weights", evidence="every copy is staged",
            gains=[Gain(28, S, 2 * S)], basis=Basis.PREDICTED, cost="22.4 GiB",
            command="tracekit profile X --host-memory pinned", code="pin(pipe)",
        ),
    ]  # fmt: skip
    # Without a plan: what is predicted is no matter of the page's.
    assert_golden("report.txt", page_text(render_report(build_report([(timeline, summary, None)]))))


def test_the_comparisons_text() -> None:
    assert_golden("comparison-page.txt", page_text(render_comparison_page(make_comparison())))
