"""Report pages in a headless Chromium that may read the page's file and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfetto.browser import FLAGS, chromium
from playwright.sync_api import Page, sync_playwright

READY = "html[data-ready]"


@dataclass
class Opened:
    """A page, what its console said, and every address that it asked for."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def spaced(page: str) -> str:
    """The page with plain spaces, also where no line may end."""
    return page.replace("\N{NO-BREAK SPACE}", " ")


@contextmanager
def opened(file: Path, width: int = 1440, theme: Any = "light", *, scripts: bool = True) -> Iterator[Opened]:
    """The page with all its charts drawn; with `scripts` off as it is."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, java_script_enabled=scripts
        )
        here = Opened(context.new_page())
        here.page.on("console", lambda message: here.console.append(message.text))
        here.page.on("pageerror", lambda error: here.console.append(str(error)))
        here.page.on("request", lambda request: here.requests.append(request.url))
        here.page.goto(file.as_uri())
        if scripts:
            here.page.wait_for_selector(READY, state="attached")
        yield here
        browser.close()
