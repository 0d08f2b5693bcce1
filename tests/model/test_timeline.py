"""What is derived from a timeline is made once for each timeline."""

from __future__ import annotations

from dataclasses import replace

from builders import build_run

from tracekit.analysis import build_timeline
from tracekit.analysis.activity import Activity
from tracekit.analysis.coldwarm import onload_rows


def test_analyses_share_what_they_derive_and_timelines_do_not() -> None:
    timeline = build_timeline(build_run())
    assert timeline.once(Activity.of) is timeline.once(Activity.of)
    assert len(timeline.once(onload_rows)) > 0
    empty = replace(timeline, copies=timeline.copies.iloc[:0])
    assert len(empty.once(onload_rows)) == 0
    assert empty.once(Activity.of) is not timeline.once(Activity.of)
