"""What several runs say beside each other: how long their steps take, and whose warm step is the shortest."""

from __future__ import annotations

from collections.abc import Sequence

from tracekit.model.report import RunReport, StepParts
from tracekit.units import format_duration


def ranges(runs: Sequence[RunReport]) -> str:
    """From the shortest to the longest first step, and the same of warm steps."""
    first = [run.first for run in runs if run.first is not None]
    warm = [run.warm for run in runs if run.warm is not None]
    if not first:
        return "No run has a denoising step"
    return f"Step 1 takes {_range(first)}" + (f", a warm step {_range(warm)}" if warm else "")


def compared(runs: Sequence[RunReport]) -> str:
    """The run with the shortest warm step, against the next."""
    warm = sorted(((run.warm.wall_ns, run.name) for run in runs if run.warm is not None), key=lambda pair: pair[0])
    if len(warm) < 2:
        return "The warm steps part by part"
    (best, name), (other, _) = warm[:2]
    return f"The shortest warm step is that of {name}: {format_duration(best)}, against {format_duration(other)}"


def _range(steps: Sequence[StepParts]) -> str:
    low, high = (format_duration(pick(step.wall_ns for step in steps)) for pick in (min, max))
    return low if low == high else f"{low} to {high}"
