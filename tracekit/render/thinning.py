"""Fit a trace into so many bytes: first fewer steps, then only longer slices."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, BinaryIO

from tracekit.errors import UsageError
from tracekit.model import Timeline
from tracekit.render.chrome import write_chrome_trace
from tracekit.render.selection import Thinning
from tracekit.render.slices import TraceStats
from tracekit.units import format_bytes

_FEW_STEPS = 3
"""The first, the last and the slowest: with fewer, what a trace is for is gone; short slices go before them."""
_MIN_NS = tuple(1000 * 2**power for power in range(26))
"""The shortest slices that a trace is left with: 1 us, 2 us, ... 33 s."""


def write_fitting_trace(
    timeline: Timeline,
    stream: BinaryIO,
    max_bytes: int,
    only_steps: Sequence[int] | None = None,
    *,
    compress: bool = True,
) -> TraceStats:
    """Write the fullest trace of at most `max_bytes` (as `write_chrome_trace`, whole where that fits).

    Steps are left out first, the quick ones in the middle before the slow ones, the last and the first; when three are
    too many, slices and counter samples by their duration. The same timeline and size give the same bytes.

    Raises:
        UsageError: not even the longest slices fit; or as `write_chrome_trace`.
    """
    best = _within(timeline, Thinning(), max_bytes, only_steps, compress=compress)
    ladder = _ladder(len(timeline.steps)) if best is None else []
    low, high = 0, len(ladder)
    while low < high:
        middle = (low + high) // 2
        written = _within(timeline, ladder[middle], max_bytes, only_steps, compress=compress)
        if written is None:
            low = middle + 1
        else:
            best, high = written, middle
    if best is None:
        raise UsageError(f"no trace of this run fits into {format_bytes(max_bytes)}: give more, or fewer --only-steps")
    stream.write(best[0])
    return best[1]


def _ladder(steps: int) -> list[Thinning]:
    """Ever thinner: fewer and fewer steps, then ever longer slices of the few."""
    fewer = [Thinning(count) for count in range(steps - 1, _FEW_STEPS - 1, -1)]
    few = _FEW_STEPS if steps > _FEW_STEPS else None
    return [*fewer, *(Thinning(few, min_ns) for min_ns in _MIN_NS)]


def _within(
    timeline: Timeline, thinning: Thinning, max_bytes: int, only_steps: Sequence[int] | None, *, compress: bool
) -> tuple[bytes, TraceStats] | None:
    """The trace, or None as soon as it turns out to be too large."""
    buffer = _Limited(max_bytes)
    try:
        stats = write_chrome_trace(timeline, buffer, only_steps, compress=compress, thinning=thinning)
    except _TooLargeError:
        return None
    return buffer.getvalue(), stats


class _TooLargeError(Exception):
    pass


class _Limited(io.BytesIO):
    """Memory for at most so many bytes."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        if self.tell() > self._max_bytes:
            raise _TooLargeError
        return written
