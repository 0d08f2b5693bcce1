"""How fast the host was in each step, by what a fixed piece of Python took there (`tracekit.capture.hostspeed`)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from tracekit.model import HOST_PYTHON, PagingEvidence, StepRow, Timeline
from tracekit.model.typical import warm_steps
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
    after_ns, before_ns = ([took for took, _ in _timed(rows)] for rows in (steps, before))
    return fmean(after_ns) / fmean(before_ns) if after_ns and before_ns else None


class HostRange(NamedTuple):
    """What the Python took, ns, in the warm steps that were timed, the fastest first, and each one's step."""

    timed: Sequence[tuple[int, StepRow]]

    @classmethod
    def of(cls, steps: Sequence[StepRow], paging: PagingEvidence | None) -> HostRange:
        """That of all runs' steps."""
        return cls(sorted(_timed(warm_steps(steps, paging)), key=lambda pair: pair[0]))

    @property
    def slower(self) -> int:
        """In how many of them the host was slower than in the fastest."""
        return sum(took >= STEADY * self.timed[0][0] for took, _ in self.timed)


def unsteady_host(steps: Sequence[StepRow], paging: PagingEvidence | None = None) -> list[str]:
    """A line, where the host was slower in some warm steps than in another."""
    found = HostRange.of(steps, paging)
    if not found.slower:
        return []
    (fastest_ns, fastest), (slowest_ns, slowest) = found.timed[0], found.timed[-1]
    return [
        f"the host itself was slower in {found.slower:,} of {len(found.timed):,} warm steps, up to "
        f"{slowest_ns / fastest_ns:.1f} times: the same Python took {format_duration(slowest_ns)} in step "
        f"{slowest.step_index + 1} and {format_duration(fastest_ns)} in step {fastest.step_index + 1}; "
        "its clock, or a neighbour on its core"
    ]


def _timed(steps: Sequence[StepRow]) -> list[tuple[int, StepRow]]:
    return [(step.host_python_ns, step) for step in steps if step.host_python_ns is not None]
