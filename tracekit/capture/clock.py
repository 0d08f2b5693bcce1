"""Map another clock to CLOCK_MONOTONIC from events that both have seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bracket:
    """One event on both clocks: it began and ended on the other clock between two readings of ours (all ns)."""

    before_ns: int
    after_ns: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class ClockMap:
    """``ours = theirs + offset_ns``, right to within `error_ns`."""

    offset_ns: int
    error_ns: int


def align(brackets: Iterable[Bracket]) -> ClockMap | None:
    """The offset that every bracket allows: an event cannot have begun before we made it or ended after it returned.

    Each bracket bounds the offset to ``[before - start, after - end]``; the bounds' intersection is the answer and half
    its width the error. Where the clocks drift apart within the brackets the intersection is empty: then the offset is
    the middle between the bounds, and the error covers both.
    """
    low = high = None
    for bracket in brackets:
        least, most = bracket.before_ns - bracket.start_ns, bracket.after_ns - bracket.end_ns
        low = least if low is None else max(low, least)
        high = most if high is None else min(high, most)
    if low is None or high is None:
        return None
    return ClockMap((low + high) // 2, (abs(high - low) + 1) // 2)
