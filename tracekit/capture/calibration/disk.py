"""Time direct reads of the weights' own files, which go past the page cache and leave it as it is."""

from __future__ import annotations

import errno
import mmap
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tracekit.capture import linux
from tracekit.capture.calibration.sample import MB, Budget, Sample
from tracekit.model import Measure

CHUNK_BYTES = 16 * MB
READERS = 4
MAX_BYTES = 256 * MB
_ALIGN = MB  # more than any disk's block
_SHARE_OF_FILES = 4
_SECONDS = 0.6


class _File(NamedTuple):
    descriptor: int
    size_bytes: int


def disk_samples(files: Sequence[Path]) -> Iterator[Sample]:
    """Reads of chunks in random places: half of them one at a time, then the other half four at a time, as one sample.

    A read of 16 MiB keeps as much under way as read-ahead ever does for one reader, so the first kind is what a copy
    that pages in can reach; the second is the disk's own limit. At most 256 MiB and a quarter of the files are read,
    since what is below the page cache (a controller's or a host's memory) keeps what was read. Files in memory are
    left out.

    Raises:
        OSError: the file system has no direct I/O, or a file cannot be read.
    """
    with ExitStack() as stack:
        opened = [_open(path, stack) for path in files if not linux.is_in_memory(str(path))]
        total = min(MAX_BYTES, sum(file.size_bytes for file in opened) // _SHARE_OF_FILES)
        chunk = min(CHUNK_BYTES, total // (2 * READERS) // _ALIGN * _ALIGN)
        usable = [file for file in opened if file.size_bytes >= chunk + _ALIGN]
        if not chunk or not usable:
            return
        reader = _Reader(usable, chunk)
        alone = total // 2 // chunk
        yield from reader.read(alone, 1, Budget(_SECONDS))
        yield from reader.read((total // chunk - alone) // READERS, READERS, Budget(_SECONDS))


class _Reader:
    """Reads chunks in places drawn anew in each process: the same places would come from some cache below."""

    def __init__(self, files: Sequence[_File], chunk_bytes: int) -> None:
        self._files = files
        self._weights = [file.size_bytes for file in files]
        self._chunk = chunk_bytes
        self._random = random.Random()  # the program's own generator stays as it is
        self._buffers = [mmap.mmap(-1, chunk_bytes) for _ in range(READERS)]  # page-aligned, as direct I/O wants it
        for buffer in self._buffers:
            buffer.write(b"\1" * chunk_bytes)

    def read(self, times: int, readers: int, budget: Budget) -> Iterator[Sample]:
        """`times` samples, each of one chunk for each of the readers; fewer when the time is up."""
        with ThreadPoolExecutor(readers) as pool:
            all_started = threading.Barrier(readers)
            try:
                list(pool.map(lambda _: all_started.wait(), range(readers)))
            except BaseException:
                all_started.abort()  # interrupted in between: those that have started would wait for the rest forever
                raise
            for _ in range(times):
                places = [self._place() for _ in range(readers)]
                start = time.monotonic_ns()
                done = sum(pool.map(self._read_one, places, self._buffers))
                duration = time.monotonic_ns() - start
                if done == readers * self._chunk:
                    yield Sample(Measure.DISK_READ, done, duration)
                if not budget.left:
                    return

    def _place(self) -> tuple[int, int]:
        (file,) = self._random.choices(self._files, self._weights)
        return file.descriptor, self._random.randrange(0, file.size_bytes - self._chunk + 1, _ALIGN)

    def _read_one(self, place: tuple[int, int], buffer: mmap.mmap) -> int:
        descriptor, offset = place
        return os.preadv(descriptor, [buffer], offset)


def _open(path: Path, stack: ExitStack) -> _File:
    if not hasattr(os, "O_DIRECT"):
        raise OSError(errno.ENOTSUP, "this system has no direct I/O")
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return _File(descriptor, os.fstat(descriptor).st_size)
