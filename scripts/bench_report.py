#!/usr/bin/env python
"""Measure reports of runs of any length: the page's size, the time to make it, and when a browser shows what.

    scripts/bench_report.py --copies 1000 100000 1000000 --output reports/report-size.md

The runs are built, not profiled: 1,001 copies a step. A page is opened five times in a headless Chromium from a file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from benchlib import markdown_table, where
from builders import build_large_run, build_run
from perfetto.browser import FLAGS, chromium
from playwright.sync_api import Browser, sync_playwright

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.prediction.planner import make_plan
from tracekit.analysis.report import build_report
from tracekit.model import DeviceInfo, RunData
from tracekit.render.html import render_report
from tracekit.units import format_bytes, format_duration

HEADER = (
    "copies", "page", "summary", "report data", "page made in", "first paint", "first chart", "CPU until then",
    "all charts",
)  # fmt: skip
OPENINGS = 5
FIRST_CHART = """() => new Promise(found => {
  const seen = () => setTimeout(() => found(performance.now()), 0);
  const there = () => document.querySelector('.plot[data-drawn]') ? requestAnimationFrame(seen) : setTimeout(there, 5);
  there();
})"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
INTRODUCTION = """# The size of a report, and how soon it shows

Limits: at most 1.2 MB, also for a million copies; the first chart under 1 s on an idle machine of 4 cores. The page's
own text is there before any script runs; of {openings} openings the median. Times of the browser count from the
navigation, and are wall time: where other work ran on the machine, they are upper bounds. "CPU until then" is the time
that the page's main thread worked until the first chart was seen, which other work does not lengthen much.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        rows = [measure(browser, copies) for copies in options.copies]
        version = browser.version
        browser.close()
    device = DeviceInfo(kind="none", name="runs built in memory", torch_device="")
    parts = (INTRODUCTION.format(openings=OPENINGS), where(device), f"Chromium {version}, headless. {load()}\n")
    text = "\n".join([*parts, markdown_table(HEADER, rows)]) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text)
    return 0


def load() -> str:
    """How much of the machine was wanted while this was measured, this script included."""
    return f"Load average at the end {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores."


def measure(browser: Browser, copies: int) -> list[str]:
    run = built(copies)
    started = time.perf_counter_ns()
    timeline = build_timeline(run)
    summary = summarize(timeline)
    summarized = time.perf_counter_ns()
    report = build_report([(timeline, summary, make_plan(timeline))])
    collected = time.perf_counter_ns()
    page = render_report(report)
    rendered = time.perf_counter_ns()
    spent = [summarized - started, collected - summarized, rendered - collected]
    return [
        f"{len(run.copies):,}",
        format_bytes(len(page.encode())),
        *map(format_duration, spent),
        *(format_duration(1e6 * milliseconds) for milliseconds in shown(browser, page)),
    ]


def built(copies: int) -> RunData:
    return build_run(steps=10, blocks=12) if copies <= 1_000 else build_large_run(copies)


def shown(browser: Browser, page: str) -> list[float]:
    """Milliseconds to the first paint, the first chart (and of the main thread's work until then) and the last one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(page, encoding="utf-8")
        times = []
        for _ in range(OPENINGS):
            tab = browser.new_page(viewport={"width": 1440, "height": 900})
            devtools = tab.context.new_cdp_session(tab)
            devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
            tab.goto(file.as_uri(), wait_until="commit")
            first = tab.evaluate(FIRST_CHART)
            metrics = {item["name"]: item["value"] for item in devtools.send("Performance.getMetrics")["metrics"]}
            tab.wait_for_selector("html[data-ready]", state="attached")
            last = tab.evaluate("performance.now()")
            times.append((tab.evaluate(PAINT), first, 1_000 * metrics["TaskDuration"], last))
            tab.close()
    return [statistics.median(column) for column in zip(*times, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
