"""Read the spool back: whole rows only, from files that a kill may have cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracekit.errors import RunFolderError
from tracekit.model import Table
from tracekit.runfolder.paths import spool_path, strings_path
from tracekit.runfolder.spool import STRING_HEAD

_DTYPES = {"i32": "<i4", "i64": "<i8", "f64": "<f8", "str": "<i4", "bool": "u1"}
_MAX_ID_GAP = 4096
"""Ids that threads may have taken for strings that a kill kept from the file; a larger gap is damage."""


def row_dtype(table: Table) -> np.dtype[np.void]:
    """The record that `spool.row_struct` packs, for numpy."""
    return np.dtype([(column.name, _DTYPES[column.kind]) for column in table.columns])


class Strings:
    """The strings spool read back: texts by id, one id for equal texts, and which ids are there."""

    def __init__(self, texts: dict[int, str]) -> None:
        size = max(texts, default=-1) + 1
        first: dict[str, int] = {}
        self.known = np.zeros(size, dtype=bool)
        self.canonical = np.zeros(size, dtype=np.int32)
        self.texts = [""] * size
        for text_id, text in texts.items():
            self.known[text_id] = True
            self.canonical[text_id] = first.setdefault(text, text_id)
            self.texts[text_id] = text


def read_strings(folder: Path) -> Strings:
    """All whole records of the strings spool.

    Raises:
        RunFolderError: a record that no writer writes.
        OSError: the file is not there or cannot be read.
    """
    data = strings_path(folder).read_bytes()
    texts: dict[int, str] = {}
    position = 0
    while position + STRING_HEAD.size <= len(data):
        text_id, length = STRING_HEAD.unpack_from(data, position)
        position += STRING_HEAD.size
        if position + length > len(data):
            break
        if not 0 <= text_id <= len(texts) + _MAX_ID_GAP or text_id in texts:
            raise RunFolderError(f"the run folder {folder} is damaged: a string in its spool has an impossible id")
        try:
            texts[text_id] = data[position : position + length].decode("utf-8")
        except UnicodeDecodeError:
            raise RunFolderError(f"the run folder {folder} is damaged: a string in its spool is not UTF-8") from None
        position += length
    return Strings(texts)


def iter_rows(folder: Path, table: Table, strings: Strings, chunk_rows: int) -> Iterator[npt.NDArray[np.void]]:
    """A table's whole rows, `chunk_rows` at a time; rows that name a string which is not there are left out.

    Raises:
        OSError: the file is not there or cannot be read.
    """
    dtype = row_dtype(table)
    names = [column.name for column in table.columns if column.kind == "str"]
    with spool_path(folder, table.name).open("rb") as file:
        while data := file.read(chunk_rows * dtype.itemsize):
            rows = np.frombuffer(data, dtype=dtype, count=len(data) // dtype.itemsize)
            whole = np.ones(len(rows), dtype=bool)
            for name in names:
                ids = rows[name]
                whole &= (ids >= 0) & (ids < len(strings.texts))
                whole[whole] = strings.known[ids[whole]]
            yield rows if whole.all() else rows[whole]
