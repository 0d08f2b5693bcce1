"""The frame that a notebook gets: the page as escaped text in it, without a right to the notebook's own."""

from __future__ import annotations

from golden import assert_golden

from tracekit.render.notebook import isolated


def test_golden() -> None:
    assert_golden("notebook.html", isolated("<!doctype html>\n<p title=\"a 'b'\">1 &lt; 2</p>\n</iframe>") + "\n")
