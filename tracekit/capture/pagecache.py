"""Bring the pages of mmapped weights into a state that is asked for, and read back whether they are in it.

States are set up for each weight's own pages: nothing else in its file, and no other file, is touched. No privileges
are needed on files that the user owns.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import groupby
from pathlib import Path

import torch
from torch import nn

from tracekit.capture import linux
from tracekit.capture.filecache import read_through
from tracekit.capture.hostmemory import HostMemoryMap
from tracekit.capture.pageranges import MappedRange, merge, whole_pages
from tracekit.capture.registry import module_weights
from tracekit.capture.residency import Residency
from tracekit.model import Conditions, HostMemory, PageCache

EVICTED_BELOW = 0.05
"""Share of the pages that may still be there: others' maps, or read-ahead of a neighbour, may hold a few."""
PRESENT_FROM = 0.99
_ROUNDS = 2  # the first passes over pages that are still on another core's list of new ones


def mapped_weights(roots: Iterable[nn.Module]) -> list[MappedRange]:
    """Where the weights and buffers that lie in mmapped files are, each place once; also those that accelerate holds.

    Weights on the device, in anonymous or in page-locked memory are not among them.
    """
    memory = HostMemoryMap()
    found = set()
    for root in roots:
        for module in root.modules():
            for weight in module_weights(module):
                source = memory.describe(weight.tensor)
                if weight.tensor is not None and source.kind is HostMemory.MMAP:
                    size = _extent_bytes(weight.tensor)
                    found.add(MappedRange(source.path, source.offset, weight.tensor.data_ptr(), size))
    return sorted(found)


def residency(ranges: Iterable[MappedRange]) -> float | None:
    """Share of the ranges' own pages (`whole_pages`) that are in memory.

    None where there is none, or where the kernel does not tell: of another user's file.
    """
    pages = whole_pages(ranges)
    with closing(Residency()) as ask:
        return _mean([(ask.share(part.address, part.size_bytes, part.path, part.offset), part) for part in pages])


def mapped_share(ranges: Iterable[MappedRange]) -> float | None:
    """Share of the ranges' own pages that are in this process's page tables; None where there is none."""
    shares = []
    for part in whole_pages(ranges):
        counts = linux.mapped_pages(part.address, part.size_bytes)
        if counts is None:
            return None
        shares.append((counts[0] * linux.PAGE / part.size_bytes, part))
    return _mean(shares)


def evict(ranges: Iterable[MappedRange]) -> None:
    """Put the ranges' own pages out of memory, so that the next touch reads the disk. No byte changes.

    First what is not on disk yet is written there. Then MADV_PAGEOUT takes the pages out of the page tables and the
    page cache; pages edited in place have no file behind them, and stay, or go to swap. (MADV_DONTNEED would undo the
    edits.) What no page table holds, MADV_PAGEOUT does not see; posix_fadvise(2) drops that. Pages that another
    process has mapped stay.

    Raises:
        OSError: the kernel refused.
    """
    pages = whole_pages(ranges)
    for path, parts in _by_file(pages):
        with _opened(path) as file:
            if file is not None:
                os.fdatasync(file)
            for part in parts * _ROUNDS:
                linux.madvise(part.address, part.size_bytes, linux.MADV_PAGEOUT)
                if file is not None:
                    os.posix_fadvise(file, part.offset, part.size_bytes, os.POSIX_FADV_DONTNEED)


def cache(ranges: Iterable[MappedRange]) -> None:
    """Read the ranges from their files, which brings them into the page cache and into no page table.

    Raises:
        OSError: a file cannot be read.
    """
    for path, parts in _by_file(merge(ranges)):
        read_through(Path(path), [(part.offset, part.size_bytes) for part in parts])


def cache_unmapped(ranges: Sequence[MappedRange]) -> None:
    """Have the ranges in the page cache and out of the page tables; where they are so already, nothing is done.

    Raises:
        OSError: the kernel refused, or a file cannot be read.
    """
    # Pages leave the page tables by leaving memory.
    mapped = mapped_share(ranges)
    if mapped is None or mapped >= EVICTED_BELOW:
        evict(ranges)
    if residency(ranges) != 1:
        cache(ranges)


