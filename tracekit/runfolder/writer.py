"""Write a run folder: raw rows while the profile runs, Parquet when it ends, never a half-made folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tracekit.errors import UsageError
from tracekit.model import TABLES, Manifest, RowBuffer, Table
from tracekit.runfolder.paths import MANIFEST_NAME, SPOOL_NAME, check_replaceable, part_path, spool_path
from tracekit.runfolder.spool import SpoolWriter

CHUNK_ROWS = 1 << 17
"""Rows turned into Parquet at a time: what bounds the memory of `RunWriter.finish`."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RunWriter:
    """The writer of one run folder; a `Sink`. Rows may come from any thread."""

    def __init__(self, path: Path, spool: SpoolWriter, made_above: Sequence[Path] = ()) -> None:
        """Use `RunWriter.create`."""
        self.path = path
        self._made_above = made_above
        self._spool = spool
        self.intern = spool.intern
        self._appends = {name: self._make_append(table) for name, table in TABLES.items()}

    @classmethod
    def create(cls, path: Path, manifest: Manifest, force: bool = False) -> RunWriter:
        """Make the run folder with its manifest, marked incomplete.

        It is made beside its place and renamed, so that a folder at `path` is always a whole one.

        Raises:
            UsageError: `path` exists (and with `force` is not just a run folder), or cannot be written.
        """
        check_replaceable(path, force)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        made_above = [folder for folder in path.parents if not folder.exists()]
        with _reported(path):
            try:
                (temporary / SPOOL_NAME).mkdir(parents=True)
                _write_manifest(temporary, msgspec.structs.replace(manifest, complete=False))
                spool = SpoolWriter(temporary, TABLES.values(), lambda error: _usage_error(path, error))
                _put(temporary, path)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return cls(path, spool, made_above)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of rows that wait in memory."""
        return self._spool.buffered_bytes

    def append(self, table: Table, *values: int | float | str | bool) -> None:
        """Add one row, values in the order of the table's columns.

        Raises:
            UsageError: the disk is full.
        """
        self._appends[table.name](values)

    def raw(self, table: Table) -> tuple[Callable[..., bytes], Callable[[bytes], None]]:
        """For hot paths: pack a row whose strings are already `intern` ids, and add a packed row to the table.

        Adding is atomic, takes no lock, and may raise UsageError when the disk is full.
        """
        return self._spool.raw(table)

    def buffer(self, table: Table) -> RowBuffer:
        """For compiled hot paths: where `raw` puts its rows."""
        return self._spool.buffer(table)

    def flush(self) -> None:
        """Hand everything appended so far to the operating system: from here on a kill does not lose it.

        Raises:
            UsageError: the disk is full.
        """
        with _reported(self.path):
            self._spool.flush()

    def update_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest at once; the folder stays marked incomplete.

        Raises:
            UsageError: it cannot be written.
        """
        with _reported(self.path):
            _write_manifest(self.path, msgspec.structs.replace(manifest, complete=False))

    def finish(self, manifest: Manifest) -> None:
        """Turn the spool into Parquet and write the manifest, complete unless it has an `incomplete_reason`.

        A table's part appears whole, by renaming, and counts from then on; its spool is removed after. So the folder
        can be read at any moment, also when this is killed or the disk is full.

        Raises:
            UsageError: it cannot be written; the rows stay in the folder as they are.
        """
        with _reported(self.path):
            self._spool.close()
            _spool_to_parquet(self.path)
            shutil.rmtree(self.path / SPOOL_NAME)
            _write_manifest(self.path, msgspec.structs.replace(manifest, complete=not manifest.incomplete_reason))

    def move(self, path: Path, force: bool = False) -> None:
        """Put the finished folder at `path`: what was there goes only now, when this one is whole.

        Raises:
            UsageError: `path` exists (and with `force` is not just a run folder), or cannot be written.
        """
        check_replaceable(path, force)
        with _reported(path):
            _put(self.path, path)
        self.path = path

    def discard(self) -> None:
        """Remove the folder, and those above it that were made for it and are empty again.

        For a profile that failed before it recorded anything.
        """
        with _reported(self.path):
            self._spool.close()
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: somebody else's by now
            for folder in self._made_above:
                folder.rmdir()

    def _make_append(self, table: Table) -> Callable[[tuple[Any, ...]], None]:
        pack, extend = self.raw(table)
        intern = self.intern
        strings = [index for index, column in enumerate(table.columns) if column.kind == "str"]

        def append(values: tuple[Any, ...]) -> None:
            row = list(values)
            for index in strings:
                row[index] = intern(row[index])
            extend(pack(*row))

        return append


def _put(folder: Path, path: Path) -> None:
    """Rename a folder to `path`; one that is there is removed after, and put back if that fails."""
    former = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(former)
    try:
        folder.rename(path)
    except BaseException:
        if former.exists():
            former.rename(path)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _spool_to_parquet(folder: Path) -> None:
    # numpy and pyarrow are imported when the profile is over: see spool.py.
    from tracekit.runfolder.columns import rows_to_batch, write_part
    from tracekit.runfolder.unspool import iter_rows, read_strings

    strings = read_strings(folder)
    for table in TABLES.values():
        part = part_path(folder, table.name)
        part.parent.mkdir(exist_ok=True)
        temporary = part.with_suffix(".tmp")
        chunks = iter_rows(folder, table, strings, CHUNK_ROWS)
        try:
            write_part(temporary, table, (rows_to_batch(table, rows, strings) for rows in chunks))
            temporary.replace(part)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        spool_path(folder, table.name).unlink()


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    temporary = folder / f"{MANIFEST_NAME}.tmp"
    try:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        temporary.replace(folder / MANIFEST_NAME)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one line for the user."""
    try:
        yield
    except OSError as error:
        raise _usage_error(path, error) from error


def _usage_error(path: Path, error: OSError) -> UsageError:
    if error.errno in _FULL:
        return UsageError(f"no space left to write the run folder {path}: free some, or choose another --output")
    return UsageError(f"cannot write the run folder {path} ({error.strerror or error}): choose another --output")
