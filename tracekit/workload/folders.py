"""Make a folder as a whole or not at all: under a temporary name beside it, renamed when it is complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tracekit import units
from tracekit.errors import UsageError


@contextlib.contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `destination` when the block ends in order, and vanishes when not.

    What attempts that were killed left behind is removed first: an attempt holds a lock (flock) on its folder as
    long as its process lives.

    Raises:
        UsageError: the place cannot be written to, or became full.
    """
    prefix = f".{destination.name}.partial-"
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _remove_dead_attempts(destination.parent, prefix)
        attempt = Path(tempfile.mkdtemp(prefix=prefix, dir=destination.parent))
    except OSError as error:
        raise UsageError(f"cannot write to {destination.parent}: {error.strerror}") from error
    lock = os.open(attempt, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield attempt
        attempt.chmod(0o777 & ~_umask())  # mkdtemp made it private
        attempt.rename(destination)
    except OSError as error:
        message = _explained(error, destination)
        if message is None:
            raise
        raise UsageError(message) from error
    finally:
        # After the rename there is nothing here.
        shutil.rmtree(attempt, ignore_errors=True)
        os.close(lock)


def check_space(destination: Path, needed_bytes: int) -> None:
    """Raise UsageError unless the file system of `destination` has `needed_bytes` and a little more free."""
    place = destination
    while not place.exists():
        place = place.parent
    free_bytes = shutil.disk_usage(place).free
    # File systems want some room of their own, and the small files are not counted.
    if free_bytes < needed_bytes + needed_bytes // 100 + (1 << 20):
        raise UsageError(
            f"not enough disk space at {place}: {units.format_bytes(needed_bytes)} needed, "
            f"{units.format_bytes(free_bytes)} free"
        )


def _remove_dead_attempts(parent: Path, prefix: str) -> None:
    for attempt in parent.glob(f"{prefix}*"):
        try:
            lock = os.open(attempt, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # somebody else removed it, or owns it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # alive
        else:
            shutil.rmtree(attempt, ignore_errors=True)
        finally:
            os.close(lock)


def _explained(error: OSError, destination: Path) -> str | None:
    """What the user must know of an error that the place is to blame for; None for any other."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk became full while writing {destination}; nothing is left of it"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write {destination}: {error.strerror}"
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
        return f"{destination} appeared while it was being made; it was left as it is"
    return None


def _umask() -> int:
    # The only way to read it is to set it.
    value = os.umask(0)
    os.umask(value)
    return value
