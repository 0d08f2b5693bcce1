"""Units: parse what users type, and turn stored integers into text for people.

Stored quantities are integer bytes and integer nanoseconds. GB and GB/s are decimal (10**9), memory sizes are
binary (GiB, 2**30); the two are never mixed up. Every conversion for display happens here and nowhere else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracekit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

GB = 10**9
GIB = 2**30
NS_PER_S = 10**9

COUNTER_UNITS = {
    "_bytes_per_s": ("GB/s", 1 / GB),
    "_bytes": ("GiB", 1 / GIB),
    "_watts": ("W", 1.0),
    "_percent": ("%", 1.0),
    "_mhz": ("MHz", 1.0),
    "_ns": ("us", 1e-3),
}
"""How a counter series' name says its unit, the unit shown, and the factor between them."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([kmgt]?i?b)", re.IGNORECASE)
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:[num]?s|min|[kMGT]?B(?:/s)?|[KMGT]iB|MHz|W)(?![\w/]))")
_FACTOR = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def parse_bytes(text: str) -> int:
    """Bytes in a size such as ``12GB`` (decimal), ``12GiB`` (binary) or ``500 MB``.

    Raises:
        UsageError: no unit (``12`` could be either), or not a positive size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"cannot read the size {text!r}: give a number and a unit, such as 12GB or 12GiB")
    size = round(float(match[1]) * _FACTOR[match[2].lower()])
    if size <= 0:
        raise UsageError(f"the size {text!r} is not above zero")
    return size


def size_text(size_bytes: int) -> str:
    """A size as `parse_bytes` reads it, exactly: in the largest unit that leaves no fraction."""
    unit = max((unit for unit in _FACTOR if size_bytes % _FACTOR[unit] == 0), key=_FACTOR.__getitem__)
    return f"{size_bytes // _FACTOR[unit]}{unit[:-1].capitalize()}B"


def gb_per_s(size_bytes: float, duration_ns: float) -> float:
    """Decimal GB/s (1 byte per ns is 1 GB/s); NaN when the duration is not positive."""
    return size_bytes / duration_ns if duration_ns > 0 else math.nan


def gb_per_s_column(
    size_bytes: npt.NDArray[np.integer[Any]], duration_ns: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.float64]:
    """`gb_per_s` of each row; NaN, too, where there is no size (a negative one)."""
    import numpy as np

    known = (size_bytes >= 0) & (duration_ns > 0)
    return np.where(known, size_bytes / np.where(known, duration_ns, 1), np.nan)


def format_bytes(size_bytes: float) -> str:
    """A transferred amount in decimal units: ``23.8 GB``, ``512 kB``."""
    return _scaled(size_bytes, 1000, ("B", "kB", "MB", "GB", "TB"))


def known_bytes(size_bytes: int | None) -> str:
    """`format_bytes`, and in the same place of a sentence what stands for an amount that nobody knows."""
    return "an unknown amount" if size_bytes is None else format_bytes(size_bytes)


def format_memory(size_bytes: float) -> str:
    """A memory size in binary units: ``12.0 GiB``."""
    return _scaled(size_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def format_duration(duration_ns: float) -> str:
    """A duration with three significant digits: ``4.21 s``, ``318 ms``, ``53.0 us``."""
    return _scaled(duration_ns, 1000, ("ns", "us", "ms", "s"))


def format_wait(duration_ns: float) -> str:
    """A stretch to wait for, in whole seconds, or from two minutes on in minutes: ``45 s``, ``12 min``."""
    seconds = round(duration_ns / NS_PER_S)
    return f"{seconds} s" if seconds < 120 else f"{round(seconds / 60):,} min"


def format_rate(size_bytes: float, duration_ns: float) -> str:
    """A transfer rate in decimal units: ``54.8 GB/s``, ``1.28 MB/s``; a dash when there is no duration."""
    rate = gb_per_s(size_bytes, duration_ns)
    return "-" if math.isnan(rate) else f"{format_bytes(rate * GB)}/s"


def gb_per_s_text(size_bytes: float, duration_ns: float) -> str:
    """A transfer rate for a column that says GB/s, without the unit; a dash when there is no duration."""
    rate = gb_per_s(size_bytes, duration_ns)
    return "-" if math.isnan(rate) else f"{rate:.2f}" if rate < 10 else f"{rate:.1f}"


def format_share(share: float) -> str:
    """A share as a percentage: ``60%``, ``under 1%`` for what is there but rounds to less.

    ``over 99%`` for what is not quite all but rounds to it, beyond the error of a 32-bit float.
    """
    if 0 < share < 0.01:
        return "under 1%"
    return "over 99%" if 0.995 <= share < 1 - 1e-7 else f"{share:.0%}"


def unbroken(text: str) -> str:
    """The text with no-break spaces between numbers and their units, so that no line ends between them."""
    return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text)


def megabytes(size_bytes: float) -> float:
    """A transferred amount in decimal MB, for an axis that says MB."""
    return size_bytes / 10**6


@dataclass(frozen=True)
class DurationUnit:
    """One unit for a whole table of durations: its name, its length, and the smallest step shown."""

    name: str
    unit_ns: int
    quantum_ns: int

    @classmethod
    def fitting(cls, longest_ns: int) -> DurationUnit:
        """Seconds with two decimals for what takes a second, else milliseconds with as many."""
        name, unit_ns = ("s", NS_PER_S) if longest_ns >= NS_PER_S else ("ms", NS_PER_S // 1000)
        return cls(name, unit_ns, unit_ns // 100)

    def value(self, duration_ns: float) -> float:
        """A duration in this unit, for an axis that names it."""
        return duration_ns / self.unit_ns

    def text(self, duration_ns: float) -> str:
        """A duration in this unit with its two decimals, without the unit's name."""
        return self.quanta_text(round(duration_ns / self.quantum_ns))

    def quanta(self, parts_ns: Sequence[int]) -> list[int]:
        """The parts (not negative) in whole quanta that add up to their sum's.

        Each is rounded up or down to a neighbour; those that lose most by rounding down go up.
        """
        total = round(sum(parts_ns) / self.quantum_ns)
        floors = [part // self.quantum_ns for part in parts_ns]
        by_loss = sorted(range(len(floors)), key=lambda index: -(parts_ns[index] % self.quantum_ns))
        for index in by_loss[: total - sum(floors)]:
            floors[index] += 1
        return floors

    def split(self, parts_ns: Sequence[int]) -> tuple[str, list[str]]:
        """The total and its parts (not negative) as texts that add up exactly."""
        quanta = self.quanta(parts_ns)
        return self.quanta_text(sum(quanta)), [self.quanta_text(part) for part in quanta]

    def quanta_text(self, quanta: int) -> str:
        """That many quanta in this unit, without the unit's name."""
        return f"{quanta * self.quantum_ns / self.unit_ns:,.2f}"


@dataclass(frozen=True)
class MemoryUnit:
    """One unit for an axis of memory sizes: its name and its length."""

    name: str
    unit_bytes: int

    @classmethod
    def fitting(cls, largest_bytes: int) -> MemoryUnit:
        """GiB for what has one, else MiB."""
        return cls("GiB", GIB) if largest_bytes >= GIB else cls("MiB", 2**20)

    def value(self, size_bytes: float) -> float:
        """A size in this unit."""
        return size_bytes / self.unit_bytes


def _scaled(value: float, base: int, names: tuple[str, ...]) -> str:
    step = 0
    # 999.5 would print as 1000: it belongs to the next unit.
    while step < len(names) - 1 and abs(value) >= base - 0.5:
        value /= base
        step += 1
    name = names[step]
    if name in ("B", "ns"):
        return f"{value:.0f} {name}"
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {name}"
