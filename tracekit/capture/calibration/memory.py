"""Time what the kernel does for host memory: fresh pages for a clone, and mapping pages that are in the page cache."""

from __future__ import annotations

import mmap
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from tracekit.capture.calibration.cores import SPREAD, Cores
from tracekit.capture.calibration.sample import MB, Sample, fresh_bytes, touched_bytes
from tracekit.capture.linux import PAGE
from tracekit.model import Measure

SIZE = 32 * MB
PIECES = 4
MAPPINGS = SPREAD


def memory_samples() -> Iterator[Sample]:
    """Clones, copies and mappings of 32 MiB.

    Raises:
        OSError: there is no room for a temporary file.
    """
    yield from _cloning()
    yield from _mapping()


def _cloning() -> Iterator[Sample]:
    """Copies into fresh anonymous memory, each page first zeroed, then written; and again into the same pages.

    Each is of another place, as each weight is: copied over and over, one place would stay in the CPU's caches, and go
    up to eight times as fast. Torch copies with several threads: moved to the core of one of them, this thread would
    wait for it, two of the scheduler's ticks, which took five times as long as the copy. So it is not moved.
    """
    source, target = touched_bytes(PIECES * SIZE), fresh_bytes(PIECES * SIZE)
    for measure in (Measure.CLONE, Measure.HOST_COPY):
        for to, piece in zip(target.split(SIZE), source.split(SIZE), strict=True):
            start = time.monotonic_ns()
            to.copy_(piece)
            yield Sample(measure, SIZE, time.monotonic_ns() - start)


def _mapping() -> Iterator[Sample]:
    """First touches of a mapped file's cached pages: one read of each page, less what the same reads take again.

    The file is a temporary one, gone before the kernel writes it to disk.
    """
    with tempfile.TemporaryFile(prefix="tracekit-calibration-") as file:
        block = b"\1" * MB
        for _ in range(SIZE // MB):
            file.write(block)
        file.flush()
        cores = Cores()
        for _ in range(MAPPINGS):
            cores.move()
            with mmap.mmap(file.fileno(), SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
                first, again = (_read_each_page(mapped) for _ in range(2))
            yield Sample(Measure.MAP_PAGES, SIZE, max(first - again, 1))


def _read_each_page(mapped: mmap.mmap) -> int:
    view = np.frombuffer(mapped, dtype=np.uint8)
    start = time.monotonic_ns()
    view[::PAGE].max()
    return time.monotonic_ns() - start
