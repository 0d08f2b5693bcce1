"""Measure around a weight's copy what its host memory cost: residency before, disk reads and page faults during.

Nothing here touches a page of the weight. mincore(2) tells which pages of a mapping are in the page cache;
/proc/self/io counts what was read from disk, getrusage(2) the process's faults, /proc/pressure/io the time that the
machine stalled on I/O (PSI, "some"). The counters are the process's, since torch copies with several threads; PSI is
the machine's.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable
from typing import NamedTuple

import torch

from tracekit.capture.hostmemory import HostMemoryMap
from tracekit.capture.recorder import Recorder
from tracekit.model import HOST_SAMPLES, NONE, HostMemory

MIN_BYTES = 64 * 1024
"""Smaller weights are not probed: the probe would cost more than their copy."""
WARM_INTERVAL = 16
"""Once a weight was seen fully resident, only every so many of its copies are probed again."""

_PAGE = os.sysconf("SC_PAGESIZE")


class Sample(NamedTuple):
    """The counters just before a copy."""

    address: int
    resident: float
    read_bytes: int
    major_faults: int
    minor_faults: int
    io_stall_us: int


class HostProbe:
    """Writes host_samples rows for weights that still live in a mapped file."""

    def __init__(self, recorder: Recorder, memory: HostMemoryMap) -> None:
        self._recorder = recorder
        self._memory = memory
        self._mincore = _load_mincore()
        self._io = _open("/proc/self/io")
        self._pressure = _open("/proc/pressure/io")
        self._warm: dict[int, int] = {}
        self._writable: dict[str, bool] = {}
        self._vector = ctypes.create_string_buffer(1 << 16)

    def before(self, source: torch.Tensor) -> Sample | None:
        """The counters now, or None when this copy is not worth a probe; `source` has at least `MIN_BYTES`."""
        address = source.data_ptr()
        skips = self._warm.get(address, 0)
        if skips:
            self._warm[address] = skips - 1
            return None
        place = self._memory.locate(address)
        if place.kind is not HostMemory.MMAP:
            return None
        start = self._recorder.clock()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        sample = Sample(
            address,
            self._resident(address, source.nbytes) if self._told(place.path) else float("nan"),
            self._read_bytes(),
            usage.ru_majflt,
            usage.ru_minflt,
            self._stall_us(),
        )
        self._recorder.add_overhead("host probe", self._recorder.clock() - start)
        return sample

    def after(self, copy_id: int, sample: Sample) -> None:
        """Write what changed across the copy."""
        start = self._recorder.clock()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        read = _difference(self._read_bytes(), sample.read_bytes)
        stall = _difference(self._stall_us(), sample.io_stall_us)
        self._recorder.sink.append(
            HOST_SAMPLES,
            copy_id,
            sample.resident,
            read,
            usage.ru_majflt - sample.major_faults,
            usage.ru_minflt - sample.minor_faults,
            stall if stall == NONE else stall * 1000,
        )
        if sample.resident == 1.0:
            self._warm[sample.address] = WARM_INTERVAL - 1
        self._recorder.add_overhead("host probe", self._recorder.clock() - start)

    def close(self) -> None:
        """Give the open counter files back."""
        for descriptor in (self._io, self._pressure):
            if descriptor is not None:
                os.close(descriptor)
        self._io = self._pressure = None

    def _told(self, path: str) -> bool:
        """Whether mincore says the truth of a file: to anyone who may not write to it, it calls every page resident."""
        if path not in self._writable:
            self._writable[path] = os.access(path, os.W_OK)
        return self._writable[path]

    def _resident(self, address: int, size_bytes: int) -> float:
        """Share of the pages under a byte range that are in the page cache; NaN when the kernel does not tell."""
        if self._mincore is None:
            return float("nan")
        first = address - address % _PAGE
        pages = -(-(address + size_bytes - first) // _PAGE)
        if pages > len(self._vector):
            self._vector = ctypes.create_string_buffer(pages)
        if self._mincore(first, pages * _PAGE, self._vector) != 0:
            return float("nan")
        # Bit 0 of each byte tells residency; the kernel keeps the other bits zero (mincore(2)).
        return 1 - self._vector.raw[:pages].count(0) / pages

    def _read_bytes(self) -> int:
        if self._io is None:
            return NONE
        for line in os.pread(self._io, 512, 0).splitlines():
            if line.startswith(b"read_bytes:"):
                return int(line[11:])
        return NONE

    def _stall_us(self) -> int:
        if self._pressure is None:
            return NONE
        _, _, total = os.pread(self._pressure, 256, 0).partition(b"total=")
        return int(total.split(b"\n", 1)[0]) if total else NONE


def _difference(now: int, then: int) -> int:
    return NONE if NONE in (now, then) else now - then


def _load_mincore() -> Callable[..., int] | None:
    try:
        mincore: Callable[..., int] = ctypes.CDLL(None, use_errno=True).mincore
    except (OSError, AttributeError):
        return None
    mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]  # type: ignore[attr-defined]
    return mincore


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None
