"""Debian's Firefox, headless, driven by Marionette: the protocol that every Firefox speaks without a driver."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_S = 60


def firefox() -> str | None:
    """The system's Firefox, or None."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


class Marionette:
    """One session: a command is ``length:[0, id, name, parameters]``, its answer ``length:[1, id, error, result]``."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rwb")
        self._answer()
        self.ask("WebDriver:NewSession", {"capabilities": {}})

    def ask(self, name: str, parameters: dict[str, Any]) -> Any:
        text = json.dumps([0, 1, name, parameters]).encode()
        self._stream.write(b"%d:%s" % (len(text), text))
        self._stream.flush()
        _, _, error, result = self._answer()
        assert error is None, error
        return result

    def evaluate(self, expression: str) -> Any:
        script = {"script": f"return {expression}", "args": []}
        return self.ask("WebDriver:ExecuteScript", script)["value"]

    def _answer(self) -> Any:
        length = b""
        while (byte := self._stream.read(1)) != b":":
            length += byte
        return json.loads(self._stream.read(int(length)))


@contextmanager
def session(profile: Path) -> Iterator[Marionette]:
    """A Firefox with a fresh profile; ended when the block is over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile.mkdir()
    (profile / "user.js").write_text(f'user_pref("marionette.port", {port});\n')
    command = [firefox() or "firefox", "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    # HOME: Firefox refuses a home that is another user's.
    environment = {"HOME": str(profile), "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with _connect(port, process) as connection:
            yield Marionette(connection)
    finally:
        process.terminate()
        process.wait(30)


def _connect(port: int, process: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=START_S)
        except ConnectionRefusedError:
            assert process.poll() is None, "Firefox ended"
            assert time.monotonic() < deadline, "Firefox does not listen"
            time.sleep(0.2)
