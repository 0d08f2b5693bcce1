"""Drives the real Perfetto UI: open a trace, ask its engine, select, zoom, take a picture."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perfetto.browser import TRACE_URL, Visit, visit
from perfetto.engine import Row, TraceError, ui_build

LOADING_S = 120

# `app` and `waitForPerfettoIdle` are the UI's own globals, which its integration tests use.
_STATE = """() => {
  const shown = [...document.querySelectorAll('.pf-modal-dialog, .modal-dialog')].map(e => e.innerText.trim());
  return {dialogs: shown.filter(Boolean), ready: !!(window.app && app.trace && !app.isLoadingTrace)};
}"""
_QUERY = """async sql => {
  const result = await app.trace.engine.query(sql), columns = result.columns(), rows = [];
  const plain = value => typeof value === 'bigint' ? Number(value) : value;
  for (const row = result.iter({}); row.valid(); row.next()) rows.push(columns.map(name => plain(row.get(name))));
  return JSON.stringify(rows);
}"""
_TRACKS = """() => {
  const names = [], walk = node => { for (const child of node.children) { names.push(child.name); walk(child); } };
  walk(app.trace.workspace.tracks ?? app.trace.workspace);
  return names;
}"""
_EXPAND = "() => { for (const track of app.trace.workspace.flatTracks) track.expand && track.expand(); }"
_SELECT = "id => app.trace.selection.selectSqlEvent('slice', id, {scrollToSelection: false})"
_ZOOM = """([start, end]) =>
  app.trace.scrollTo({time: {start: BigInt(start), end: BigInt(end), viewPercentage: 1}})"""


class PerfettoUI:
    """The UI with a trace open."""

    def __init__(self, here: Visit) -> None:
        self._page = here.page
        self.errors = here.errors
        self.refused = here.refused

    def query(self, sql: str) -> list[Row]:
        """Rows from the engine inside the page; integers beyond 2^53 lose their last digits."""
        rows: list[Row] = json.loads(self._page.evaluate(_QUERY, sql))
        return rows

    def tracks(self) -> list[str]:
        """The names of all tracks, groups included, in the order shown."""
        names: list[str] = self._page.evaluate(_TRACKS)
        return names

    def import_errors(self) -> int:
        """The number that the UI shows at its bell."""
        return int(self._page.evaluate("() => Number(app.trace.traceInfo.importErrors)"))

    def expand(self) -> None:
        """Open every group of tracks."""
        self._page.evaluate(_EXPAND)
        self.settle()

    def select(self, slice_id: int) -> str:
        """Select a slice; returns the text of its details."""
        self._page.evaluate(_SELECT, slice_id)
        self._page.get_by_text("Current Selection").first.wait_for()
        self.settle()
        return self._page.locator(".pf-drawer-panel, .details-panel-container, main").last.inner_text()

    def zoom(self, start_ns: int, end_ns: int) -> None:
        """Show this stretch of the engine's own time."""
        self._page.evaluate(_ZOOM, [str(start_ns), str(end_ns)])
        self.settle()

    def screenshot(self, path: Path) -> None:
        """Save what is seen."""
        self.settle()
        self._page.screenshot(path=path)

    def settle(self) -> None:
        """Wait until everything is drawn."""
        self._page.evaluate("() => { app.raf.scheduleFullRedraw(); return window.waitForPerfettoIdle(); }")


@contextmanager
def open_trace(trace: Path, **size: int) -> Iterator[PerfettoUI]:
    """The UI with this trace open.

    Raises:
        TraceError: the UI shows a dialog instead (its words), or is not ready after two minutes.
    """
    with visit(ui_build().parent, trace, **size) as here:
        here.page.goto(f"{here.origin}/#!/?url={here.origin}{TRACE_URL}&hideSidebar=true")
        deadline = time.monotonic() + LOADING_S
        while not (state := _state(here))["ready"]:
            if state["dialogs"] or time.monotonic() > deadline:
                raise TraceError(f"the UI did not open the trace: {state['dialogs'] or 'still loading'}")
            here.page.wait_for_timeout(50)
        ui = PerfettoUI(here)
        ui.settle()
        if dialogs := _state(here)["dialogs"]:
            raise TraceError(f"the UI shows a dialog: {dialogs}")
        yield ui


def _state(here: Visit) -> dict[str, Any]:
    state: dict[str, Any] = here.page.evaluate(_STATE)
    return state
