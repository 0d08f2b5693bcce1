"""Opens a trace in chrome://tracing's viewer (Catapult), which ships beside the Perfetto UI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perfetto.browser import TRACE_URL, visit
from perfetto.engine import TraceError, ui_build

_VIEWER = "document.querySelector('x-profiling-view')"
_MODEL = f"({_VIEWER}.timelineView_ || {_VIEWER}.timelineView || {{}}).model"
_LOAD = f"""async url => {{
  const bytes = await (await fetch(url)).arrayBuffer(), gzipped = new Uint8Array(bytes)[0] === 0x1f;
  {_VIEWER}.setActiveTrace('trace', gzipped ? bytes : new TextDecoder().decode(bytes));
}}"""
_LOADED = f"() => {{ const model = {_MODEL}; return model && model.bounds && !model.bounds.isEmpty; }}"
_COUNTS = f"""() => {{
  const model = {_MODEL}, processes = model.getAllProcesses();
  const threads = processes.flatMap(process => Object.values(process.threads));
  return {{
    processes: processes.map(process => process.name),
    threads: threads.map(thread => thread.name),
    slices: threads.reduce((sum, thread) => sum + thread.sliceGroup.length, 0),
    counters: processes.reduce((sum, process) => sum + Object.keys(process.counters).length, 0),
    flows: model.flowEvents.length,
    warnings: model.importWarnings.map(warning => `${{warning.type}}: ${{warning.message}}`),
  }};
}}"""


def open_in_catapult(trace: Path, picture: Path | None = None) -> dict[str, Any]:
    """What the viewer's model holds: names of processes and threads, counts of the rest, import warnings.

    Raises:
        TraceError: an error on the page.
    """
    with visit(ui_build(), trace) as here:
        here.page.goto(f"{here.origin}/assets/catapult_trace_viewer.html")
        here.page.wait_for_function(f"() => {_VIEWER} && {_VIEWER}.setActiveTrace")
        here.page.evaluate(_LOAD, TRACE_URL)
        here.page.wait_for_function(_LOADED, timeout=60_000)
        counts: dict[str, Any] = here.page.evaluate(_COUNTS)
        if picture is not None:
            here.page.wait_for_timeout(1_000)
            here.page.screenshot(path=picture)
        if here.errors:
            raise TraceError(f"chrome://tracing: {here.errors}")
        return counts
