"""Can the numbers be trusted? Each check, with what this run's own records say about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tracekit.analysis.ceilings import Ceilings
from tracekit.analysis.hostspeed import HostRange
from tracekit.analysis.trust import trust_warnings
from tracekit.model import Cause, Manifest, Summary, Timeline
from tracekit.model.report import Check, CheckState, StepParts
from tracekit.units import format_bytes, format_duration, format_share

_NOTED_REST = 0.05
_FAILED_REST = 0.2
"""Shares of the steps' time that no cause explains, from which it is noted, and from which it is a failure."""
_NOTED_OVERHEAD = 0.02
_FAILED_OVERHEAD = 0.1
_NOTED_SPREAD = 0.1
_NOTED_CLOCK_NS = 100_000
_LINK = re.compile(r"PCIe (\d+)\.0 x(\d+)")


def checks(timeline: Timeline, summary: Summary, steps: Sequence[StepParts]) -> list[Check]:
    """All checks, in the order in which they are shown."""
    manifest = timeline.run.manifest
    return [
        _complete(summary),
        _copies_recorded(timeline, summary),
        _sums_close(summary, steps),
        _clocks(manifest),
        _overhead(manifest, summary, steps),
        _steady(summary),
        _host_speed(summary),
        _link(timeline),
        _swap(timeline),
        _dropped(manifest),
        *([_emulated()] if summary.emulated else []),
    ]


def _complete(summary: Summary) -> Check:
    if summary.complete:
        return Check(title="The profile ended in order", state=CheckState.PASSED, detail="Every table is whole.")
    reason = summary.incomplete_reason or "it never ended"
    return Check(
        title="The profile is incomplete", state=CheckState.FAILED, detail=f"What came before counts: {reason}."
    )


def _copies_recorded(timeline: Timeline, summary: Summary) -> Check:
    title = "All copies recorded, none faster than the link"
    count = len(timeline.copies)
    moved = format_bytes(summary.h2d_bytes + summary.d2h_bytes)
    if summary.activity == "none":
        detail = f"{count:,} copies, {moved}, timed on the host alone: the device kept no record to hold them against."
        return Check(title=title, state=CheckState.UNKNOWN, detail=detail)
    missing = trust_warnings(timeline, Ceilings(summary.ceilings))
    alone, stray = summary.device_only_copies, summary.unattributed_copies
    found = [*missing]
    if alone:
        found.append(f"{alone:,} of {count:,} copies were seen by the device alone, so they have no module's name")
    if stray:
        found.append(f"{stray:,} copies belong to no weight and no span")
    if found:
        state = CheckState.FAILED if missing else CheckState.NOTED
        return Check(title=title, state=state, detail="; ".join(found) + ".")
    return Check(
        title=title, state=CheckState.PASSED, detail=f"{count:,} copies, {moved}; the device's own record agrees."
    )


def _sums_close(summary: Summary, steps: Sequence[StepParts]) -> Check:
    title = "Causes add up to the steps"
    wall = sum(step.wall_ns for step in steps)
    if not summary.causes or not wall:
        detail = "Causes are not known without the device's record: the steps are split by what the host saw."
        return Check(title=title, state=CheckState.UNKNOWN, detail=detail)
    rest = sum(part.duration_ns for step in steps for part in step.parts if part.name == Cause.UNATTRIBUTED)
    state = _graded(rest / wall, _NOTED_REST, _FAILED_REST)
    detail = f"{format_duration(rest)} of {format_duration(wall)} ({format_share(rest / wall)}) have no cause."
    return Check(title=title, state=state, detail=detail if rest else f"All of {format_duration(wall)} has a cause.")


def _clocks(manifest: Manifest) -> Check:
    error = manifest.clock.alignment_error_ns
    title = "Clocks aligned"
    if error is None:
        return Check(title=title, state=CheckState.UNKNOWN, detail="The device has no clock of its own in this run.")
    state = CheckState.PASSED if error < _NOTED_CLOCK_NS else CheckState.NOTED
    detail = f"Device times are off by at most {format_duration(error)}." if error else "Device and host share one."
    return Check(title=title, state=state, detail=detail)


