"""A headless Chromium that reaches one folder and one trace on loopback, and nothing else."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, Route, sync_playwright

TRACE_URL = "/trace"
FLAGS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass
class Visit:
    """A page with what went wrong on it, and the addresses it was refused."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def chromium() -> str | None:
    """The system's Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def visit(folder: Path, trace: Path, width: int = 1600, height: int = 1000) -> Iterator[Visit]:
    """A page that may ask for the folder's files and, at `TRACE_URL`, for the trace; every other request is refused."""
    handler = type("Handler", (_Handler,), {"trace": trace})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            context = browser.new_context(viewport={"width": width, "height": height}, service_workers="block")
            here = Visit(context.new_page(), origin)
            context.route("**/*", functools.partial(_answer, here))
            here.page.on("pageerror", lambda error: here.errors.append(str(error)))
            yield here
            browser.close()
    finally:
        server.shutdown()
        server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    trace: Path

    def translate_path(self, path: str) -> str:
        return str(self.trace) if urlsplit(path).path == TRACE_URL else super().translate_path(path)

    def guess_type(self, path: Any) -> str:
        # A trace's own type would tempt the browser to unpack it.
        return "application/octet-stream" if str(path) == str(self.trace) else super().guess_type(path)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _answer(here: Visit, route: Route) -> None:
    url = route.request.url
    if url.startswith((here.origin + "/", "blob:", "data:")):
        route.continue_()
    else:
        here.refused.append(url)
        route.abort()
