"""Columns between their three forms: spooled records, Arrow columns in Parquet files, data frames.

"No value" is `NONE`, an empty string or NaN in records and frames, and null in Parquet, so that any tool reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tracekit.errors import RunFolderError
from tracekit.model import NONE, SCHEMA_VERSION, Column, ColumnKind, Table
from tracekit.model.text import same_text, text_column
from tracekit.runfolder.unspool import Strings

MAX_ROWS = 200_000_000
"""More rows than this in one table are taken for damage: a few bytes of Parquet can claim any number."""

_ARROW_TYPES: dict[ColumnKind, Any] = {
    "i32": pa.int32(),
    "i64": pa.int64(),
    "f64": pa.float64(),
    "str": pa.dictionary(pa.int32(), pa.string()),
    "bool": pa.bool_(),
}
_FRAME_DTYPES: dict[ColumnKind, str] = {"i32": "int32", "i64": "int64", "f64": "float64", "bool": "bool"}
_UNITS = {"_ns": "ns", "_bytes": "bytes"}


def arrow_schema(table: Table) -> Any:
    """The table's Parquet schema; what each column means, and its unit, travel in the fields' metadata."""
    fields = []
    for column in table.columns:
        metadata = {"doc": column.doc}
        unit = next((unit for suffix, unit in _UNITS.items() if column.name.endswith(suffix)), None)
        if unit is not None:
            metadata["unit"] = unit
        fields.append(pa.field(column.name, _ARROW_TYPES[column.kind], column.nullable, metadata))
    return pa.schema(fields, {"table": table.name, "doc": table.doc, "schema_version": str(SCHEMA_VERSION)})


def rows_to_batch(table: Table, rows: npt.NDArray[np.void], strings: Strings) -> Any:
    """An Arrow record batch of spooled rows."""
    arrays = [_arrow_column(column, rows[column.name], strings) for column in table.columns]
    return pa.record_batch(arrays, schema=arrow_schema(table))


def write_part(path: Path, table: Table, batches: Iterable[Any]) -> None:
    """Write one Parquet file, a row group a batch; compressed, with checksums that show a flipped bit.

    Raises:
        OSError: it cannot be written; what was written of it is left to the caller.
    """
    with pq.ParquetWriter(path, arrow_schema(table), compression="zstd", write_page_checksum=True) as writer:
        for batch in batches:
            writer.write_batch(batch)


def read_part(path: Path, table: Table) -> pd.DataFrame:
    """A Parquet part as a data frame.

    Raises:
        RunFolderError: it is damaged, or its columns are not the table's.
        OSError: it cannot be read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            rows = file.metadata.num_rows
            if not 0 <= rows <= MAX_ROWS:
                raise RunFolderError(f"{path} is damaged: it claims {rows} rows")
            _check_schema(path, table, file.schema_arrow)
            # A column at a time: beside the frame there is never more than one of them in Arrow's form, too.
            return to_frame(table, lambda name: file.read(columns=[name]).column(name))
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # Arrow raises OSError, without a number, for damaged Parquet, too.
        raise RunFolderError(f"{path} is damaged: Parquet cannot read it") from error


def to_frame(table: Table, column_of: Callable[[str], Any]) -> pd.DataFrame:
    """A data frame of the table's Arrow columns, each asked for by name: numpy columns and text columns, no null.

    Raises:
        RunFolderError: a column that must have values lacks one.
    """
    columns = {column.name: _frame_column(table, column, column_of(column.name)) for column in table.columns}
    # Not copied into blocks: each column stays the array that Arrow made, which cannot be written to.
    return pd.DataFrame(columns, copy=False)


def _arrow_column(column: Column, values: npt.NDArray[Any], strings: Strings) -> Any:
    if column.kind == "str":
        return _arrow_strings(column, values, strings)
    if column.kind == "bool":
        return pa.array(values != 0)
    if not column.nullable:
        return pa.array(values)
    return pa.array(values, mask=np.isnan(values) if column.kind == "f64" else values == NONE)


def _arrow_strings(column: Column, ids: npt.NDArray[np.int32], strings: Strings) -> Any:
    """A dictionary of only the strings that occur: the table of all strings may be long, a chunk names few."""
    ids = strings.canonical[ids]
    used = np.flatnonzero(np.bincount(ids, minlength=len(strings.texts)))
    place = np.zeros(len(strings.texts), dtype=np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    texts = [strings.texts[text_id] for text_id in used]
    codes = place[ids]
    mask = codes == texts.index("") if column.nullable and "" in texts else None
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=mask), pa.array(texts, pa.string()))


def _check_schema(path: Path, table: Table, schema: Any) -> None:
    for column in table.columns:
        index = schema.get_field_index(column.name)
        if index < 0:
            raise RunFolderError(f"{path} is damaged: it has no column {column.name}")
        kind = schema.field(index).type
        if kind != _ARROW_TYPES[column.kind] and not (column.kind == "str" and kind == pa.string()):
            raise RunFolderError(f"{path} is damaged: its column {column.name} is {kind}, not {column.kind}")


def _frame_column(table: Table, column: Column, data: Any) -> npt.NDArray[Any] | pd.Categorical:
    if data.null_count and not column.nullable:
        raise RunFolderError(f"the table {table.name} is damaged: its column {column.name} lacks values")
    if column.kind == "str":
        return _frame_text(data)
    if data.null_count:
        data = data.fill_null(float("nan") if column.kind == "f64" else NONE)
    return np.asarray(data.to_numpy(), dtype=_FRAME_DTYPES[column.kind])


def _frame_text(data: Any) -> pd.Categorical:
    if not pa.types.is_dictionary(data.type):
        data = data.dictionary_encode()
    joined = data.unify_dictionaries().combine_chunks()
    chunk = joined.chunk(0) if isinstance(joined, pa.ChunkedArray) and joined.num_chunks else joined
    if len(chunk) == 0:
        return same_text("", 0)
    # The last text stands for null, whose code is -1.
    texts = [*("" if text is None else text for text in chunk.dictionary.to_pylist()), ""]
    codes = chunk.indices.fill_null(-1).to_numpy()
    if not -1 <= int(codes.min()) <= int(codes.max()) < len(texts):
        raise RunFolderError("a table is damaged: a string's number is out of range")
    return text_column(codes, texts)