def _overhead(manifest: Manifest, summary: Summary, steps: Sequence[StepParts]) -> Check:
    wall = sum(step.wall_ns for step in steps)
    own = sum(step.tracekit_ns for step in summary.steps)
    total = sum(manifest.overhead_ns.values())
    title = "tracekit's own work is small"
    if not wall:
        detail = f"{format_duration(total)} in all; no step was recorded to compare with."
        return Check(title=title, state=CheckState.UNKNOWN, detail=detail)
    share = own / wall
    detail = (
        f"{format_share(share)} of the steps ({format_duration(own)}), counted apart; "
        f"{format_duration(total)} in all, set-up included."
    )
    return Check(title=title, state=_graded(share, _NOTED_OVERHEAD, _FAILED_OVERHEAD), detail=detail)


def _steady(summary: Summary) -> Check:
    cold, title = summary.cold_warm, "Warm steps are steady"
    if cold is None or cold.warm_step_ns is None or cold.warm_min_ns is None or cold.warm_max_ns is None:
        return Check(title=title, state=CheckState.UNKNOWN, detail="There is no warm step: run two steps or more.")
    if cold.warm_samples < 2:
        return Check(title=title, state=CheckState.UNKNOWN, detail="There is one warm step, so no spread.")
    spread = (cold.warm_max_ns - cold.warm_min_ns) / max(cold.warm_step_ns, 1)
    state = CheckState.PASSED if spread < _NOTED_SPREAD else CheckState.NOTED
    low, high = format_duration(cold.warm_min_ns), format_duration(cold.warm_max_ns)
    detail = f"{low} to {high} in {cold.warm_samples}: {format_share(spread)} of the median apart."
    return Check(title=title, state=state, detail=detail)


def _host_speed(summary: Summary) -> Check:
    """Whether the same Python took as long in every warm step: if not, steps differ for a reason beside offloading."""
    title = "The host was as fast in every warm step"
    found = HostRange.of(summary.steps, summary.paging)
    if len(found.timed) < 2:
        return Check(title=title, state=CheckState.UNKNOWN, detail="It was not timed in two warm steps or more.")
    low, high = (format_duration(found.timed[end][0]) for end in (0, -1))
    detail = f"The same Python took {low} to {high} in {len(found.timed):,} of them."
    return Check(title=title, state=CheckState.NOTED if found.slower else CheckState.PASSED, detail=detail)


def _link(timeline: Timeline) -> Check:
    """Whether the link ran at what card and slot agree on; an idle one is slower, so the best sample counts."""
    title, link = "The link ran at its full width", timeline.run.manifest.device.link
    known, counters = _LINK.fullmatch(link), timeline.run.counters
    seen = []
    for series in ("nvml_pcie_link_generation", "nvml_pcie_link_width"):
        values = counters.loc[counters["series"] == series, "value"]
        seen.append(int(values.max()) if len(values) else 0)
    if known is None or not all(seen):
        detail = f"Not sampled in this run; the link is {link}." if link else "The link was not recorded."
        return Check(title=title, state=CheckState.UNKNOWN, detail=detail)
    full = tuple(seen) == (int(known[1]), int(known[2]))
    detail = f"PCIe {seen[0]}.0 x{seen[1]} at best, of {link}."
    return Check(title=title, state=CheckState.PASSED if full else CheckState.FAILED, detail=detail)


def _swap(timeline: Timeline) -> Check:
    counters = timeline.run.counters
    swapped = counters.loc[counters["series"] == "host_swap_bytes", "value"]
    if not len(swapped):
        return Check(title="No swapping", state=CheckState.UNKNOWN, detail="Swap is not sampled in this run.")
    grown = int(swapped.max() - swapped.iloc[0])
    state = CheckState.PASSED if grown <= 0 else CheckState.NOTED
    detail = f"Swap grew by {format_bytes(grown)} during the profile." if grown > 0 else "Swap did not grow."
    return Check(title="No swapping", state=state, detail=detail)


def _dropped(manifest: Manifest) -> Check:
    dropped = {name: count for name, count in manifest.counts.items() if count and name != "device_memcpys"}
    if not dropped:
        return Check(title="No event dropped", state=CheckState.PASSED, detail="Nothing that was seen is missing.")
    detail = ", ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in dropped.items())
    return Check(title="Events are missing", state=CheckState.FAILED, detail=f"{detail}.")


def _emulated() -> Check:
    detail = "Times are this machine's memory and disk, not a GPU's; counts, bytes and paging are real."
    return Check(title="The device is emulated", state=CheckState.NOTED, detail=detail)


def _graded(share: float, noted: float, failed: float) -> CheckState:
    if share < noted:
        return CheckState.PASSED
    return CheckState.NOTED if share < failed else CheckState.FAILED
