"""What a notebook's cell shows, in a real browser: the report, in a frame that cannot touch the page around it."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import build_run, write_run
from perfetto.browser import FLAGS, chromium
from playwright.sync_api import sync_playwright

from tracekit.api import Run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium"),
]


def test_the_report_is_shown_and_isolated(tmp_path: Path) -> None:
    run = Run(write_run(tmp_path / "run", build_run()))
    cell = f"<!doctype html><title>notebook</title><div id=cell>{run._repr_html_()}</div>"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page()
        problems: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.set_content(cell)
        frame = page.frame_locator("iframe")
        frame.locator(".plot svg").first.wait_for()
        assert run.summary().verdict in " ".join(frame.locator("body").inner_text().split())
        (inner,) = page.frames[1:]
        assert (
            inner.evaluate("() => { try { return parent.document.title; } catch { return 'refused'; } }") == "refused"
        )
        assert inner.evaluate("() => self.origin") == "null"
        assert [url for url in asked if not url.startswith(("data:", "blob:", "about:"))] == []
        assert problems == []
        browser.close()
