"""What a page looks like on paper: nothing cut off, nothing dark, and nothing to press."""

from __future__ import annotations

from playwright.sync_api import Page

PAPER_PX = 703
"""What A4 has between margins of 12 mm, at 96 pixels an inch."""
_CONTROLS = "nav, input, summary, .skip, button:not(th button)"
_WIDTHS = "[...document.querySelectorAll('.plot')].map(plot => [plot.clientWidth, plot.firstChild.scrollWidth])"
_OPEN = "document.querySelectorAll('details').forEach(details => { details.open = true; })"
_CUT = """[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth)
    .map(box => box.ariaLabel)"""


def assert_prints(page: Page) -> None:
    """The page, drawn for a wide and dark screen, fits on A4; it is left as it is printed."""
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    for available, drawn in page.evaluate(_WIDTHS):
        assert drawn == available <= PAPER_PX
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": PAPER_PX, "height": 1000})
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    shown = page.locator(_CONTROLS).filter(visible=True)
    assert shown.evaluate_all("controls => controls.map(control => control.outerHTML)") == []
    page.evaluate(_OPEN)
    assert page.evaluate(_CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth") == PAPER_PX
