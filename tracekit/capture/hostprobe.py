"""Measure around a weight's copy what its host memory cost: residency before, disk reads and page faults during.

Nothing here touches a page of the weight. Residency is of the weight's own pages (see `residency`); getrusage(2)
counts what the process read from disk and its page faults, for all its threads, since torch copies with several;
/proc/pressure/io is the time that the machine stalled on I/O (PSI, "some").

A weight's first copy is probed in full. After that its copies are only watched: the bytes that the process read from
disk are counted after each, from the count before on, and every so often comes a full probe, of other weights in each
step. A weight that was put out of memory shows in these bytes, and from then on every weight is probed in full once
more.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Callable
from itertools import cycle
from typing import NamedTuple

import torch

from tracekit.capture.hostmemory import HostMemoryMap
from tracekit.capture.recorder import Recorder
from tracekit.capture.residency import Residency
from tracekit.model import HOST_SAMPLES, NONE, HostMemory

MIN_BYTES = 64 * 1024
"""Smaller weights are not probed: the probe would cost more than their copy."""
SETTLED_NS = 1_000_000_000
"""Read-ahead that was begun this long ago has ended."""
WARM_INTERVAL = 64
"""On average, one in so many of a weight's copies is probed in full, once it was copied."""
CHAINED_NS = 1_000_000_000
"""An older count of the bytes read is made again before a watched copy: what was read since need not be the copy's."""

_UNKNOWN = math.nan
_READ = b"\nread_bytes: "  # in /proc/self/io (proc_pid_io(5))
_BLOCK = 512  # ru_inblock is /proc/self/io's read_bytes in such blocks, and costs a third (task_io_get_inblock)
_ROUNDED = 4096 * _BLOCK  # one for each of so many threads, those that have ended among them
_STALLED = b"total="  # of the first line, "some", in /proc/pressure/io: microseconds
_PROBED = frozenset({HostMemory.MMAP, HostMemory.ANONYMOUS})  # page-locked memory is never paged


class Sample(NamedTuple):
    """The counters just before a copy; `faults` (major, minor) and `io_stall_us` of a full probe alone.

    `took_ns` is what reading them took.
    """

    resident: float
    read_bytes: int
    faults: tuple[int, int] | None
    io_stall_us: int
    took_ns: int


