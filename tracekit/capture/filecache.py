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
    buffer = bytearray(_BUFFER_BYTES)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
