"""Read a run folder, whole or left by a killed process, as data from strangers: checked, never executed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tracekit.errors import RunFolderError
from tracekit.model import (
    CALIBRATION,
    COPIES,
    DEVICE_OPS,
    NONE,
    PARAMETERS,
    SCHEMA_VERSION,
    SPANS,
    TABLES,
    Direction,
    HostMemory,
    Manifest,
    Measure,
    RunData,
    SpanKind,
    Table,
)
from tracekit.runfolder.paths import MANIFEST_NAME, SPOOL_NAME, part_path, spool_path, strings_path
from tracekit.runfolder.versioned import VersionedFile

if TYPE_CHECKING:
    import pandas as pd

KILLED = "the process ended before the profile did, by a kill or a crash"
"""The reason given for a folder whose writer never said one."""

_MANIFEST = VersionedFile(
    name=MANIFEST_NAME,
    content=Manifest,
    version=SCHEMA_VERSION,
    folder_kind="run folder",
    article="a",
    max_bytes=1 << 26,
)
_MAX_TIME_NS = 1 << 61  # 73 years: differences of two times cannot overflow
_READ_ROWS = 1 << 20
_WORDS: dict[tuple[str, str], frozenset[str]] = {
    (SPANS.name, "kind"): frozenset(SpanKind),
    (COPIES.name, "direction"): frozenset(Direction),
    (COPIES.name, "host_memory"): frozenset(HostMemory),
    (PARAMETERS.name, "host_memory"): frozenset(HostMemory),
    (CALIBRATION.name, "measure"): frozenset(Measure),
    (DEVICE_OPS.name, "op"): frozenset({"kernel", "memcpy", "memset"}),
}
_KEYS = {SPANS.name: "span_id", COPIES.name: "copy_id"}


def read_run(path: Path) -> RunData:
    """Everything in a run folder. After a kill: all rows that were flushed, `manifest.complete` False.

    Raises:
        RunFolderError: no run folder, one of an unknown schema version, or a damaged one.
    """
    manifest = read_manifest(path)
    frames = {name: _read_table(path, table, manifest) for name, table in TABLES.items()}
    for name, frame in frames.items():
        _check_values(path, TABLES[name], frame)
    return RunData(path=str(path), manifest=manifest, **frames)


def read_manifest(path: Path) -> Manifest:
    """Only the manifest of a run folder.

    Raises:
        RunFolderError: as `read_run`.
    """
    manifest = _MANIFEST.read(path)
    if not manifest.complete and not manifest.incomplete_reason:
        return msgspec.structs.replace(manifest, incomplete_reason=KILLED)
    return manifest


def _read_table(path: Path, table: Table, manifest: Manifest) -> pd.DataFrame:
    # numpy, pandas and pyarrow are imported when a folder is read: `tracekit --help` does without.
    from tracekit.runfolder.columns import read_part

    part = part_path(path, table.name)
    try:
        # A part is renamed into place whole, so a spool beside it is a left-over that it replaces.
        if part.exists():
            return read_part(part, table)
        if manifest.complete:
            raise RunFolderError(f"the run folder {path} is damaged: its table {table.name} is missing")
        return _read_spool(path, table)
    except OSError as error:
        raise RunFolderError(f"cannot read the run folder {path} ({error.strerror or error})") from None


def _read_spool(path: Path, table: Table) -> pd.DataFrame:
    import pyarrow as pa

    from tracekit.runfolder.columns import arrow_schema, rows_to_batch, to_frame
    from tracekit.runfolder.unspool import iter_rows, read_strings

    batches = []
    if spool_path(path, table.name).exists():
        if not strings_path(path).exists():
            raise RunFolderError(f"the run folder {path} is damaged: its {SPOOL_NAME} has no strings")
        strings = read_strings(path)
        batches = [
            rows_to_batch(table, rows, strings) for rows in iter_rows(path, table, strings, _READ_ROWS) if len(rows)
        ]
    return to_frame(table, pa.Table.from_batches(batches, arrow_schema(table)).column)


def _check_values(path: Path, table: Table, frame: pd.DataFrame) -> None:
    """Refuse values that no capture writes and on which analysis would go wrong quietly, or for ever."""
    for column in table.columns:
        values = frame[column.name]
        least = NONE if column.nullable else 0
        if column.name.endswith("_ns") and not _all_between(values, least, _MAX_TIME_NS):
            raise _damaged(path, table, f"{column.name} is out of range")
        if column.name.endswith("_bytes") and not _all_between(values, least, math.inf):
            raise _damaged(path, table, f"{column.name} is negative")
        words = _WORDS.get((table.name, column.name))
        unknown = set(values.cat.categories) - words if words is not None else set()
        if unknown:
            raise _damaged(path, table, f"{column.name} says {min(unknown)[:40]!r}")
    if {"start_ns", "end_ns"} <= set(frame.columns) and not (frame["end_ns"] >= frame["start_ns"]).all():
        raise _damaged(path, table, "an end is before its start")
    key = _KEYS.get(table.name)
    if key is not None and not _are_keys(frame[key]):
        raise _damaged(path, table, f"{key} is not unique")
    if table is SPANS and not (frame["parent_id"] < frame["span_id"]).all():
        raise _damaged(path, table, "a parent comes after its child")


def _all_between(values: pd.Series[int], least: int, most: float) -> bool:
    return values.empty or bool(least <= values.min() and values.max() <= most)


def _are_keys(values: pd.Series[int]) -> bool:
    """Whether no key occurs twice, and none is negative. Sorting takes less memory than a hash table."""
    import numpy as np

    keys = np.sort(values.to_numpy())
    return len(keys) == 0 or bool(keys[0] >= 0 and (keys[1:] > keys[:-1]).all())


def _damaged(path: Path, table: Table, what: str) -> RunFolderError:
    return RunFolderError(f"the run folder {path} is damaged: in its table {table.name} {what}")
