"""Where to look in the timeline: each module's slowest onload."""

from __future__ import annotations

from tracekit.model import Direction, Timeline
from tracekit.model.report import Moment


def module_moments(timeline: Timeline) -> dict[str, Moment]:
    """The host time of the longest weight copy to the device of each FQN."""
    copies = timeline.copies
    columns = ["fqn", "duration_ns", "start_ns", "end_ns"]
    own = copies.loc[copies["is_weight"] & (copies["direction"] == Direction.H2D), columns]
    slowest = own.sort_values("duration_ns", ascending=False, kind="stable").drop_duplicates("fqn")
    return {
        str(fqn): Moment(start_ns=int(start), end_ns=int(end))
        for fqn, start, end in zip(slowest["fqn"], slowest["start_ns"], slowest["end_ns"], strict=True)
    }
