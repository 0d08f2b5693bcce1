"""Tell what share of mapped pages is in memory, without touching them."""

from __future__ import annotations

import math
import os

from tracekit.capture import linux
from tracekit.capture.linux import PAGE


class Residency:
    """Asks the kernel about pages of mapped files, which it keeps open until `close`.

    mincore(2) tells of each page whether a read finds it: mapped or in the page cache, up to date, or edited in place.
    Pages that are not mapped it looks up one by one, 1.2 to 2 ms for 100 MB (16 us when all are mapped). cachestat(2)
    counts 100 MB in 2 to 130 us, but takes pages whose reading has only begun for present, and knows nothing of edits;
    so its word is taken only for "all there" while nothing is being read.

    Both tell a process only what it may know. Of other users' files the answer is "unknown", and the file's path is
    added to `untold`.
    """

    def __init__(self) -> None:
        self.untold: set[str] = set()
        self._files: dict[str, int | None] = {}

    def share(self, address: int, size_bytes: int, path: str, offset: int, *, settled: bool = False) -> float:
        """Share of the pages under a byte range that a read finds in memory; NaN where that is not known.

        `address` is where byte `offset` of the file `path` is mapped. `settled` says that no read of the file is under
        way, which makes the question cheaper.
        """
        if path not in self._files:
            self._files[path] = self._open(path)
        descriptor = self._files[path]
        if descriptor is None:
            return math.nan
        before = address % PAGE
        pages = -(-(before + size_bytes) // PAGE)
        if settled and linux.cachestat(descriptor, offset - before, pages * PAGE) == pages:
            return 1.0
        resident = linux.mincore(address - before, pages * PAGE)
        return math.nan if resident is None else resident / pages

    def close(self) -> None:
        """Give the files back."""
        for descriptor in self._files.values():
            if descriptor is not None:
                os.close(descriptor)
        self._files.clear()

    def _open(self, path: str) -> int | None:
        # A file that was removed since it was mapped is not told either: the map calls it "... (deleted)".
        try:
            if linux.is_told(path):
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            pass
        self.untold.add(path)
        return None
