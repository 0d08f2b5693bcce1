"""Check whether the kernel tells which pages are in the page cache, and lets go of them, on a small file of our own."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import tempfile
from pathlib import Path

from tracekit.model.machinecheck import Level, MachineCheck

RESIDENCY, CACHESTAT = "mincore", "cachestat"
_SIZE = 16 << 20
"""Large enough that the few folios which wait in another CPU's batch, and cannot be evicted, are a small share."""
_MADV_PAGEOUT = 21  # madvise(2); Python's mmap has no name for it
_SYS_CACHESTAT = 451  # of every architecture: cachestat(2), Linux 6.5
_EVICTED_SHARE = 0.25


def check_residency(folder: Path) -> MachineCheck:
    """Map a small file in `folder`, look, ask the kernel to evict it, look again. The file is gone afterwards."""
    try:
        before, after = _residency_around_eviction(folder)
    except OSError as error:
        found = f"residency of weights stays blank: {error.strerror or error}"
        remedy = "Linux 5.4 or later, and a cache folder that you may write to (XDG_CACHE_HOME)"
        return MachineCheck(check=RESIDENCY, level=Level.MISSING, found=found, remedy=remedy)
    if before < 1:
        remedy = "a file system with a page cache (ext4, xfs): put the weights there"
        found = "says that pages just read are not in the page cache"
        return MachineCheck(check=RESIDENCY, level=Level.MISSING, found=found, remedy=remedy)
    if after > _EVICTED_SHARE:
        return MachineCheck(
            check=RESIDENCY,
            level=Level.LIMITED,
            found=f"tells residency, but {after:.0%} of an evicted file stayed: cold starts cannot be made here",
            remedy="put the weights on a disk's file system (tmpfs has no disk behind it)",
        )
    return MachineCheck(check=RESIDENCY, level=Level.OK, found="tells residency, and pages can be evicted")


def check_cachestat() -> MachineCheck:
    """Whether this kernel has cachestat(2), which mincore stands in for."""
    libc = ctypes.CDLL(None, use_errno=True)
    # A wrong descriptor: a kernel that knows the call says so (EBADF), one that does not says ENOSYS.
    libc.syscall(_SYS_CACHESTAT, -1, None, None, 0)
    if ctypes.get_errno() == errno.ENOSYS:
        found, remedy = "not in this kernel: mincore stands in", "Linux 6.5 or later; nothing is lost without it"
        return MachineCheck(check=CACHESTAT, level=Level.LIMITED, found=found, remedy=remedy)
    return MachineCheck(check=CACHESTAT, level=Level.OK, found="in this kernel")


def _residency_around_eviction(folder: Path) -> tuple[float, float]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(_SIZE))
        file.flush()
        os.fsync(file.fileno())
        # Writable, though never written to, since only then ctypes gives its address.
        with mmap.mmap(file.fileno(), _SIZE, flags=mmap.MAP_PRIVATE) as mapping:
            view = (ctypes.c_char * _SIZE).from_buffer(mapping)
            try:
                _ = sum(view.raw[:: mmap.PAGESIZE])
                before = _resident_share(ctypes.addressof(view))
                mapping.madvise(_MADV_PAGEOUT)
                return before, _resident_share(ctypes.addressof(view))
            finally:
                del view


def _resident_share(address: int) -> float:
    pages = _SIZE // mmap.PAGESIZE
    vector = ctypes.create_string_buffer(pages)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(_SIZE), vector) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return sum(byte & 1 for byte in vector.raw[:pages]) / pages
