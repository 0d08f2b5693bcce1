"""The emulated accelerator's controls and figures, typed: counters, memory, cap, link, operation log."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

DEFAULT_LOG_CAPACITY = 4_000_000
"""Operations kept between two `take_log` calls (72 bytes each in C++)."""


@dataclass(frozen=True)
class DeviceCounters:
    """What the device did since the last reset, whether or not the log was on.

    Copies by direction; a kernel is one operator run on the device, views excluded.
    """

    h2d_count: int
    h2d_bytes: int
    d2h_count: int
    d2h_bytes: int
    d2d_count: int
    d2d_bytes: int
    kernel_count: int


@dataclass(frozen=True)
class DeviceMemory:
    """The caching allocator's books, as `torch.cuda.memory_allocated` and its siblings report them."""

    allocated_bytes: int
    reserved_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    cap_bytes: int | None


class DeviceOp(NamedTuple):
    """One logged operation.

    `op` is ``memcpy``, ``kernel`` or ``memset``; `name` is Kineto's for copies, the operator's for kernels;
    `direction` is ``H2D``, ``D2H``, ``D2D`` or empty; times are CLOCK_MONOTONIC nanoseconds; `thread_id` is the
    system's. `host_address` is that of a copy's host side, which for a converting or strided copy is a staging buffer.
    """

    op: str
    name: str
    direction: str
    host_address: int
    size_bytes: int
    start_ns: int
    end_ns: int
    thread_id: int
    correlation_id: int


class EmulatedDevice:
    """The one emulated device of this process; `tracekit.device.emulated.load()` returns it."""

    name = "Emulated accelerator (host memory)"
    torch_device = "emulated:0"

    def __init__(self, extension: ModuleType) -> None:
        self._extension = extension

    def counters(self) -> DeviceCounters:
        """What was done since the last reset."""
        return DeviceCounters(*self._extension.counters())

    def reset_counters(self) -> None:
        """Count from zero; memory, log and throttle stay."""
        self._extension.reset_counters()

    def memory(self) -> DeviceMemory:
        """Live and held bytes now, and their peaks."""
        return DeviceMemory(*self._extension.memory())

    def reset_peak(self) -> None:
        """Make the peaks the present values."""
        self._extension.reset_peak()

    def total_bytes(self) -> int:
        """The device's capacity, that of the host's memory; a cap plays a smaller one."""
        return int(self._extension.memory_info()[1])

    def set_cap(self, cap_bytes: int | None) -> None:
        """Limit reserved memory; an allocation that cannot fit raises `torch.OutOfMemoryError`. None lifts the cap."""
        self._extension.set_cap(cap_bytes)

    def set_link_gbps(self, gbps: float | None) -> None:
        """Make each direction of the link no faster than this many decimal GB/s; None lifts the throttle."""
        self._extension.set_link_gbps(gbps or 0.0)

    @property
    def link_gbps(self) -> float | None:
        """The throttle in decimal GB/s, if one is set."""
        return float(self._extension.link_gbps()) or None

    def start_log(self, capacity: int = DEFAULT_LOG_CAPACITY) -> None:
        """Empty the log and record operations from now on, at most `capacity` between two `take_log` calls."""
        self._extension.start_log(capacity)

    def stop_log(self) -> None:
        """Stop recording; what was recorded stays until taken."""
        self._extension.stop_log()

    def take_log(self) -> list[DeviceOp]:
        """The operations recorded since the last call, in the order in which they ended; empties the log."""
        return [DeviceOp._make(values) for values in self._extension.take_log()]

    @property
    def dropped_ops(self) -> int:
        """Operations that the log had no room for since `start_log`."""
        return int(self._extension.dropped_ops())
