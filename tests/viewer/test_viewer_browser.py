"""The pages in a real browser: the trace in the Perfetto UI, a link to a moment, the report, other origins."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from builders import build_run, write_run
from perfetto.browser import FLAGS, chromium
from perfetto.ui import LOADING_S
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sites import traced_site

from tracekit.api import Run
from tracekit.viewer import Viewer, report_site, trace_site

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium"),
]

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
READY = "() => !!(window.app && app.trace && !app.isLoadingTrace)"
TRACKS = "() => app.trace.workspace.flatTracks.map(track => track.name)"
WINDOW = """() => {
  const {start, end} = app.trace.timeline.visibleWindow.toTimeSpan();
  return [String(start), String(end)];
}"""
FETCH_ALL = """async names => {
  const missing = [];
  for (const name of names) {
    try { const reply = await fetch(name); await reply.arrayBuffer(); if (!reply.ok) missing.push(name); }
    catch { missing.push(name); }
  }
  return missing;
}"""
READ = """async ([url, mode]) => {
  try { return (await fetch(url, {mode})).type; } catch { return null; }
}"""
FRAME = "src => document.body.append(Object.assign(document.createElement('iframe'), {src}))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    # No routes: they would turn the browser's cache off, which the UI needs after the server's end.
    context = browser.new_context()
    yield context.new_page()
    context.close()


def until_ready(page: Page) -> None:
    page.wait_for_function(READY, timeout=LOADING_S * 1000)


def test_the_ui_has_everything_when_the_server_ends_by_itself(page: Page, tmp_path: Path) -> None:
    site, _ = traced_site(tmp_path)
    files = [name.removeprefix("ui/") for name, resource in site.resources.items() if resource.kept]
    answered: list[str] = []
    page.on("response", lambda response: answered.append(response.url))
    with Viewer(site, grace_s=0.1) as viewer:
        page.goto(viewer.url)
        done = threading.Thread(target=viewer.wait)
        done.start()
        while done.is_alive():
            page.wait_for_timeout(50)
    tracks = page.evaluate(TRACKS)
    assert {"main 4242", "stream 7", "host: FluxPipeline, sequential 4242"} <= set(tracks)
    assert page.evaluate("() => Number(app.trace.traceInfo.importErrors)") == 0
    assert page.title().startswith("a-run")
    assert len(files) > 20
    assert page.evaluate(FETCH_ALL, files) == []
    assert {url for url in answered if not url.startswith((f"http://127.0.0.1:{viewer.port}/", "data:"))} == set()


def test_a_link_to_a_moment_shows_that_moment(page: Page, tmp_path: Path) -> None:
    site, timeline = traced_site(tmp_path)
    step = timeline.steps.iloc[1]
    base = int(timeline.run.spans["start_ns"].min())
    with Viewer(site) as viewer:
        page.goto(f"{viewer.root}/viewer?start={step['start_ns']}&end={step['end_ns']}")
        until_ready(page)
        page.wait_for_function(f"() => ({WINDOW})()[0] !== '0'")
        assert page.evaluate(WINDOW) == [str(step["start_ns"] - base), str(step["end_ns"] - base)]


def test_a_report_leads_to_its_moments_and_serves_until_it_is_closed(page: Page, tmp_path: Path) -> None:
    run = Run(write_run(tmp_path / "run", build_run()))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    traced = trace_site(run.write_trace(), "a run", run.manifest.clock)
    with Viewer(report_site(run.to_html().encode(), [traced]), grace_s=0.1) as viewer:
        done = threading.Thread(target=viewer.wait)
        done.start()
        page.goto(viewer.url)
        page.locator(".plot svg").first.wait_for()
        with page.context.expect_page() as opened:
            page.locator("#open-trace").click()
        until_ready(opened.value)
        assert "stream 7" in opened.value.evaluate(TRACKS)
        opened.value.close()

        moment = page.locator("a.moment[href*='start=']").first
        start, end = (int(moment.get_attribute(f"data-{side}-ns") or "") for side in ("start", "end"))
        with page.context.expect_page() as opened:
            moment.evaluate("link => link.click()")
        until_ready(opened.value)
        opened.value.wait_for_function(f"() => ({WINDOW})()[0] !== '0'")
        base = int(run.spans["start_ns"].min())
        assert opened.value.evaluate(WINDOW) == [str(start - base), str(end - base)]
        opened.value.close()

        page.wait_for_timeout(300)
        assert done.is_alive()
        assert problems == []
        page.close()
        done.join(20)
        assert not done.is_alive()


def test_a_page_of_another_origin_gets_nothing(page: Page, tmp_path: Path) -> None:
    """Even one that knows the whole address: by script, as a frame, and by a link."""
    site, _ = traced_site(tmp_path)
    with Viewer(site) as viewer, other_origin(viewer.root) as other:
        page.goto(other)
        assert [page.evaluate(READ, [f"{viewer.root}/trace/a-run", mode]) for mode in ("cors", "no-cors")] == [
            None,
            None,
        ]
        with page.expect_response(f"{viewer.root}/ui/") as framed:
            page.evaluate(FRAME, f"{viewer.root}/ui/")
        assert framed.value.status == 403
        with page.expect_response(viewer.url) as linked:
            page.get_by_text("a link").click()
        assert linked.value.status == 403
        expect(page.locator("body")).to_contain_text("paste the address")


@contextmanager
def other_origin(root: str) -> Iterator[str]:
    """A page on another port of 127.0.0.1 that links to this address."""
    body = f'<a href="{root}/viewer">a link</a>'.encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.mark.skipif(FIREFOX is None, reason="no Firefox: apt-get install firefox-esr")
def test_firefox_gets_everything_too(tmp_path: Path) -> None:
    """The server ends by itself while Firefox is still open: its page has the trace and all files."""
    site, _ = traced_site(tmp_path)
    with Viewer(site, grace_s=0.1) as viewer:
        command = [str(FIREFOX), "--headless", "--no-remote", "--profile", str(tmp_path), viewer.url]
        with subprocess.Popen(command, env=os.environ | {"HOME": str(tmp_path)}, stderr=subprocess.DEVNULL) as firefox:
            done = threading.Thread(target=viewer.wait, daemon=True)
            done.start()
            done.join(LOADING_S)
            assert firefox.poll() is None
            firefox.terminate()
        assert not done.is_alive()