def populate(ranges: Iterable[MappedRange]) -> None:
    """Put the ranges into this process's page tables, as reading every page would.

    Raises:
        OSError: the kernel is older than Linux 5.14 (EINVAL), or a file cannot be read.
    """
    for part in merge(ranges):
        before = part.address % linux.PAGE
        linux.madvise(part.address - before, before + part.size_bytes, linux.MADV_POPULATE_READ)


def establish(roots: Iterable[nn.Module], wanted: PageCache) -> Conditions:
    """Bring the mmapped weights of these modules into a state, and say what was read back.

    Nothing is raised: a state that could not be brought about is `established=False`, with the reason.
    """
    ranges = mapped_weights(roots)
    reason = _set_up(ranges, wanted)
    resident, mapped = residency(ranges), mapped_share(ranges)
    if not reason and wanted != PageCache.AS_IS:
        reason = _missed(wanted, resident, mapped)
    return Conditions(
        page_cache=wanted, resident_share=resident, mapped_share=mapped, established=not reason, reason=reason
    )


def _set_up(ranges: Sequence[MappedRange], wanted: PageCache) -> str:
    """Do it; why it cannot be, or nothing."""
    if wanted == PageCache.AS_IS:
        return ""
    if sys.platform != "linux":
        return f"there is no way to it on {sys.platform}"
    if not ranges:
        return "no weight lies in a mapped file: the page cache plays no part"
    in_memory = [path for path in _paths(ranges) if linux.is_in_memory(path)]
    if in_memory and wanted != PageCache.MAPPED:
        return f"{in_memory[0]} is on a file system without a disk, from which nothing can be evicted"
    try:
        for act in _STEPS[wanted]:
            act(ranges)
    except OSError as error:
        return f"the kernel refused: {error.strerror or error}"
    return ""


def _missed(wanted: PageCache, resident: float | None, mapped: float | None) -> str:
    """Why what was read back is not the state, or nothing."""
    if resident is None or mapped is None:
        return "the kernel does not tell which pages are in memory: the files belong to another user"
    if wanted == PageCache.EVICTED:
        if resident < EVICTED_BELOW:
            return ""
        return f"{resident:.0%} of the pages stayed in memory: edited in place, or in another process's use"
    if resident < PRESENT_FROM:
        return f"only {resident:.0%} of the pages are in memory: there is less of it than weights"
    if wanted == PageCache.CACHED and mapped >= EVICTED_BELOW:
        return f"{mapped:.0%} of the pages stayed in the page tables: in another process's use?"
    if wanted == PageCache.MAPPED and mapped < PRESENT_FROM:
        return f"only {mapped:.0%} of the pages are in the page tables"
    return ""


_STEPS: dict[PageCache, tuple[Callable[[Sequence[MappedRange]], None], ...]] = {
    PageCache.EVICTED: (evict,),
    PageCache.CACHED: (cache_unmapped,),
    # First into the page cache in large reads: populating reads what is missing piece by piece.
    PageCache.MAPPED: (cache, populate),
}


def _extent_bytes(tensor: torch.Tensor) -> int:
    """From a tensor's first byte to its last, whatever its strides; it has at least one element."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (reach + 1) * tensor.element_size()


def _mean(shares: Sequence[tuple[float, MappedRange]]) -> float | None:
    """The mean by bytes; None where one is unknown, or there is none."""
    total = sum(part.size_bytes for _, part in shares)
    if not total:
        return None
    mean = sum(share * part.size_bytes for share, part in shares) / total
    return None if mean != mean else mean


def _paths(ranges: Iterable[MappedRange]) -> list[str]:
    return sorted({part.path for part in ranges})


def _by_file(ranges: Iterable[MappedRange]) -> Iterator[tuple[str, list[MappedRange]]]:
    for path, parts in groupby(sorted(ranges), key=lambda part: part.path):
        yield path, list(parts)


@contextmanager
def _opened(path: str) -> Iterator[int | None]:
    """A descriptor of the file; None where it cannot be opened, or was removed since it was mapped."""
    descriptor = None
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
