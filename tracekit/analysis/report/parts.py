"""Each step's wall time in exclusive parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tracekit.model import StepRow, Summary, Timeline
from tracekit.model.report import COMPUTING, COPYING, NEITHER, Part, StepParts


def step_parts(timeline: Timeline, summary: Summary) -> list[StepParts]:
    """The steps of all runs in order, by cause where causes are known, else by what the device did."""
    causes: dict[tuple[int, int], list[Part]] = defaultdict(list)
    for row in summary.causes:
        causes[row.run_index, row.step_index].append(Part(name=str(row.cause), duration_ns=row.duration_ns))
    times = {
        (int(row["run_index"]), int(row["step_index"])): (int(row["start_ns"]), int(row["end_ns"]))
        for row in timeline.steps.to_dict("records")
    }
    several = len({step.run_index for step in summary.steps}) > 1
    steps = []
    for step in summary.steps:
        key = step.run_index, step.step_index
        start_ns, end_ns = times[key]
        label = f"{step.run_index + 1}.{step.step_index + 1}" if several else str(step.step_index + 1)
        steps.append(
            StepParts(
                label=label,
                run_index=step.run_index,
                step_index=step.step_index,
                start_ns=start_ns,
                end_ns=end_ns,
                wall_ns=step.wall_ns,
                parts=[part for part in causes.get(key) or _activity(step) if part.duration_ns],
            )
        )
    return steps


def find_step(steps: Sequence[StepParts], row: StepRow | None) -> StepParts | None:
    """The parts of that step."""
    if row is None:
        return None
    key = row.run_index, row.step_index
    return next((step for step in steps if (step.run_index, step.step_index) == key), None)


def _activity(step: StepRow) -> list[Part]:
    amounts = {COPYING: step.exposed_copy_ns, COMPUTING: step.compute_ns, NEITHER: step.rest_ns}
    return [Part(name=name, duration_ns=amount) for name, amount in amounts.items()]
