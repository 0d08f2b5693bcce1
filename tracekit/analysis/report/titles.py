"""Each section's finding in one sentence, drawn from the same figures as its chart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracekit.analysis.verdict import Shares, knows_kernels
from tracekit.model import Summary
from tracekit.model.report import (
    Check,
    CheckState,
    CopyGroup,
    CopyState,
    HeatMap,
    MemoryTrack,
    StepParts,
    Titles,
)
from tracekit.model.typical import always_pages, warm_steps
from tracekit.units import format_bytes, format_duration, format_memory, format_rate, format_share

_SAME = 0.05
"""Durations closer than this, as a share, are called the same."""
_STANDS_OUT = 1.25
"""A warm step this many times the median is named in the title."""


def titles(
    summary: Summary,
    steps: Sequence[StepParts],
    first: StepParts | None,
    warm: StepParts | None,
    heat: HeatMap | None,
    copies: Sequence[CopyGroup],
    memory: MemoryTrack | None,
    verified: Sequence[Check],
) -> Titles:
    """The titles of one run's sections."""
    return Titles(
        verdict=_verdict(summary),
        cold_warm=_cold_warm(first, warm),
        steps=_steps(summary, steps, first),
        heat=_heat(heat),
        bandwidth=_bandwidth(copies),
        memory=_memory(memory),
        modules=_modules(summary),
        trust=_trust(verified),
    )


def _verdict(summary: Summary) -> str:
    warm = warm_steps(summary.steps, summary.paging)
    shares = Shares.of(warm or summary.steps)
    if shares is None:
        return "No denoising step was recorded"
    kind = "later" if always_pages(summary) else "warm"
    step = f"every {kind} step" if warm else "the only step"
    if not knows_kernels(summary):
        return f"Copying weights takes {format_share(shares.copy)} of {step}, as the host saw it"
    parts = {
        "Copying weights takes": shares.exposed,
        "Computing takes": shares.compute,
        "Neither copies nor kernels run for": shares.rest,
    }
    largest = max(parts, key=lambda name: parts[name])
    return f"{largest} {format_share(parts[largest])} of {step}"


def largest_change(first: StepParts, warm: StepParts) -> tuple[str, int]:
    """The part that step 1 has most of beyond the warm step, and how much (negative where none has more)."""
    changes = {part.name: part.duration_ns for part in first.parts}
    for part in warm.parts:
        changes[part.name] = changes.get(part.name, 0) - part.duration_ns
    name = max(changes, key=lambda key: changes[key])
    return name, changes[name]


def _cold_warm(first: StepParts | None, warm: StepParts | None) -> str:
    if first is None:
        return "Cold against warm"
    if warm is None:
        return "There is no warm step to compare step 1 with"
    excess = first.wall_ns - warm.wall_ns
    if excess < _SAME * warm.wall_ns:
        return "Step 1 costs no more than a warm step"
    name, change = largest_change(first, warm)
    share = format_share(min(1.0, change / excess))
    return f"{share} of step 1's extra {format_duration(excess)} is {name}"


def _steps(summary: Summary, steps: Sequence[StepParts], first: StepParts | None) -> str:
    if first is None:
        return "Steps"
    warm_ns = summary.cold_warm.warm_step_ns if summary.cold_warm else None
    if warm_ns is None:
        return f"The only step took {format_duration(first.wall_ns)}"
    later = [step for step in steps if step.run_index == first.run_index][1:]
    slowest = max(later, key=lambda step: step.wall_ns)
    if len(later) > 2 and slowest.wall_ns > _STANDS_OUT * warm_ns:
        return f"Step {slowest.label} took {_times(slowest, warm_ns)} as long as the median warm step"
    spread = max(step.wall_ns for step in later) - min(step.wall_ns for step in later)
    steady = "; the later ones are alike" if len(later) > 1 and spread < _SAME * warm_ns else ""
    if first.wall_ns < (1 + _SAME) * warm_ns:
        return f"Step 1 takes no longer than a warm step{steady}"
    return f"Step 1 takes {_times(first, warm_ns)} as long as a warm step{steady}"


def _times(step: StepParts, warm_ns: int) -> str:
    return f"{step.wall_ns / max(warm_ns, 1):.1f} times"


def _heat(heat: HeatMap | None) -> str:
    matrix = heat and (heat.copy or heat.compute)
    if not heat or not matrix:
        return "Modules against steps"
    values = np.frombuffer(matrix.values, "<f4").reshape(matrix.rows, matrix.columns).astype(float)
    by_row = np.nan_to_num(values).sum(axis=1)
    top = np.sort(by_row)[::-1]
    needed = int(np.searchsorted(np.cumsum(top), top.sum() / 2)) + 1
    what = "copy" if heat.copy else "compute"
    kind = "modules" if heat.modules_a_row == 1 else f"rows of {heat.modules_a_row} modules"
    return f"{needed:,} of {len(heat.modules):,} {kind} take half of the {what} time"


def _bandwidth(copies: Sequence[CopyGroup]) -> str:
    if not copies:
        return "Bandwidth"
    state = CopyState.WARM if any(group.state == CopyState.WARM for group in copies) else copies[0].state
    own = [group for group in copies if group.state == state]
    rate = _rate(own)
    paged = [group for group in copies if group.state == CopyState.PAGED]
    if state == CopyState.WARM and paged:
        return f"Warm copies run at {rate}, those that paged at {_rate(paged)}"
    return f"{state.value.capitalize()} copies run at {rate}"


def _rate(groups: Sequence[CopyGroup]) -> str:
    duration = sum(group.copies * group.median_ns for group in groups)
    return format_rate(sum(group.total_bytes for group in groups), duration)


def _memory(memory: MemoryTrack | None) -> str:
    if memory is None:
        return "Device memory"
    if memory.limit_bytes is None:
        return f"At most {format_memory(memory.peak_bytes)} of device memory is held"
    limit, never = format_memory(memory.limit_bytes), format_memory(max(memory.limit_bytes - memory.peak_bytes, 0))
    return f"Almost none of {limit} is used" if never == limit else f"{never} of {limit} is never used"


def _modules(summary: Summary) -> str:
    if not summary.modules:
        return "No module's weights were copied"
    total = sum(module.h2d_bytes for module in summary.modules)
    onloads = sum(module.onloads for module in summary.modules)
    return f"{len(summary.modules):,} modules were onloaded {onloads:,} times, {format_bytes(total)} in all"


def _trust(verified: Sequence[Check]) -> str:
    counted = [check for check in verified if check.state is not CheckState.UNKNOWN]
    failed = sum(check.state is CheckState.FAILED for check in counted)
    noted = sum(check.state is CheckState.NOTED for check in counted)
    if failed:
        return f"{failed} of {len(counted)} checks failed: read these first"
    passed = f"{len(counted) - noted} of {len(counted)} checks pass"
    return f"{passed}; {noted} to keep in mind" if noted else f"All {len(counted)} checks pass"
