"""Total time against the number of steps, and from where one configuration is ahead of another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tracekit.model import Phase, Summary
from tracekit.model.finding import Basis
from tracekit.model.plan import TYPICAL_STEPS, OffloadPlan, Prediction
from tracekit.model.report import TotalLine
from tracekit.units import format_duration

MAX_STEPS = 100
"""The largest number of steps that is shown."""
MAX_PREDICTED = 4
"""Predicted lines: more would hide each other."""


def total_line(name: str, summary: Summary) -> TotalLine | None:
    """The first run's total for any number of steps; None where it has no warm step to carry on with."""
    cold = summary.cold_warm
    if cold is None or cold.warm_step_ns is None or cold.warm_min_ns is None or cold.warm_max_ns is None:
        return None
    run_index = summary.steps[0].run_index
    by_phase = {row.phase: row.wall_ns for row in summary.phases if row.run_index == run_index}
    setup = by_phase.get(Phase.SETUP, 0)
    around = by_phase.get(Phase.ENCODE, 0) + by_phase.get(Phase.DECODE, 0)
    once = setup + around + cold.first_step_ns
    return TotalLine(
        name=name,
        setup_ns=setup,
        around_ns=around,
        first_step_ns=cold.first_step_ns,
        warm_step_ns=cold.warm_step_ns,
        warm_low_ns=cold.warm_min_ns,
        warm_high_ns=cold.warm_max_ns,
        once_low_ns=once,
        once_high_ns=once,
        measured_steps=1 + cold.warm_samples,
        basis=Basis.MEASURED,
    )


def predicted_lines(plan: OffloadPlan) -> list[TotalLine]:
    """The lines of the configurations that fit and are predicted to be fastest for some number of steps, best first.

    Filled up with the next best at `TYPICAL_STEPS`, so that a reader sees what was passed over; not the run's own.
    """
    rows = [row for row in plan.rows if row.fits and row.configuration.name != plan.measured]
    lines = [_predicted(row.configuration.name, row.prediction) for row in rows if row.prediction is not None]
    if not lines:
        return []
    winners = {fastest(lines, steps).name for steps in range(1, MAX_STEPS + 1)}
    ranked = sorted(lines, key=lambda line: (line.name not in winners, line.total_ns(TYPICAL_STEPS)))
    return ranked[: max(MAX_PREDICTED, len(winners))]


def _predicted(name: str, prediction: Prediction) -> TotalLine:
    around = prediction.encode_ns.value + prediction.decode_ns.value
    once = prediction.total_ns(1)
    return TotalLine(
        name=f"{name} (predicted)",
        setup_ns=prediction.setup_ns.value,
        around_ns=around,
        first_step_ns=prediction.first_step_ns.value,
        warm_step_ns=prediction.warm_step_ns.value,
        warm_low_ns=prediction.warm_step_ns.low,
        warm_high_ns=prediction.warm_step_ns.high,
        once_low_ns=once.low,
        once_high_ns=once.high,
        measured_steps=0,
        basis=Basis.PREDICTED,
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
