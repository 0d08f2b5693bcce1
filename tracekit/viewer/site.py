"""What the server gives out: a fixed list of files and pages, by paths that are made here and never from a request."""

from __future__ import annotations

import html
import json
import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote

from tracekit.errors import UsageError
from tracekit.model import ClockInfo
from tracekit.viewer.perfetto import bundled_ui
from tracekit.viewer.timebase import trace_base_ns

VIEWER = "viewer"
REPORT = "report.html"
ALIVE = "alive"
"""The request that a page holds open for as long as it needs the server."""

_PAGES = Path(__file__).with_name("pages")
_UI_POLICY = (
    # The UI compiles its engine from WebAssembly and some of its tables from text; it asks nobody but this server.
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    " font-src 'self'; connect-src 'self' blob: data:; worker-src 'self' blob:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REPORT_POLICY = {
    "default-src": "'none'", "script-src": "'self'", "connect-src": "'self'", "base-uri": "'none'",
    "form-action": "'none'", "frame-ancestors": "'none'",
}  # fmt: skip
_POLICY_TAG = re.compile(rb'<meta\s+http-equiv="Content-Security-Policy"\s+content="([^"]*)"\s*/?>', re.IGNORECASE)
_END_OF_BODY = b"</body>"


@dataclass(frozen=True)
class Resource:
    """One thing to give out: a file, or bytes made before. `kept` may stay in the browser's cache."""

    content: Path | bytes
    content_type: str
    policy: str = "default-src 'none'; frame-ancestors 'none'"
    kept: bool = False


@dataclass(frozen=True)
class ServedTrace:
    """A trace by its name on the site. `base_ns` is CLOCK_MONOTONIC at its moment 0.

    None: it is not known, and links to moments show the whole.
    """

    name: str
    base_ns: int | None = None


@dataclass(frozen=True)
class Site:
    """Everything under the secret part of the address. `home` is the page to open first."""

    home: str
    resources: Mapping[str, Resource]
    traces: tuple[ServedTrace, ...]
    """In the order of the report's runs; none where a report stands alone."""

    def viewer_location(self, root: str, query: str) -> str:
        """Where the viewer is, for ``?run=..&start=..&end=..`` at that stretch of a run's trace, CLOCK_MONOTONIC ns.

        `root` is the site's address. A moment that is no pair of numbers in order is left out; without a run that
        there is, it is the first.
        """
        asked = parse_qs(query)
        run, start, end = (_number(asked.get(name, [""])[-1]) for name in ("run", "start", "end"))
        trace = self.traces[run if run is not None and run < len(self.traces) else 0]
        # Perfetto's documented deep links: url, and visStart and visEnd in the trace's own ns.
        arguments = f"url={quote(f'{root}/{trace.name}', safe='')}&hideSidebar=true"
        if trace.base_ns is not None and start is not None and end is not None and start < end:
            arguments += f"&visStart={max(0, start - trace.base_ns)}&visEnd={max(1, end - trace.base_ns)}"
        return f"{root}/ui/#!/?{arguments}"


def trace_site(trace: Path, title: str, clock: ClockInfo | None = None) -> Site:
    """A trace in the Perfetto UI. With the clock of the run that it is of, links to moments work.

    Raises:
        UsageError: there is no such file, or it is empty.
        MissingError: the UI is not installed.
    """
    try:
        size = trace.stat().st_size if trace.is_file() else 0
    except OSError as error:
        raise UsageError(f"cannot read {trace}: {error.strerror or error}") from error
    if not size:
        raise UsageError(f"{trace} is no trace: there is no such file, or nothing is in it")
    name = f"trace/{re.sub(r'[^A-Za-z0-9._-]+', '-', title).strip('-.') or 'trace'}"
    resources = _ui() | {name: Resource(trace, "application/octet-stream")}
    return Site(VIEWER, resources, (ServedTrace(name, trace_base_ns(trace, clock) if clock else None),))


def report_site(report: bytes, traced: Sequence[Site] = ()) -> Site:
    """A report to open first, whose links lead to moments of these sites' traces, in the order of its runs."""
    body, policy = _kept_alive(report)
    resources = {
        REPORT: Resource(body, "text/html; charset=utf-8", policy),
        "page.js": _script("page.js"),
    }
    traces = []
    for index, site in enumerate(traced):
        (own,) = site.traces
        # Folders of one name may lie in different places.
        name = own.name if len(traced) == 1 else f"trace/{index}/{own.name.removeprefix('trace/')}"
        resources |= {key: found for key, found in site.resources.items() if key != own.name}
        resources[name] = site.resources[own.name]
        traces.append(ServedTrace(name, own.base_ns))
    return Site(REPORT, resources, tuple(traces))


def _ui() -> dict[str, Resource]:
    """The UI's own files, and the page that starts it and fetches what it may ask for later."""
    ui = bundled_ui()
    files = {f"{ui.version}/{name}": path for name, path in ui.files.items()}
    page = (_PAGES / "viewer.html").read_text().replace("VERSION", html.escape(ui.version))
    return {
        "ui/": Resource(page.encode(), "text/html; charset=utf-8", _UI_POLICY),
        "ui/viewer.js": _script("viewer.js"),
        "ui/files.json": Resource(json.dumps(list(files)).encode(), "application/json"),
        **{f"ui/{name}": Resource(path, _content_type(path), _UI_POLICY, kept=True) for name, path in files.items()},
    }


def _kept_alive(report: bytes) -> tuple[bytes, str]:
    """The report with a script that tells when its page closes, and the policy that allows just this in addition."""
    tag = _POLICY_TAG.search(report)
    policy = _REPORT_POLICY
    if tag is not None:
        text = html.unescape(tag[1].decode("ascii", "replace"))
        own = dict(_directive(part) for part in text.split(";") if part.strip())
        scripts = own.get("script-src", "").replace("'none'", "")
        policy = own | _REPORT_POLICY | {"script-src": f"{scripts} 'self'"}
        report = report[: tag.start()] + report[tag.end() :]
    before, end, after = report.rpartition(_END_OF_BODY)
    script = b'<script src="page.js"></script>'
    body = before + script + end + after if end else report + script
    return body, "; ".join(f"{name} {words}".strip() for name, words in policy.items())


def _directive(text: str) -> tuple[str, str]:
    name, _, words = text.strip().partition(" ")
    # A header ends at a line's end.
    return name.lower(), " ".join(words.split())


def _script(name: str) -> Resource:
    return Resource((_PAGES / name).read_bytes(), "text/javascript; charset=utf-8")


def _content_type(path: Path) -> str:
    """By the name's ending, whatever the machine's own table says of the types that browsers insist on."""
    own = {".js": "text/javascript", ".wasm": "application/wasm", ".woff2": "font/woff2", ".json": "application/json"}
    return own.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,19}", text, re.ASCII) else None
