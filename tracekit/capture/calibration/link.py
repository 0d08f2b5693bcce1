"""Time copies between host and device by size, from pageable and from page-locked memory, and page-locking itself."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tracekit.capture.calibration.cores import SPREAD, Cores
from tracekit.capture.calibration.devicememory import device_bytes, free_bytes, given_back
from tracekit.capture.calibration.sample import MB, Budget, Sample, fresh_bytes, touched_bytes
from tracekit.capture.hostmemory import HostMemoryMap
from tracekit.device.choice import DeviceChoice
from tracekit.model import Measure

SIZES = tuple(1 << shift for shift in range(16, 29, 2))
"""64 KiB to 256 MiB."""
SIZES_EMULATED = SIZES[:-1]
"""A memcpy that no link limits has its final rate by 64 MiB."""
REPEATS = 5
_COPIES_AT_LEAST = 8  # of the largest size; the sizes below it take as long again
_SECONDS = 1.0
_SECONDS_EMULATED = 0.3
_SHARE_OF_MEMORY = 4  # of what is free on the device, a quarter is used at most
_AHEAD_BYTES = 16 * MB
_PIN_BYTES = (16 * MB, 64 * MB)
_FRESH_BYTES = (1 * MB, 16 * MB, 64 * MB)

Copy = Callable[[], object]
Timer = Callable[[Copy], int]


def link_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Copies both ways; of page-locked memory on CUDA alone, since the emulated device has none.

    Raises:
        RuntimeError: the device has no memory left, or the driver refuses to lock pages.
    """
    with given_back(device):
        yield from _emulated(device) if device.kind == "emulated" else _pageable(device)
    yield from pinned_samples(device)


def pinned_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Copies of page-locked memory both ways; none on the emulated device.

    Made twice in a calibration, a while apart: another program's copies can slow the link down all the while that one
    pass takes, and no copy of the run is to be faster than the fastest sample.

    Raises:
        RuntimeError: the device has no memory left, or the driver refuses to lock pages.
    """
    if device.kind != "emulated":
        with given_back(device):
            yield from _pinned(device)


def _emulated(device: DeviceChoice) -> Iterator[Sample]:
    sizes = fitting(device, SIZES_EMULATED)
    buffers = _Buffers(touched_bytes(sizes[-1]), device_bytes(device, sizes[-1]), non_blocking=False)
    sizes = buffers.affordable(sizes, _on_host, _SECONDS_EMULATED)  # the link may be throttled
    yield from buffers.both_ways(sizes, _on_host, Measure.PAGEABLE_H2D, Measure.PAGEABLE_D2H, _SECONDS_EMULATED)
    yield from _into_fresh(buffers.device[: min(sizes[-1], _FRESH_BYTES[1])])


def _pageable(device: DeviceChoice) -> Iterator[Sample]:
    sizes = fitting(device, SIZES)
    host, on_device = touched_bytes(sizes[-1]), device_bytes(device, sizes[-1])
    buffers = _Buffers(host, on_device, non_blocking=False)
    yield from buffers.both_ways(sizes, _Events().from_idle, Measure.PAGEABLE_H2D, Measure.PAGEABLE_D2H, _SECONDS)
    yield from _into_fresh(on_device)
    yield from _page_locking()


def _pinned(device: DeviceChoice) -> Iterator[Sample]:
    sizes = fitting(device, SIZES)
    host, on_device = touched_bytes(sizes[-1]), device_bytes(device, sizes[-1])
    with page_locked(host):
        buffers = _Buffers(host, on_device, non_blocking=True)
        queued = _Events().behind(buffers.copy(min(_AHEAD_BYTES, sizes[-1])))
        yield from buffers.both_ways(sizes, queued, Measure.PINNED_H2D, Measure.PINNED_D2H, _SECONDS)


def fitting(device: DeviceChoice, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes that the device's free memory has room for several times over.

    Raises:
        RuntimeError: none of them.
    """
    limit = free_bytes(device) // _SHARE_OF_MEMORY
    fitting = tuple(size for size in sizes if size <= limit)
    if not fitting:
        raise RuntimeError("hardly any device memory is free")
    return fitting


