"""What pages say, as a reader without scripts, styles and pictures has it: golden texts of a small run's."""

from __future__ import annotations

import dataclasses
import html
import re

from builders import build_run
from golden import assert_golden
from test_comparison_text import make_comparison

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.report import build_report
from tracekit.model.finding import Basis, Finding, Gain
from tracekit.render.html import render_report
from tracekit.render.html.comparison import render_comparison_page

S = 10**9
CELL = re.compile(r"</(?:td|th|dt)>")
BLOCK = re.compile(r"</?(?:p|h\d|li|tr|div|section|dd|pre|summary|caption|label|button)\b[^>]*>")
TAG = re.compile(r"<[^>]*>")


def text_of(page: str) -> str:
    """The text of a page's main part, a line a block, cells apart."""
    main = page.partition("<main")[2].partition(">")[2].partition("</main>")[0]
    lines = BLOCK.sub("\n", CELL.sub(" | ", main)).splitlines()
    texts = (" ".join(html.unescape(TAG.sub(" ", line)).split()).strip(" |") for line in lines)
    return "\n".join(text for text in texts if text) + "\n"


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
    assert_golden("report.txt", text_of(render_report(build_report([(timeline, summary, None)]))))


def test_the_comparisons_text() -> None:
    assert_golden("comparison-page.txt", text_of(render_comparison_page(make_comparison())))
