"""Where to look in the timeline: each module's slowest onload."""

from __future__ import annotations

from tracekit.analysis.coldwarm import onload_rows
from tracekit.model import Timeline
from tracekit.model.report import Moment
from tracekit.model.text import take_rows


def module_moments(timeline: Timeline) -> dict[str, Moment]:
    """The host time of the longest weight copy to the device of each FQN."""
    own = take_rows(timeline.copies, ["fqn", "duration_ns", "start_ns", "end_ns"], timeline.once(onload_rows))
    slowest = own.sort_values("duration_ns", ascending=False, kind="stable").drop_duplicates("fqn")
    return {
        str(fqn): Moment(start_ns=int(start), end_ns=int(end))
        for fqn, start, end in zip(slowest["fqn"], slowest["start_ns"], slowest["end_ns"], strict=True)
    }
