"""The spool: rows as fixed-size records, appended by any thread without a lock, readable whatever kills the process.

A table's spool is a file of little-endian records without padding; a string in a record is its id in the strings
spool, whose records are an id, a length and UTF-8. A row's strings reach the operating system before the row does, so a
file cut at any record holds only rows that can be read. Nothing is synced to disk: the operating system keeps
what a killed process wrote. This module imports no numpy: a profiled script may first set what numpy reads on import.
"""

from __future__ import annotations

import itertools
import os
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from tracekit.model import RowBuffer, Table
from tracekit.runfolder.paths import spool_path, strings_path

BUFFER_LIMIT = 1 << 20
"""Bytes of one table that wait in memory before an append hands them to the operating system."""
_STALL_FACTOR = 16
"""How many times BUFFER_LIMIT may wait while another thread is writing, before appends wait for it."""

_CODES = {"i32": "i", "i64": "q", "f64": "d", "str": "i", "bool": "?"}
STRING_HEAD = struct.Struct("<iI")


def row_struct(table: Table) -> struct.Struct:
    """How a row of the table is packed, its strings as ids."""
    return struct.Struct("<" + "".join(_CODES[column.kind] for column in table.columns))


class _Tail:
    """A file that only grows, and the whole records that are not in it yet."""

    def __init__(self, path: Path) -> None:
        self.pending = bytearray()
        self._written = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def write(self, records: bytes) -> None:
        """Write `records`, which are the first of `pending`, and drop them there."""
        done = 0
        while done < len(records):
            done += os.pwrite(self._descriptor, memoryview(records)[done:], self._written + done)
        # An interrupt before these two leaves both as they were, so that the next write repeats this one in place;
        # between them the interpreter looks for no signal, since neither calls a function.
        del self.pending[: len(records)]
        self._written += len(records)

    def close(self) -> None:
        os.close(self._descriptor)


class _Interned(dict[str, int]):
    """Ids of strings, handed out on first sight; a string seen first by two threads at once may get two."""

    def __init__(self, pending: bytearray) -> None:
        super().__init__()
        self._next_id = itertools.count()
        self._pending = pending

    def __missing__(self, text: str) -> int:
        # Paths may hold lone surrogates (os.fsdecode), which UTF-8 cannot: they become readable escapes.
        encoded = text.encode("utf-8", "backslashreplace")
        text_id = next(self._next_id)
        # One extend a record: under the GIL a record is so in the buffer whole or not at all, and before its id is out.
        self._pending.extend(STRING_HEAD.pack(text_id, len(encoded)) + encoded)
        self[text] = text_id
        return text_id


class SpoolWriter:
    """Appends rows of several tables to the spool files of a run folder that is being made."""

    def __init__(self, folder: Path, tables: Iterable[Table], explain: Callable[[OSError], Exception]) -> None:
        """Make the spool's files. `explain` turns what the operating system refuses an append into what it raises.

        Raises:
            OSError: the folder cannot be written.
        """
        self._strings = _Tail(strings_path(folder))
        self._rows = {table.name: _Tail(spool_path(folder, table.name)) for table in tables}
        self._writing = threading.Lock()
        self._process_id = os.getpid()
        self._explain = explain
        self._closed = False
        self.intern: Callable[[str], int] = _Interned(self._strings.pending).__getitem__
        """The id that a row holds for a string. A known string costs one dictionary look-up."""

    @property
    def buffered_bytes(self) -> int:
        """What waits in memory, all tables and the strings together."""
        return len(self._strings.pending) + sum(len(tail.pending) for tail in self._rows.values())

    def raw(self, table: Table) -> tuple[Callable[..., bytes], Callable[[bytes], None]]:
        """The two halves of an append: pack a row whose strings are ids, and add the packed row to the table.

        Both may be called from any thread; a row is added whole.
        """
        buffer = self.buffer(table)
        pending, add, full = buffer.pending, buffer.pending.extend, buffer.full

        def extend(row: bytes) -> None:
            add(row)
            if len(pending) > BUFFER_LIMIT:
                full()

        return row_struct(table).pack, extend

    def buffer(self, table: Table) -> RowBuffer:
        """Where the rows of a table wait."""
        tail = self._rows[table.name]
        return RowBuffer(tail.pending, BUFFER_LIMIT, lambda: self._write_full(tail), row_struct(table).format)

    def flush(self) -> None:
        """Hand everything appended so far to the operating system.

        Raises:
            OSError: it cannot be written; what was written before stays readable.
        """
        if self._is_ours():
            with self._writing:
                self._write(self._rows.values())

    def close(self) -> None:
        """Flush and close the files, once; rows that other threads still append are dropped."""
        if self._closed:
            return
        self.flush()
        with self._writing:
            self._closed = True
            for tail in (self._strings, *self._rows.values()):
                tail.close()

    def _write_full(self, tail: _Tail) -> None:
        # Never wait for another thread's write, unless that one stalls and memory would grow without bound.
        if not self._is_ours():
            tail.pending.clear()
        elif self._writing.acquire(blocking=len(tail.pending) > _STALL_FACTOR * BUFFER_LIMIT):
            try:
                self._write((tail,))
            except OSError as error:
                raise self._explain(error) from error
            finally:
                self._writing.release()

    def _write(self, tails: Iterable[_Tail]) -> None:
        if self._closed:
            for tail in tails:
                tail.pending.clear()
            return
        # Rows are taken before strings: whatever a taken row names was interned before, so it is among the strings.
        # bytes() copies under the GIL, where writing the bytearray itself would keep other threads from appending.
        taken = [(tail, bytes(tail.pending)) for tail in tails]
        self._strings.write(bytes(self._strings.pending))
        for tail, records in taken:
            tail.write(records)

    def _is_ours(self) -> bool:
        # A forked child shares the files' descriptors but not their written length: its rows would land on ours.
        return os.getpid() == self._process_id
