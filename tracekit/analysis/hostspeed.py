"""How fast the host was in each step, by what a fixed piece of Python took there (`tracekit.capture.hostspeed`)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from tracekit.model import HOST_PYTHON, StepRow, Timeline
from tracekit.units import format_duration

STEADY = 1.25
"""A host that is slower by less than this is as fast as before: clocks and caches alone make as much."""


def host_python_ns(timeline: Timeline) -> list[int | None]:
    """For each step the mean of the samples in it and of the next one, which is taken at its end; None without any.

    Where there is none in it, in a run's first step, the one before it counts with the next one.
    """
    counters, steps = timeline.run.counters, timeline.steps
    samples = counters.loc[counters["series"] == HOST_PYTHON, ["t_ns", "value"]].sort_values("t_ns", kind="stable")
    times, values = samples["t_ns"].to_numpy(), samples["value"].to_numpy()
    first, behind = (np.searchsorted(times, steps[name].to_numpy()) for name in ("start_ns", "end_ns"))
    first = np.where((first == behind) & (behind < len(times)), np.maximum(first - 1, 0), first)
    taken = [values[low : high + 1] for low, high in zip(first, behind, strict=True)]
    return [round(own.mean()) if len(own) else None for own in taken]


def host_slowdown(steps: Sequence[StepRow], before: Sequence[StepRow]) -> float | None:
    """How many times as long the same Python took in some steps as in others; None where either was not timed."""
    after_ns, before_ns = (
        [step.host_python_ns for step in rows if step.host_python_ns is not None] for rows in (steps, before)
    )
    return fmean(after_ns) / fmean(before_ns) if after_ns and before_ns else None


def unsteady_host(steps: Sequence[StepRow]) -> list[str]:
    """A line, where the host was slower in some warm steps than in another."""
    timed = [(step.host_python_ns, step) for step in steps if step.step_index > 0 and step.host_python_ns is not None]
    if not timed:
        return []
    fastest_ns, fastest = min(timed, key=lambda pair: pair[0])
    slowest_ns, slowest = max(timed, key=lambda pair: pair[0])
    if slowest_ns < STEADY * fastest_ns:
        return []
    slow = sum(took >= STEADY * fastest_ns for took, _ in timed)
    return [
        f"the host itself was slower in {slow:,} of {len(timed):,} warm steps, up to {slowest_ns / fastest_ns:.1f} "
        f"times: the same Python took {format_duration(slowest_ns)} in step {slowest.step_index + 1} and "
        f"{format_duration(fastest_ns)} in step {fastest.step_index + 1}; its clock, or a neighbour on its core"
    ]
