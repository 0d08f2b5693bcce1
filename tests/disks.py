"""Tests that put pages out of memory need a file system with a disk behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracekit.capture import linux


def on_disk(path: Path) -> Path:
    """`path`, or the test is skipped where nothing can be evicted from it."""
    if linux.is_in_memory(str(path)):
        pytest.skip(f"{path} is on a file system without a disk")
    return path
