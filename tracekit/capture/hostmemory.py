"""Tell what the host side of a copy is, from the process's memory map, without touching its pages."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import torch

from tracekit.capture import linux
from tracekit.model import NONE, HostMemory

_NOT_FILES = ("/dev/", "/memfd:", "/SYSV", "/anon_hugepage")  # mappings with a path that no disk is behind


class HostSource(NamedTuple):
    """Where a tensor's first byte lies: a `HostMemory` value, and for mmap the file and the offset in it (bytes)."""

    kind: HostMemory
    path: str
    offset: int


ANONYMOUS = HostSource(HostMemory.ANONYMOUS, "", NONE)
PINNED = HostSource(HostMemory.PINNED, "", NONE)
UNKNOWN = HostSource(HostMemory.UNKNOWN, "", NONE)


class HostMemoryMap:
    """A snapshot of /proc/self/maps, and what was found there for each address that was asked for.

    `refresh` reads it anew, which takes milliseconds in a large process, inside of what `own_work` makes for it. Of
    memory mapped since, the kernel is asked by itself; one that takes no such questions has the map read again for
    pages that nobody wrote to. Everything is `HostMemory.UNKNOWN` where there is no /proc.
    """

    def __init__(self, own_work: Callable[[str], AbstractContextManager[object]] = nullcontext) -> None:
        self._own_work = own_work
        self._starts: list[int] = []
        self._regions: list[tuple[int, int, str]] = []
        self.found: dict[int, HostSource] = {}
        self.available = linux.MAPS.exists()
        self.refresh()

    def refresh(self) -> None:
        """Read the map again: memory that was given back may belong to something else by now."""
        self.found.clear()
        if not self.available:
            return
        with self._own_work("read memory map"):
            regions = [_parse(line) for line in linux.MAPS.read_text(errors="surrogateescape").splitlines()]
            self._regions = [(end, offset, path) for _, end, offset, path in regions]
            self._starts = [start for start, _, _, _ in regions]

    def describe(self, tensor: torch.Tensor | None) -> HostSource:
        """The host memory behind a CPU tensor; unknown for one that is elsewhere or empty, or for none."""
        if tensor is None or not tensor.is_cpu or tensor.numel() == 0:
            return UNKNOWN
        address = tensor.data_ptr()
        source = self.found.get(address)
        if source is None:
            pinned = torch.cuda.is_initialized() and tensor.is_pinned()
            source = self.found[address] = PINNED if pinned else self.locate(address)
        return source

    def locate(self, address: int) -> HostSource:
        """What the mapping at `address` is.

        A weight edited in place in its private mapping still counts as mmap: what was written to is copied page by
        page, and the map does not tell. Only residency does (see `residency`).
        """
        if not self.available:
            return UNKNOWN
        found = self._region(address) or self._mapped_since(address)
        if found is None:
            return UNKNOWN
        start, offset, path = found
        if not _is_file(path):
            return ANONYMOUS
        return HostSource(HostMemory.MMAP, path, offset + address - start)

    def files(self) -> list[Path]:
        """Every mapped file that a disk may be behind, once."""
        paths = {path for _, _, path in self._regions}
        return sorted(Path(path) for path in paths if _is_file(path))

    def _mapped_since(self, address: int) -> tuple[int, int, str] | None:
        with suppress(OSError):
            return linux.mapping_at(address)
        # What has just been written to, as a copy back has, is a page of the process's own: no file is behind it, but
        # for a file mapped since whose first page was edited in place.
        page = address // linux.PAGE * linux.PAGE
        if linux.mapped_pages(page, linux.PAGE) == (1, 1):
            return page, 0, ""
        self.refresh()
        return self._region(address)

    def _region(self, address: int) -> tuple[int, int, str] | None:
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._regions[index][0]:
            return None
        _, offset, path = self._regions[index]
        return self._starts[index], offset, path


def _is_file(path: str) -> bool:
    return path.startswith("/") and not path.startswith(_NOT_FILES)


def _parse(line: str) -> tuple[int, int, int, str]:
    """One line of /proc/self/maps: ``start-end perms offset dev inode path`` (proc(5))."""
    fields = line.split(None, 5)
    start, _, end = fields[0].partition("-")
    return int(start, 16), int(end, 16), int(fields[2], 16), fields[5] if len(fields) > 5 else ""
