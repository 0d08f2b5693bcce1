"""What is not worth doing: the usual suspects that this run's own figures clear, with the most each could save."""

from __future__ import annotations

from collections.abc import Sequence

from tracekit.analysis.verdict import knows_kernels
from tracekit.model import Cause, Summary
from tracekit.model.plan import TYPICAL_STEPS, OffloadPlan
from tracekit.model.report import StepParts
from tracekit.units import format_duration, format_share

_SUSPECTS = {
    Cause.ALLOCATION: "Keeping the allocator's cache, or allocating less",
    Cause.HOOKS: "Cheaper offload hooks",
    Cause.COMPUTE: "Faster kernels, or torch.compile",
    Cause.DISK: "A faster disk",
    Cause.MAPPING: "Touching the weights' pages beforehand",
}
"""What people try first, by the cause that it would remove."""
_ADVISED = {Cause.ALLOCATION: "cache-clearing", Cause.MAPPING: "mapped-weights"}
"""The finding that advises what a suspect's cause would be removed by: it is then worth it, if little."""
_LITTLE = 0.1
"""Share of all steps' time below which removing a cause is not worth the trouble."""


def slower(plan: OffloadPlan) -> list[str]:
    """A sentence for each configuration that would fit and is predicted to take no less than the profiled one."""
    own = next((row for row in plan.rows if row.configuration.name == plan.measured), None)
    if own is None or own.prediction is None:
        return []
    total = own.prediction.total_ns(TYPICAL_STEPS)
    sentences = []
    for row in plan.rows:
        if row is own or not row.fits or row.prediction is None:
            continue
        more = row.prediction.total_ns(TYPICAL_STEPS).less(total)
        if more.value >= 0:
            how = f"{format_duration(more.value)} longer than" if more.low > 0 else "no less than"
            sentences.append(
                f"{row.configuration.name}: predicted to take {how} {plan.measured} in {TYPICAL_STEPS} steps."
            )
    return sentences


def not_worth(summary: Summary, steps: Sequence[StepParts]) -> list[str]:
    """A sentence for each suspect that takes little of the steps; none where causes are not known."""
    wall = sum(step.wall_ns for step in steps)
    if not summary.causes or not wall or not knows_kernels(summary):
        return []
    sentences = []
    advised = {finding.slug for finding in summary.findings}
    for cause, what in _SUSPECTS.items():
        if _ADVISED.get(cause) in advised:
            continue
        took = sum(part.duration_ns for step in steps for part in step.parts if part.name == cause)
        if took >= _LITTLE * wall:
            continue
        if not took:
            sentences.append(f"{what}: saves nothing, no step has any {cause}.")
            continue
        sentences.append(
            f"{what}: saves at most {format_duration(took)} of the {format_duration(wall)} in all steps "
            f"({format_share(took / wall)})."
        )
    return sentences