@dataclass(frozen=True)
class _Buffers:
    """The host's and the device's side of the copies, of equal size."""

    host: torch.Tensor
    device: torch.Tensor
    non_blocking: bool

    def copy(self, size: int, *, to_host: bool = False, at: int = 0) -> Copy:
        """A copy of `size` bytes from place `at` of one side to the same place of the other."""
        host, device = self.host[at : at + size], self.device[at : at + size]
        target, source = (host, device) if to_host else (device, host)
        return lambda: target.copy_(source, non_blocking=self.non_blocking)

    def affordable(self, sizes: tuple[int, ...], timed: Timer, seconds: float) -> tuple[int, ...]:
        """The sizes of which a few copies fit into the time; the smallest whatever it takes."""
        trial = self.copy(sizes[0])
        timed(trial)
        rate = sizes[0] / timed(trial)
        return tuple(size for size in sizes if size == sizes[0] or size / rate < seconds * 1e9 / _COPIES_AT_LEAST)

    def both_ways(
        self, sizes: tuple[int, ...], timed: Timer, to_device: Measure, to_host: Measure, seconds: float
    ) -> Iterator[Sample]:
        """Samples of every size, at least one each; more while the time lasts.

        Each sample is of another place, as each weight is, and the last place is copied twice: the second copy finds
        it in the same core's cache. So a size's median is what a weight's copy can take, its fastest what none exceeds.
        """
        whole = sizes[-1]
        for way in (False, True):
            timed(self.copy(whole, to_host=way))  # sets the path up, and touches every page
        budget, cores = Budget(seconds), Cores()
        for size in sizes:
            places = [(number * size % whole, True) for number in range(REPEATS)]
            for at, elsewhere in (*places, (places[-1][0], False)):
                if elsewhere:
                    cores.move()
                for measure, way in ((to_device, False), (to_host, True)):
                    yield Sample(measure, size, timed(self.copy(size, to_host=way, at=at)))
                if not budget.left:
                    break


def _on_host(copy: Copy) -> int:
    """The emulated device works inside the call."""
    start = time.monotonic_ns()
    copy()
    return time.monotonic_ns() - start


class _Events:
    """Times a copy on the device by the CUDA events before and behind it, to half a microsecond.

    A copy from page-locked memory is all the device's: it is queued behind another, so that the host's launches lie in
    neither event's way, and what two events alone take is subtracted. A copy of pageable memory is made by the host and
    the device in turns, piece by piece through the driver's own page-locked buffers: it is timed from an idle device
    on, and includes the host's first piece.
    """

    def __init__(self) -> None:
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def from_idle(self, copy: Copy) -> int:
        """With nothing queued before it."""
        torch.cuda.synchronize()
        return self._between(copy)

    def behind(self, ahead: Copy) -> Timer:
        """Times copies queued behind `ahead`, which takes longer than the launches."""

        def queued(copy: Copy) -> int:
            ahead()
            return self._between(copy)

        empty_ns = min(queued(lambda: None) for _ in range(REPEATS))
        return lambda copy: max(queued(copy) - empty_ns, 1)

    def _between(self, copy: Copy) -> int:
        self._start.record()
        copy()
        self._end.record()
        self._end.synchronize()
        milliseconds: float = self._start.elapsed_time(self._end)
        return round(milliseconds * 1e6)


def _into_fresh(on_device: torch.Tensor) -> Iterator[Sample]:
    """Copies back into fresh memory, as the host sees them: each page is mapped and zeroed first, by one thread.

    And what giving that memory back takes.
    """
    cores = Cores()
    for size in (size for size in _FRESH_BYTES if size <= len(on_device)):
        for _ in range(SPREAD):
            cores.move()
            target = fresh_bytes(size)
            yield Sample(Measure.FRESH_D2H, size, _on_host(functools.partial(target.copy_, on_device[:size])))
            start = time.monotonic_ns()
            del target
            yield Sample(Measure.UNMAP, size, time.monotonic_ns() - start)


def _page_locking() -> Iterator[Sample]:
    """Get page-locked memory as torch's host allocator does, which keeps what it has got: so not from it.

    `torch.cuda.cudart()` has no cudaHostAlloc. Where torch was linked with the runtime there is no library to ask.
    """
    path = next((path for path in HostMemoryMap().files() if "libcudart" in path.name), None)
    if path is None:
        return
    runtime = ctypes.CDLL(str(path))
    cores = Cores()
    for size in _PIN_BYTES:
        for _ in range(SPREAD):
            cores.move()
            address = ctypes.c_void_p()
            start = time.monotonic_ns()
            error = runtime.cudaHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_uint(0))
            duration = time.monotonic_ns() - start
            _check(error)
            _check(runtime.cudaFreeHost(address))
            yield Sample(Measure.PIN, size, duration)


def _check(error: int) -> None:
    if error:
        raise RuntimeError(f"CUDA refuses to page-lock memory (error {error})")


@contextmanager
def page_locked(memory: torch.Tensor) -> Iterator[None]:
    """Page-lock memory that is there already, for a while."""
    runtime: Any = torch.cuda.cudart()
    _check(int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)))
    try:
        yield
    finally:
        runtime.cudaHostUnregister(memory.data_ptr())
