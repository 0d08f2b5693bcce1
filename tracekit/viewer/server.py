"""Serves one site on 127.0.0.1 alone, under an address that nobody can guess, until no page needs it any more."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socketserver
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from tracekit.errors import UsageError
from tracekit.viewer.guard import refusal
from tracekit.viewer.site import ALIVE, VIEWER, Resource, Site

GRACE_S = 3.0
"""How long the server waits for a page to come back: one that is reloaded is gone for a moment."""
_REQUEST_TIMEOUT_S = 60


class Viewer:
    """A server that is listening from the moment that it is made; use it as a context manager.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(self, site: Site, port: int = 0, *, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._pages = _Pages()
        self._token = secrets.token_urlsafe(16)
        try:
            self._server = _Server(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UsageError(f"cannot listen on port {port}: {error.strerror or error}; leave --port out") from error
        self.port: int = self._server.server_address[1]
        self.root = f"http://127.0.0.1:{self.port}/{self._token}"
        self._server.hand_over(site, self._token, self.port, self._pages)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address to open."""
        return f"{self.root}/{self._server.site.home}"

    def wait(self) -> None:
        """Return when a page has been opened and none needs the server any more."""
        self._pages.wait_until_gone(self._grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Pages:
    """Counts the pages that need the server."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = 0
        self._seen = False

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def wait_until_gone(self, grace_s: float) -> None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._seen and not self._open)
                if not self._changed.wait_for(lambda: self._open, grace_s):
                    return

    def _count(self, change: int) -> None:
        with self._changed:
            self._open += change
            self._seen = True
            self._changed.notify_all()


class _Server(socketserver.ThreadingTCPServer):
    # Not http.server's: that one asks the name service for this machine's name, which can take seconds.
    daemon_threads = True
    block_on_close = False  # a page may hold its connection still
    site: Site
    token: str
    port: int
    pages: _Pages

    def hand_over(self, site: Site, token: str, port: int, pages: _Pages) -> None:
        self.site, self.token, self.port, self.pages = site, token, port, pages

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that goes away in the middle of an answer is none of the user's concern."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "tracekit"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        reason = refusal(self.command, self.path, self.headers, self.server.port, self.server.token)
        if reason is not None:
            self._text(HTTPStatus.FORBIDDEN, reason)
            return
        # Paths are looked up as they come, never decoded or joined: what is not in the list is not there.
        path, _, query = self.path.removeprefix(f"/{self.server.token}").partition("?")
        name = path.removeprefix("/")
        if name == VIEWER and self.server.site.traces:
            self._redirect(query)
        elif name == ALIVE and self.command == "GET":
            self._hold()
        elif name in self.server.site.resources:
            self._give(self.server.site.resources[name])
        else:
            self._text(HTTPStatus.NOT_FOUND, "there is no such page")

    do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_GET  # noqa: N815

    def _give(self, resource: Resource) -> None:
        if isinstance(resource.content, bytes):
            self._head(HTTPStatus.OK, resource, len(resource.content))
            if self.command == "GET":
                self.wfile.write(resource.content)
            return
        try:
            stream = resource.content.open("rb")
        except OSError as error:
            self._text(HTTPStatus.NOT_FOUND, f"the file cannot be read any more: {error.strerror}")
            return
        with stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            self._head(HTTPStatus.OK, resource, size)
            if self.command == "GET":
                shutil.copyfileobj(stream, self.wfile, 1 << 20)

    def _hold(self) -> None:
        """Answer without an end: the connection closes with the page, however that ends."""
        with self.server.pages.one():
            self._head(HTTPStatus.OK, Resource(b"", "text/plain"), None)
            self.wfile.flush()
            self.connection.settimeout(None)
            self.connection.recv(1)
        self.close_connection = True

    def _redirect(self, query: str) -> None:
        root = f"http://127.0.0.1:{self.server.port}/{self.server.token}"
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", self.server.site.viewer_location(root, query))
        self._end(Resource(b"", "text/plain"), 0)

    def _text(self, status: HTTPStatus, text: str) -> None:
        # What a refused request holds beyond its head is not read: the connection cannot go on.
        self.close_connection = True
        body = f"tracekit: {text}\n".encode()
        self._head(status, Resource(body, "text/plain; charset=utf-8"), len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, resource: Resource, size: int | None) -> None:
        self.send_response(status)
        self._end(resource, size)

    def _end(self, resource: Resource, size: int | None) -> None:
        headers = {
            "Content-Type": resource.content_type,
            # The address is new each time, so what is kept is never stale; the UI needs it after the server's end.
            "Cache-Control": "private, max-age=86400, immutable" if resource.kept else "no-store",
            "Content-Security-Policy": resource.policy,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        if size is not None:
            headers["Content-Length"] = str(size)
        if size is None or self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing: the address is a secret."""
