"""Read a trace file (JSON, or gzipped) in pieces of bounded memory, as data from strangers.

The events of a trace are one long JSON array. It is cut between events by counting brackets outside of strings, whole
columns of bytes at a time, and each piece decoded as an array of its own; so a trace of any length needs the memory of
one piece. What stands around the array is the header.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from tracekit.errors import UsageError
from tracekit.model.kinetojson import KinetoArgs, KinetoEvent
from tracekit.runfolder.paths import UNREADABLE_JSON

PIECE_BYTES = 4 << 20
MAX_EVENT_BYTES = 16 << 20
"""A longer event, or a longer header, is taken for damage."""
MAX_TRACE_BYTES = 16 << 30
"""Of JSON, unpacked: a few kilobytes of gzip can claim any amount."""

_ARRAY = re.compile(rb'"traceEvents"\s*:\s*\[')
_GZIP_MAGIC = b"\x1f\x8b"


class TraceArgs(KinetoArgs, gc=False):
    """Kineto's args, and those that tracekit's own slices have."""

    fqn: Any = ""
    parameter: Any = ""
    class_: Any = msgspec.field(default="", name="class")
    note: Any = ""
    phase: Any = ""
    run_index: Any = -1
    direction: Any = ""
    host_memory: Any = ""
    operation: Any = ""
    file: Any = ""
    file_offset: Any = -1
    resident_before: Any = None
    read_bytes: Any = -1


class TraceEvent(KinetoEvent, gc=False):
    """One event of a trace file."""

    pid: int | str = 0
    args: TraceArgs = msgspec.field(default_factory=TraceArgs)


class TraceDevice(msgspec.Struct):
    """One entry of Kineto's deviceProperties."""

    name: str = ""
    totalGlobalMem: int | None = None  # noqa: N815


class TracekitHeader(msgspec.Struct):
    """What tracekit says of a run in its own traces."""

    version: str = ""
    workload: str = ""
    mode: str = ""
    device: str = ""
    complete: bool = True


class TraceHeader(msgspec.Struct):
    """What stands beside the events; `tracekit` only in its own traces."""

    deviceProperties: list[TraceDevice] = []  # noqa: N815
    baseTimeNanoseconds: int = 0  # noqa: N815
    tracekit: TracekitHeader | None = None


class TraceStream:
    """A trace file that is read once, from its first event to its last; `header` is there after that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = TraceHeader()
        self._decode = msgspec.json.Decoder(list[TraceEvent]).decode

    def pieces(self) -> Iterator[list[TraceEvent]]:
        """All events, some thousands at a time.

        Raises:
            UsageError: the file cannot be read, is no trace, is damaged, or is larger than `MAX_TRACE_BYTES`.
        """
        with self._reported(), self.path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            data = _Pieces(gzip.GzipFile(fileobj=raw) if is_gzip else raw)
            head, pending = self._find_array(data)
            while True:
                cut, ended = _cut(pending)
                if cut:
                    yield self._events(pending[:cut])
                pending = pending[cut:]
                if ended:
                    break
                if len(pending) > MAX_EVENT_BYTES:
                    raise self._damaged("an event has no end")
                more = data.next()
                if not more:
                    raise self._damaged("it ends in the middle of its events")
                pending += more
            self._read_header(head, pending, data)

    def _find_array(self, data: _Pieces) -> tuple[bytes, bytes]:
        """What stands before the events, its bracket included, and the first bytes after it."""
        text = b""
        while (found := _ARRAY.search(text)) is None:
            more = data.next()
            if not more or len(text) > MAX_EVENT_BYTES:
                raise UsageError(f"{self.path} is no trace: it has no traceEvents")
            text += more
        return text[: found.end()], text[found.end() :]

    def _events(self, text: bytes) -> list[TraceEvent]:
        try:
            return self._decode(b"[" + text.strip(b" \t\r\n,") + b"]")
        except UNREADABLE_JSON as error:
            raise self._damaged(f"an event cannot be read ({str(error)[:100]})") from None

    def _read_header(self, head: bytes, tail: bytes, data: _Pieces) -> None:
        """Decode what stood before the events together with what comes after them, where Kineto puts some of it."""
        while more := data.next():
            tail += more
            if len(tail) > MAX_EVENT_BYTES:
                raise self._damaged("too much follows its events")
        try:
            self.header = msgspec.json.decode(head + tail, type=TraceHeader)
        except UNREADABLE_JSON as error:
            raise self._damaged(f"its header cannot be read ({str(error)[:100]})") from None

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (gzip.BadGzipFile, zlib.error, EOFError):
            raise self._damaged("its compression is cut off or wrong") from None
        except OSError as error:
            raise UsageError(f"cannot read {self.path} ({error.strerror or error})") from None

    def _damaged(self, what: str) -> UsageError:
        return UsageError(f"the trace {self.path} is damaged: {what}")


class _Pieces:
    """A file's unpacked bytes, a piece at a time, up to the limit."""

    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        self._file = file
        self._read = 0

    def next(self) -> bytes:
        piece = self._file.read(PIECE_BYTES)
        self._read += len(piece)
        if self._read > MAX_TRACE_BYTES:
            raise UsageError(f"the trace is larger than {MAX_TRACE_BYTES >> 30} GiB of JSON: record fewer steps")
        return piece


def _cut(text: bytes) -> tuple[int, bool]:
    """Where the last whole event in `text` ends, and whether the array ends there. It begins between two events."""
    # Escapes to blanks of the same length, pairs of backslashes first: what is left of quotes bounds strings.
    plain = np.frombuffer(text.replace(b"\\\\", b"  ").replace(b'\\"', b"  "), np.uint8)
    marks = np.flatnonzero(_IS_MARK[plain])
    marked = plain[marks]
    is_quote = marked == ord('"')
    outside = ~is_quote & (np.cumsum(is_quote) % 2 == 0)
    marks, marked = marks[outside], marked[outside]
    depth = np.cumsum(np.where((marked == ord("{")) | (marked == ord("[")), 1, -1))
    ends = np.flatnonzero(depth < 0)
    if len(ends):
        return int(marks[ends[0]]), True
    whole = np.flatnonzero(depth == 0)
    return (int(marks[whole[-1]]) + 1, False) if len(whole) else (0, False)


_IS_MARK = np.zeros(256, np.bool_)
_IS_MARK[list(b'"{}[]')] = True
