"""The one function that writes files: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tracekit.errors import UsageError


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that appears at `path` only when it is complete; one that was there is replaced.

    Whatever goes wrong, an exception in `write` or Ctrl-C included, nothing half-written stays.

    Raises:
        UsageError: the file cannot be written: no such folder, read-only, full.
    """
    temporary = ""
    try:
        # In the same folder: a rename across file systems would be a copy.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with open(handle, "wb") as stream:  # noqa: PTH123 - a descriptor, not a path
            write(stream)
        # mkstemp keeps the file to its owner; a result has the rights that any new file gets.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def write_text(text: str, path: Path) -> Path:
    """Write a text as a file, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    content = text.encode()
    write_file(path, lambda stream: stream.write(content))
    return path
