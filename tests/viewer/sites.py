"""A small site with a trace, and raw requests to a server: what browsers never send, too."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import NamedTuple

from builders import build_run

from tracekit.analysis.timeline import build_timeline
from tracekit.model import Timeline
from tracekit.render.chrome import write_chrome_trace
from tracekit.viewer import Site, Viewer, trace_site


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def write_trace(path: Path) -> Timeline:
    """A trace at this path, and what it is of."""
    timeline = build_timeline(build_run())
    with path.open("wb") as stream:
        write_chrome_trace(timeline, stream)
    return timeline


def traced_site(folder: Path) -> tuple[Site, Timeline]:
    timeline = write_trace(folder / "trace.json.gz")
    return trace_site(folder / "trace.json.gz", "a run", timeline.run.manifest.clock), timeline


def ask(viewer: Viewer, target: str, method: str = "GET", **headers: str) -> Reply:
    """The answer to a request for exactly this target; `Sec_Fetch_Site="..."` sets that header."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    try:
        connection.putrequest(method, target, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def path_of(viewer: Viewer, name: str) -> str:
    return f"{viewer.root.removeprefix(f'http://127.0.0.1:{viewer.port}')}/{name}"
