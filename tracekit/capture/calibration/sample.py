"""One measurement of a calibration, and the memory that measurements are made in."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from tracekit.model import Measure

MB = 1 << 20
_PASSES = 3


class Sample(NamedTuple):
    """A row of the calibration table."""

    measure: Measure
    size_bytes: int
    duration_ns: int


class Budget:
    """Time that measurements may take together; a slow disk or link gets fewer samples."""

    def __init__(self, seconds: float) -> None:
        self._end_ns = time.monotonic_ns() + round(seconds * 1e9)

    @property
    def left(self) -> bool:
        """Whether there is any."""
        return time.monotonic_ns() < self._end_ns


def fastest(one_pass: Callable[[], Sequence[tuple[int, ...]]]) -> list[int]:
    """Of pieces of work with some times each, ns: each one's fastest pass, on average.

    After a first pass, whatever that finds in the caches. A hypervisor takes a core away for milliseconds, which the
    guest's clocks count as work.
    """
    one_pass()
    means: list[int] = np.array([one_pass() for _ in range(_PASSES)]).min(axis=0).mean(axis=0).astype(int).tolist()
    return means


def fresh_bytes(size_bytes: int) -> torch.Tensor:
    """Anonymous memory straight from the kernel, none of whose pages was touched; unmapped when the tensor goes.

    The C library would recycle memory, and learn from what it gives back: a program's later allocations would differ.
    It is private, as the C library's is: pages of shared memory, mmap's default, take twice as long or more.
    """
    return torch.frombuffer(mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=torch.uint8)


def touched_bytes(size_bytes: int) -> torch.Tensor:
    """The same with every page written to."""
    return fresh_bytes(size_bytes).fill_(1)