class HostProbe:
    """Writes a host_samples row for each copy of a weight in pageable memory; `visited` is told when it is about to."""

    def __init__(self, recorder: Recorder, memory: HostMemoryMap, visited: Callable[[int], None]) -> None:
        self._recorder = recorder
        self._memory = memory
        self._visited = visited
        self._residency = Residency()
        self._usage = recorder.hooks.usage
        self._tells_reads = _tells_reads(self._usage)
        self._pressure = _open("/proc/pressure/io", _STALLED)
        self._pack, self._extend = recorder.sink.raw(HOST_SAMPLES)
        self._watched: dict[int, int] = {}  # by address: copies until the next full probe
        self._waits = cycle(range(0, 2 * WARM_INTERVAL, 2))  # so that full probes spread over steps
        self._counted = (NONE, 0)  # the bytes read, and when they were counted
        self._last_growth = 0  # when they were last seen to have grown

    def missing(self) -> list[str]:
        """What this system does not tell, a line each."""
        if sys.platform != "linux":
            return [f"no host-memory evidence on {sys.platform}: what backs a weight and whether it paged is unknown"]
        told = {
            "bytes read from disk (/proc/self/io)": self._tells_reads,
            "I/O stall (/proc/pressure/io)": self._pressure is not None,
        }
        return [f"the system does not tell: {what}" for what, it_does in told.items() if not it_does]

    def untold(self) -> list[str]:
        """Files whose residency the kernel did not tell, a line each."""
        return [
            f"residency of {path} is unknown: it is another user's file, or gone" for path in self._residency.untold
        ]

    def before(self, source: torch.Tensor) -> Sample | None:
        """The counters now, or None when this copy is not worth a probe; `source` has at least `MIN_BYTES`."""
        address = source.data_ptr()
        place = self._memory.found.get(address) or self._memory.describe(source)
        if place.kind not in _PROBED:
            return None
        self._visited(self._recorder.clock())
        start = self._recorder.clock()
        read_bytes, counted_ns = self._counted
        left = self._watched.get(address, 0)
        # Watching needs the bytes read: without them every copy is probed.
        if left and self._tells_reads:
            self._watched[address] = left - 1
            if start - counted_ns > CHAINED_NS:
                read_bytes, _ = self._count(start)
            resident, faults, stall_us = _UNKNOWN, None, NONE
        else:
            resident = _UNKNOWN
            if place.kind is HostMemory.MMAP:
                self._count(start)
                settled = start - self._last_growth > SETTLED_NS
                resident = self._residency.share(address, source.nbytes, place.path, place.offset, settled=settled)
            self._watched[address] = next(self._waits)
            stall_us = self._stall_us()
            read_bytes, faults = self._count(start)  # last: the questions before it fault, too
        took = self._recorder.clock() - start
        self._recorder.add_overhead("host probe", took)
        return Sample(resident, read_bytes, faults, stall_us, took)

    def after(self, copy_id: int, sample: Sample) -> None:
        """Write what changed across the copy."""
        start = self._recorder.clock()
        read_bytes, faults = self._count(start)
        read = _difference(read_bytes, sample.read_bytes)
        major = minor = stall_ns = NONE
        if sample.faults is not None:
            major, minor = faults[0] - sample.faults[0], faults[1] - sample.faults[1]
            stall_us = _difference(self._stall_us(), sample.io_stall_us)
            stall_ns = NONE if stall_us == NONE else stall_us * 1000
        elif read > 0:
            self._watched.clear()
        took = self._recorder.clock() - start
        self._extend(self._pack(copy_id, sample.resident, read, major, minor, stall_ns, sample.took_ns + took))
        self._recorder.add_overhead("host probe", took)

    def close(self) -> None:
        """Give the open files back."""
        self._residency.close()
        if self._pressure is not None:
            os.close(self._pressure)
            self._pressure = None

    def _count(self, now_ns: int) -> tuple[int, tuple[int, int]]:
        """The bytes that the process has read from disk until now, and its page faults, major and minor."""
        blocks, major, minor = self._usage()
        if not self._tells_reads:
            return NONE, (major, minor)
        read_bytes = blocks * _BLOCK
        if read_bytes != self._counted[0]:
            self._last_growth = now_ns
        self._counted = read_bytes, now_ns
        return read_bytes, (major, minor)

    def _stall_us(self) -> int:
        if self._pressure is None:
            return NONE
        return _number(self._pressure, _STALLED)


def _tells_reads(usage: Callable[[], tuple[int, int, int]]) -> bool:
    """Whether getrusage(2) counts what comes from disk: a kernel without I/O accounting leaves its count at 0.

    /proc/self/io counts what children read that have been waited for, too, which getrusage keeps apart; and getrusage
    rounds the bytes of every thread down to blocks.
    """
    descriptor = _open("/proc/self/io", _READ)
    if descriptor is None:
        return False
    before = _number(descriptor, _READ)
    counted = (usage()[0] + resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock) * _BLOCK
    after = _number(descriptor, _READ)
    os.close(descriptor)
    return before - _ROUNDED <= counted <= after


def _difference(now: int, then: int) -> int:
    return NONE if NONE in (now, then) else now - then


def _open(path: str, name: bytes) -> int | None:
    """A descriptor to read a number from again and again; None where the file is not there, or does not have it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        _number(descriptor, name)  # a kernel without PSI accounting opens the file, and refuses the reading
    except (OSError, ValueError):
        os.close(descriptor)
        return None
    return descriptor


def _number(descriptor: int, name: bytes) -> int:
    """The number behind the first `name` in a file of /proc, up to its line's end."""
    _, _, value = os.pread(descriptor, 512, 0).partition(name)
    return int(value[: value.index(b"\n")])
