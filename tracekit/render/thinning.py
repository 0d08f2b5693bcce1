"""Fit a trace into so many bytes: first fewer steps, then only longer slices."""

from __future__ import annotations

import bisect
import io
from collections.abc import Sequence
from typing import Any, BinaryIO

from tracekit.errors import UsageError
from tracekit.model import Timeline
from tracekit.render.census import Census
from tracekit.render.chrome import write_chrome_trace
from tracekit.render.selection import Thinning
from tracekit.render.slices import TraceStats
from tracekit.units import format_bytes

_FEW_STEPS = 3
"""The first, the last and the slowest: with fewer, what a trace is for is gone; short slices go before them."""
_MIN_NS = tuple(1000 * 2**power for power in range(26))
"""The shortest slices that a trace is left with: 1 us, 2 us, ... 33 s."""
_EVENT_BYTES, _COMPRESSED_EVENT_BYTES = 250.0, 20.0
"""What an event takes, until a first layout says so."""
_AIM, _FULL_ENOUGH, _MAYBE_WHOLE = 0.95, 0.8, 1.15
"""Shares of the limit: what an estimate aims at, what is not worth another layout, what may yet fit whole."""
_ESTIMATES = 4
"""Layouts chosen by estimate. Should they not settle it, halving does."""


def write_fitting_trace(
    timeline: Timeline,
    stream: BinaryIO,
    max_bytes: int,
    only_steps: Sequence[int] | None = None,
    *,
    compress: bool = True,
) -> TraceStats:
    """Write a trace of at most `max_bytes` that uses most of them (as `write_chrome_trace`, whole where that fits).

    Steps are left out first, the quick ones in the middle before the slow ones, the last and the first; when three are
    too many, slices and counter samples by their duration. The same timeline and size give the same bytes.

    Laying out a trace is what costs: how much to leave out is estimated from the number of events, and the bytes that
    an event takes from the layout before, so that two layouts are the rule.

    Raises:
        UsageError: not even the longest slices fit; or as `write_chrome_trace`.
    """
    census = Census(timeline, only_steps)
    ladder = _ladder(census.steps)
    best: tuple[bytes, TraceStats] | None = None
    low, high = 0, len(ladder)  # between the rungs known to be too large and those known to fit
    wanted = _rung(census, ladder, low, max_bytes / (_COMPRESSED_EVENT_BYTES if compress else _EVENT_BYTES))
    layouts = 0
    while low < high:
        rung = min(wanted, high - 1) if layouts < _ESTIMATES else (low + high) // 2
        buffer = _Limited(max_bytes)
        stats = write_chrome_trace(timeline, buffer, only_steps, compress=compress, thinning=ladder[rung])
        layouts += 1
        if buffer.size > max_bytes:
            low = rung + 1
        else:
            best, high = (buffer.getvalue(), stats), rung
        wanted = _rung(census, ladder, low, max_bytes * census.count(ladder[rung]) / buffer.size)
        if best is not None and (wanted >= high or (len(best[0]) >= _FULL_ENOUGH * max_bytes and wanted > 0)):
            break
    if best is None:
        raise UsageError(f"no trace of this run fits into {format_bytes(max_bytes)}: give more, or fewer --only-steps")
    stream.write(best[0])
    return best[1]


def _ladder(steps: int) -> list[Thinning]:
    """Ever thinner: whole, fewer and fewer steps, then ever longer slices of the few."""
    fewer = [Thinning(count) for count in range(steps - 1, _FEW_STEPS - 1, -1)]
    few = _FEW_STEPS if steps > _FEW_STEPS else None
    return [Thinning(), *fewer, *(Thinning(few, min_ns) for min_ns in _MIN_NS)]


def _rung(census: Census, ladder: Sequence[Thinning], low: int, events: float) -> int:
    """The first rung from `low` on of about so few events; an untried whole trace has the benefit of the doubt."""
    if low == 0 and census.count(ladder[0]) <= _MAYBE_WHOLE * events:
        return 0
    return bisect.bisect_left(ladder, True, low, key=lambda thinning: census.count(thinning) <= _AIM * events)


class _Limited(io.BytesIO):
    """Memory for at most so many bytes, which counts on when they are full."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self.size = 0

    def write(self, data: Any, /) -> int:
        self.size += len(data)
        return super().write(data) if self.size <= self._max_bytes else len(data)
