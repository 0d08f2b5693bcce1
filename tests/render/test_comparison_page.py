"""A comparison's page in a real browser: accessible, whole, and without a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from paper import assert_prints
from perfetto.browser import FLAGS, chromium
from playwright.sync_api import sync_playwright
from test_comparison_text import make_comparison

from tracekit.model.compare import ModuleChanges, Setting
from tracekit.render.html.comparison import render_comparison_page

HOSTILE = "</td><script>document.title = 'taken'</script><img src=//evil.example onerror=alert(1)>"


def test_it_holds_every_figure_and_is_always_the_same() -> None:
    comparison = make_comparison(fail_above=0.05, regressions=["warm step: +21.7%"])
    page = render_comparison_page(comparison)
    assert page == render_comparison_page(comparison)
    for text in (
        "-3.26 s to -3.00 s",
        "pageable staging",
        "single_transformer_blocks.40.proj_out",
        "3.00 GiB",
        "+21.7%",
    ):
        assert text in page


def test_what_is_the_same_is_said_to_be() -> None:
    modules = ModuleChanges(compared=656, less=0, more=0, changed=[])
    page = render_comparison_page(make_comparison(configuration=[], modules=modules, warm_causes=[], first_causes=[]))
    assert "Both sides have the same configuration." in page
    assert "No module&#39;s copies differ beyond noise (656 compared)." in page


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium")
@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (420, "dark")])
def test_it_is_accessible_fits_and_asks_for_nothing(tmp_path: Path, width: int, theme: Any) -> None:
    settings = [Setting(name=HOSTILE, base=HOSTILE, other="x" * 300)]
    file = tmp_path / "page.html"
    file.write_text(render_comparison_page(make_comparison(configuration=settings, verdict=HOSTILE)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        assert page.title() == "Comparison · tracekit"
        assert page.locator("h1").inner_text() == HOSTILE
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
        assert said == []
        assert [found["id"] for found in Axe().run(page).response["violations"]] == []
        assert_prints(page)
        browser.close()
