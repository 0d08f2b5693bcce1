"""Where a run folder's files are, what a new one is called, and which folders may be replaced by one."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import msgspec

from tracekit.errors import UsageError
from tracekit.model import TABLES

MANIFEST_NAME = "manifest.json"
SPOOL_NAME = "spool"
STRINGS_NAME = "strings.bin"
PART_NAME = "part-0.parquet"
PLAN_NAME = "plan.json"
VERIFIED_NAME = "verified"
"""Where a plan is kept, and the runs that verified it."""

_OWN_NAMES = frozenset(TABLES) | {
    MANIFEST_NAME,
    SPOOL_NAME,
    "trace.json",
    "trace.json.gz",
    "report.html",
    PLAN_NAME,
    VERIFIED_NAME,
}
"""What tracekit puts into a run folder: a folder with anything else in it is never replaced."""
_NAME_LIMIT = 60
UNREADABLE_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for JSON from strangers; bytes that are no UTF-8 inside a string have an error of their own."""


class _Mark(msgspec.Struct):
    """What makes a JSON file a run's manifest, of whatever version."""

    schema_version: int
    tracekit_version: str


def part_path(folder: Path, table_name: str) -> Path:
    """The Parquet part of a table."""
    return folder / table_name / PART_NAME


def spool_path(folder: Path, table_name: str) -> Path:
    """The raw rows of a table, while the profile runs and after it was killed."""
    return folder / SPOOL_NAME / f"{table_name}.rows"


def strings_path(folder: Path) -> Path:
    """The strings that the spooled rows' ids mean."""
    return folder / SPOOL_NAME / STRINGS_NAME


def default_run_path(root: Path, workload: str, mode: str, now: datetime) -> Path:
    """``root/runs/<pipeline>_<mode>_<date-time>``, not there yet.

    The pipeline is the last part of a hub id, path or ``synthetic:`` name, with only letters, digits, ``.``, ``-``.
    """
    last = re.split(r"[/:\\]", workload.rstrip("/\\"))[-1].removesuffix(".py")
    pipeline = re.sub(r"[^A-Za-z0-9.-]+", "-", last).strip("-.")[:_NAME_LIMIT] or "run"
    stem = f"{pipeline}_{mode}_{now:%Y-%m-%d_%H-%M-%S}"
    path = root / "runs" / stem
    count = 1
    while path.exists():
        count += 1
        path = root / "runs" / f"{stem}_{count}"
    return path


def check_replaceable(path: Path, force: bool) -> None:
    """Refuse an output path that is taken, unless `force` is set and it is a run folder and nothing more.

    Raises:
        UsageError: the path exists and may not be replaced.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not force:
        raise UsageError(
            f"the output {path} exists already: choose another --output, or --force to replace a run folder"
        )
    if path.is_symlink() or not path.is_dir():
        raise UsageError(f"the output {path} is no run folder, so --force does not replace it: choose another --output")
    names = {entry.name for entry in path.iterdir()}
    foreign = sorted(names - _OWN_NAMES)
    if foreign:
        raise UsageError(f"{path} holds {foreign[0]!r}, which tracekit did not write: choose another --output")
    if names and not _has_manifest(path):
        raise UsageError(f"the output {path} is no run folder, so --force does not replace it: choose another --output")


def _has_manifest(folder: Path) -> bool:
    try:
        msgspec.json.decode((folder / MANIFEST_NAME).read_bytes(), type=_Mark)
    except (OSError, *UNREADABLE_JSON):
        return False
    return True
