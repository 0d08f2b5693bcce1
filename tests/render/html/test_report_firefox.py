"""The report in Firefox: the policy lets its scripts and styles in, and every chart is drawn."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from firefox import firefox, session

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(firefox() is None, reason="no Firefox: apt-get install firefox-esr"),
]


def test_firefox_draws_every_chart(page_file: Path, tmp_path: Path) -> None:
    with session(tmp_path / "profile") as browser:
        browser.ask("WebDriver:Navigate", {"url": page_file.as_uri()})
        deadline = time.monotonic() + 60
        while not browser.evaluate("document.documentElement.dataset.ready"):
            assert time.monotonic() < deadline, browser.evaluate("document.body.innerText.slice(0, 2000)")
            time.sleep(0.2)
        assert browser.evaluate("document.querySelector('h1').textContent").endswith("step.")
        plots = browser.evaluate("[...document.querySelectorAll('.plot')].map(plot => plot.dataset.figure)")
        drawn = browser.evaluate(
            "[...document.querySelectorAll('.plot')]"
            ".filter(plot => plot.querySelector('.point, .js-line, .heatmaplayer image'))"
            ".map(plot => plot.dataset.figure)"
        )
        assert len(plots) >= 6
        assert drawn == plots
        assert browser.evaluate("getComputedStyle(document.querySelector('.card')).borderRadius") == "12px"
        assert browser.evaluate("document.querySelectorAll('table.modules tbody tr').length") == 20
