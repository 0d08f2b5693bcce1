"""The server on real connections: what it gives, what it refuses, and when it ends."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sites import ask, path_of, traced_site, write_trace

from tracekit.errors import UsageError
from tracekit.model import Timeline
from tracekit.viewer import Viewer, report_site, trace_site

REPORT = (
    b'<!doctype html><html><head><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    b"script-src 'sha256-abc='; style-src 'unsafe-inline'\"><title>t</title></head><body><p>report</p></body></html>"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Viewer, Timeline]]:
    folder = tmp_path_factory.mktemp("run")
    site, timeline = traced_site(folder)
    with Viewer(report_site(REPORT, [site])) as viewer:
        yield viewer, timeline


@pytest.fixture(scope="module")
def viewer(served: tuple[Viewer, Timeline]) -> Viewer:
    return served[0]


def test_it_listens_on_loopback_alone(viewer: Viewer) -> None:
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    own = [row[1] for row in listening if row[3] == "0A" and int(row[1].partition(":")[2], 16) == viewer.port]
    assert own == [f"0100007F:{viewer.port:04X}"]
    six = [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    assert not [row for row in six if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == viewer.port]


def test_every_server_has_an_address_of_its_own(viewer: Viewer, tmp_path: Path) -> None:
    site, _ = traced_site(tmp_path)
    with Viewer(site) as other:
        assert urlsplit(other.url).path.split("/")[1] != urlsplit(viewer.url).path.split("/")[1]
        assert len(urlsplit(other.url).path.split("/")[1]) >= 20


@pytest.mark.parametrize(
    ("name", "content_type", "kept"),
    [
        ("report.html", "text/html; charset=utf-8", False),
        ("trace/a-run", "application/octet-stream", False),
        ("ui/", "text/html; charset=utf-8", False),
        ("ui/viewer.js", "text/javascript; charset=utf-8", False),
    ],
)
def test_its_own_pages_have_their_types_and_are_not_kept(
    viewer: Viewer, name: str, content_type: str, kept: bool
) -> None:
    reply = ask(viewer, path_of(viewer, name))
    assert (reply.status, reply.headers["Content-Type"]) == (200, content_type)
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
    assert not [header for header in reply.headers if header.lower().startswith("access-control")]


def test_the_viewers_files_are_given_with_their_types(viewer: Viewer) -> None:
    names = json.loads(ask(viewer, path_of(viewer, "ui/files.json")).body)
    types = {name: ask(viewer, path_of(viewer, f"ui/{name}"), "HEAD").headers["Content-Type"] for name in names}
    by_ending = {name.rpartition(".")[2]: kind for name, kind in types.items()}
    assert by_ending["js"] == "text/javascript"
    assert by_ending["wasm"] == "application/wasm"  # browsers do not compile it while it comes otherwise
    assert by_ending["woff2"] == "font/woff2"
    assert by_ending["css"] == "text/css"


def test_the_trace_comes_as_it_is(viewer: Viewer, tmp_path: Path) -> None:
    write_trace(tmp_path / "same.json.gz")
    whole = ask(viewer, path_of(viewer, "trace/a-run"))
    assert whole.body == (tmp_path / "same.json.gz").read_bytes()
    head = ask(viewer, path_of(viewer, "trace/a-run"), "HEAD")
    assert (head.headers["Content-Length"], head.body) == (str(len(whole.body)), b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Origin": "https://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("name", ["trace/a-run", "report.html", "viewer", "alive"])
def test_other_origins_and_hosts_are_refused(viewer: Viewer, headers: dict[str, str], name: str) -> None:
    reply = ask(viewer, path_of(viewer, name), **headers)
    assert reply.status == 403
    assert b"report" not in reply.body


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE"])
def test_only_reading_is_answered(viewer: Viewer, method: str) -> None:
    assert ask(viewer, path_of(viewer, "report.html"), method).status == 403


@pytest.mark.parametrize(
    "name",
    [
        "", "/", ".", "..", "trace", "trace/", "trace/a-run/", "trace/../report.html", "trace/%61-run", "ui", "ui/..",
        "ui/../../../../../../../etc/passwd", "ui/..%2f..%2f..%2fetc%2fpasswd", "ui/%2e%2e/report.html", "//etc/passwd",
        "trace.json.gz", "manifest.json", "ui/index.html%00.js", "report.html;x", "REPORT.HTML",
    ],
)  # fmt: skip
def test_what_is_not_in_the_list_is_not_there(viewer: Viewer, name: str) -> None:
    assert ask(viewer, path_of(viewer, name)).status == 404


@given(st.text("./%\\\\2e5cf~abtracejson", min_size=1, max_size=40))
def test_no_spelling_of_a_path_finds_another_file(viewer: Viewer, name: str) -> None:
    assert ask(viewer, path_of(viewer, f"ui/{name}")).status == 404


def test_links_to_a_moment_lead_to_it_in_the_traces_own_time(served: tuple[Viewer, Timeline]) -> None:
    viewer, timeline = served
    base = int(timeline.run.spans["start_ns"].min())
    reply = ask(viewer, path_of(viewer, f"viewer?start={base + 1_000}&end={base + 5_000}"))
    assert reply.status == 303
    assert reply.headers["Location"].startswith(f"{viewer.root}/ui/#!/?url=http%3A%2F%2F127.0.0.1%3A{viewer.port}%2F")
    assert reply.headers["Location"].endswith("&visStart=1000&visEnd=5000")


def test_a_run_of_several_is_found_by_its_place(tmp_path: Path) -> None:
    sites = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sites.append(traced_site(tmp_path / name)[0])
    both = report_site(REPORT, sites)
    assert "trace%2F1%2Fa-run" in both.viewer_location("http://x", "run=1")
    for query in ("", "run=0", "run=7", "run=x", "run=-1"):
        assert "trace%2F0%2Fa-run" in both.viewer_location("http://x", query)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?start=1",
        "?start=x&end=y",
        "?start=9&end=3",
        "?start=-5&end=5",
        "?start=1&end=2%0d%0aSet-Cookie:a",
        "?" + "9" * 50,
    ],
)
def test_what_is_no_moment_shows_the_whole(viewer: Viewer, query: str) -> None:
    reply = ask(viewer, path_of(viewer, f"viewer{query}"))
    assert (reply.status, "visStart" in reply.headers["Location"], "Set-Cookie" in reply.headers) == (303, False, False)


def test_a_report_keeps_its_policy_and_may_ask_its_server_alone(viewer: Viewer) -> None:
    reply = ask(viewer, path_of(viewer, "report.html"))
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].split() == ["'sha256-abc='", "'self'"]
    assert policy["style-src"] == "'unsafe-inline'"
    assert policy["connect-src"] == "'self'"
    assert reply.body.count(b"Content-Security-Policy") == 0
    assert reply.body.endswith(b'<p>report</p><script src="page.js"></script></body></html>')


def test_a_report_without_a_policy_gets_a_strict_one(tmp_path: Path) -> None:
    site, _ = traced_site(tmp_path)
    with Viewer(report_site(b"<script>alert(1)</script>", [site])) as viewer:
        policy = ask(viewer, path_of(viewer, "report.html")).headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe-inline" not in policy


def test_a_trace_that_is_gone_meanwhile_is_not_found(tmp_path: Path) -> None:
    site, _ = traced_site(tmp_path)
    with Viewer(site) as viewer:
        (tmp_path / "trace.json.gz").unlink()
        assert ask(viewer, path_of(viewer, "trace/a-run")).status == 404


@pytest.mark.parametrize("content", [b"", None])
def test_a_trace_that_is_none_is_said_to_be_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "trace.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"trace.json is no trace"):
        trace_site(path, "x")


def test_a_taken_port_is_named(viewer: Viewer, tmp_path: Path) -> None:
    site, _ = traced_site(tmp_path)
    with pytest.raises(UsageError, match=f"port {viewer.port}"):
        Viewer(site, viewer.port)


@contextlib.contextmanager
def page(viewer: Viewer) -> Iterator[None]:
    """A page that needs the server, as its request that does not end."""
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=20) as connection:
        request = f"GET {path_of(viewer, 'alive')} HTTP/1.1\r\nHost: 127.0.0.1:{viewer.port}\r\n\r\n"
        connection.sendall(request.encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 200")
        yield


def test_it_ends_when_the_last_page_is_gone_and_not_before(tmp_path: Path) -> None:
    site, _ = traced_site(tmp_path)
    with Viewer(site, grace_s=0.05) as viewer:
        waiting = threading.Thread(target=viewer.wait)
        waiting.start()
        ask(viewer, path_of(viewer, "ui/"))
        waiting.join(0.3)
        assert waiting.is_alive()  # no page said yet that it is there
        with page(viewer):
            with page(viewer):
                pass
            waiting.join(0.3)
            assert waiting.is_alive()
        waiting.join(20)
        assert not waiting.is_alive()


def test_a_page_that_is_loaded_again_keeps_it(tmp_path: Path) -> None:
    site, _ = traced_site(tmp_path)
    with Viewer(site, grace_s=20) as viewer:
        waiting = threading.Thread(target=viewer.wait, daemon=True)
        waiting.start()
        with page(viewer):
            pass
        with page(viewer):
            waiting.join(0.2)
            assert waiting.is_alive()
