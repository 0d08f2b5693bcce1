"""Ask the Linux kernel about pages: system calls and /proc files that Python's library does not have.

Everything here is about a range of this process's addresses or of a file, and none of it touches a page. Elsewhere than
on Linux, and on kernels that lack a call, the answer is None.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

PAGE = mmap.PAGESIZE
MADV_PAGEOUT = 21
"""madvise(2), Linux 5.4: reclaim the range's pages now, whatever their age."""
MADV_POPULATE_READ = 22
"""madvise(2), Linux 5.14: map the range's pages as if each had been read."""

_SYS_CACHESTAT = 451  # the same number on every architecture but alpha
MAPS = Path("/proc/self/maps")
_PAGEMAP = Path("/proc/self/pagemap")
_PRESENT, _OF_FILE = np.uint64(1 << 63), np.uint64(1 << 61)
_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})


class _Range(ctypes.Structure):
    """struct cachestat_range."""

    _fields_ = (("offset", ctypes.c_uint64), ("size", ctypes.c_uint64))


class _Counts(ctypes.Structure):
    """struct cachestat: numbers of pages."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recent"))


class _ProcmapQuery(ctypes.Structure):
    """struct procmap_query."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("size", "query_flags", "query_addr", "vma_start", "vma_end")),
        *((name, ctypes.c_uint64) for name in ("vma_flags", "vma_page_size", "vma_offset", "inode")),
        *((name, ctypes.c_uint32) for name in ("dev_major", "dev_minor", "vma_name_size", "build_id_size")),
        *((name, ctypes.c_uint64) for name in ("vma_name_addr", "build_id_addr")),
    )


_PROCMAP_QUERY = 3 << 30 | ctypes.sizeof(_ProcmapQuery) << 16 | ord("f") << 8 | 17  # _IOWR('f', 17, ...)
_PATH_BYTES = 4096
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
if _LIBC is not None:
    _LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    _LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _LIBC.syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
    _LIBC.syscall.restype = ctypes.c_long


def mapping_at(address: int) -> tuple[int, int, str] | None:
    """The mapping that covers an address: where it starts, the file's offset there, and the name that maps(5) gives it.

    None where nothing is mapped. One question takes microseconds, all of /proc/self/maps milliseconds.

    Raises:
        OSError: the kernel takes no such questions (PROCMAP_QUERY, Linux 6.11).
    """
    name = ctypes.create_string_buffer(_PATH_BYTES)
    query = _ProcmapQuery(size=ctypes.sizeof(_ProcmapQuery), query_addr=address)
    query.vma_name_size, query.vma_name_addr = _PATH_BYTES, ctypes.addressof(name)
    # Opened each time: a file that a process opened before it forked goes on to tell of the parent.
    maps = os.open(MAPS, os.O_RDONLY)
    try:
        fcntl.ioctl(maps, _PROCMAP_QUERY, query)
    except FileNotFoundError:
        return None
    finally:
        os.close(maps)
    return query.vma_start, query.vma_offset, os.fsdecode(name.value)


def mincore(address: int, size_bytes: int) -> int | None:
    """How many pages of a page-aligned range of addresses are in memory: mapped, or in the page cache (mincore(2)).

    A page that was edited in place (copied on write) is the process's own and counts. For a file that the process
    neither owns nor may write to, the kernel calls every page resident: see `is_told`.
    """
    if _LIBC is None:
        return None
    pages = -(-size_bytes // PAGE)
    vector = ctypes.create_string_buffer(pages)
    if _LIBC.mincore(address, size_bytes, vector) != 0:
        return None
    # Bit 0 of each byte tells residency; the kernel keeps the other bits zero.
    return pages - vector.raw[:pages].count(0)


def cachestat(descriptor: int, offset: int, size_bytes: int) -> int | None:
    """How many pages of a file's page-aligned range are in the page cache (cachestat(2), Linux 6.5).

    None where the kernel lacks the call, a sandbox forbids it, or the file is another user's.
    """
    if _LIBC is None:
        return None
    asked, counts = _Range(offset, size_bytes), _Counts()
    if _LIBC.syscall(_SYS_CACHESTAT, descriptor, ctypes.byref(asked), ctypes.byref(counts), 0) != 0:
        return None
    return int(counts.cached)


def is_told(path: str) -> bool:
    """Whether the kernel tells the truth about a file's pages: only to its owner and to who may write to it."""
    try:
        return Path(path).stat().st_uid == os.geteuid() or os.access(path, os.W_OK)
    except OSError:
        return False


def madvise(address: int, size_bytes: int, advice: int) -> None:
    """Give the kernel advice about a page-aligned range (madvise(2)).

    Raises:
        OSError: the kernel refused, or does not know the advice (EINVAL); ENOSYS elsewhere than on Linux.
    """
    if _LIBC is None:
        raise OSError(errno.ENOSYS, "no madvise here")
    if _LIBC.madvise(address, size_bytes, advice) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def mapped_pages(address: int, size_bytes: int) -> tuple[int, int] | None:
    """How many pages of a page-aligned range are in this process's page tables, and how many of these are its own.

    Its own are anonymous pages: of a private file mapping, those edited in place. From /proc/self/pagemap, which tells
    the owner this much without privileges (proc_pid_pagemap(5): bit 63 present, bit 61 of a file or shared).
    """
    try:
        with _PAGEMAP.open("rb", buffering=0) as pagemap:
            pagemap.seek(address // PAGE * 8)
            entries: npt.NDArray[np.uint64] = np.frombuffer(pagemap.read(size_bytes // PAGE * 8), dtype=np.uint64)
    except OSError:
        return None
    present = entries[(entries & _PRESENT) != 0]
    return len(present), int(((present & _OF_FILE) == 0).sum())


def is_in_memory(path: str) -> bool:
    """Whether a file lies on a file system that has no disk behind it, such as tmpfs (by /proc/self/mountinfo)."""
    try:
        device = Path(path).stat().st_dev
        mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return False
    # id, parent, major:minor, root, mount point, options, optional fields..., "-", type (proc_pid_mountinfo(5))
    number = f"{os.major(device)}:{os.minor(device)}"
    return any(fields[2] == number and fields[fields.index("-") + 1] in _IN_MEMORY for fields in mounts)
