"""Total time against the number of steps, and from where one configuration is ahead of another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tracekit.model import Phase, Summary
from tracekit.model.report import Basis, TotalLine
from tracekit.units import format_duration

MAX_STEPS = 100
"""The largest number of steps that is shown."""


def total_line(name: str, summary: Summary) -> TotalLine | None:
    """The first run's total for any number of steps; None where it has no warm step to carry on with."""
    cold = summary.cold_warm
    if cold is None or cold.warm_step_ns is None or cold.warm_min_ns is None or cold.warm_max_ns is None:
        return None
    run_index = summary.steps[0].run_index
    by_phase = {row.phase: row.wall_ns for row in summary.phases if row.run_index == run_index}
    return TotalLine(
        name=name,
        setup_ns=by_phase.get(Phase.SETUP, 0),
        around_ns=by_phase.get(Phase.ENCODE, 0) + by_phase.get(Phase.DECODE, 0),
        first_step_ns=cold.first_step_ns,
        warm_step_ns=cold.warm_step_ns,
        warm_low_ns=cold.warm_min_ns,
        warm_high_ns=cold.warm_max_ns,
        measured_steps=1 + cold.warm_samples,
        basis=Basis.MEASURED,
    )


def fastest(lines: Sequence[TotalLine], steps: int) -> TotalLine:
    """The line that is lowest at that many steps."""
    return min(lines, key=lambda line: line.total_ns(steps))


def break_even(lines: Sequence[TotalLine]) -> str:
    """The finding: which configuration is ahead from which step on; of one alone, what its steps are worth."""
    if not lines:
        return ""
    if len(lines) == 1:
        return _alone(lines[0])
    ahead = [(steps, fastest(lines, steps).name) for steps in range(1, MAX_STEPS + 1)]
    stretches = [(name, next(group)[0]) for name, group in itertools.groupby(ahead, key=lambda pair: pair[1])]
    first, *later = stretches
    if not later:
        return f"{first[0]} is fastest for any number of steps up to {MAX_STEPS}"
    turns = ", then ".join(f"{name} from step {steps}" for name, steps in later)
    return f"{first[0]} is fastest at first, {turns}"


def _alone(line: TotalLine) -> str:
    before = line.setup_ns + line.around_ns + line.first_step_ns - line.warm_step_ns
    even = before / max(line.warm_step_ns, 1)
    if even < 1:
        return f"Each step adds {format_duration(line.warm_step_ns)}; what happens once matters little"
    return (
        f"What happens once costs {format_duration(before)}, as much as {even:,.0f} warm "
        f"step{'s' if round(even) != 1 else ''}"
    )
