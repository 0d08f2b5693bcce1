"""Whole files in or out of the page cache, while no process has them mapped."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_BUFFER_BYTES = 8 << 20


def evict_files(paths: Iterable[Path]) -> None:
    """Drop files from the page cache: the next reader gets them from disk. Pages that are mapped somewhere stay.

    Nothing happens where the system has no such call.

    Raises:
        OSError: a file cannot be opened or written out.
    """
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)  # what is not on disk yet cannot be dropped
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def cache_files(paths: Iterable[Path]) -> None:
    """Read files through, so that they are in the page cache as far as memory holds them.

    Raises:
        OSError: a file cannot be read.
    """
    for path in paths:
        read_through(path, [(0, path.stat().st_size)])


def read_through(path: Path, ranges: Iterable[tuple[int, int]]) -> None:
    """Read `ranges` of a file: an offset and a number of bytes each.

    Raises:
        OSError: it cannot be read.
    """
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with path.open("rb", buffering=0) as file:
        for start, size_bytes in ranges:
            end = start + size_bytes
            for offset in range(start, end, _BUFFER_BYTES):
                os.preadv(file.fileno(), [buffer[: min(_BUFFER_BYTES, end - offset)]], offset)
