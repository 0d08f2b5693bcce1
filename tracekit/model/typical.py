"""Which steps stand for warm ones, and which single step stands for them."""

from __future__ import annotations

from collections.abc import Sequence

from tracekit.model.causes import Cause, Paging
from tracekit.model.summary import CauseRow, PagingEvidence, StepRow, Summary


def warm_steps(steps: Sequence[StepRow], paging: PagingEvidence | None = None) -> list[StepRow]:
    """All but each run's first step and those that paged; where every later step paged, all later ones."""
    paged = set(paging.paged_steps) if paging is not None else set()
    later = [step for step in steps if step.step_index > 0]
    return [step for step in later if (step.run_index, step.step_index) not in paged] or later


def typical_step(summary: Summary) -> StepRow | None:
    """The step of median wall time among the first run's warm ones (of two in the middle the faster); None: no later.

    One step that was, not figures from several: its causes add up to its wall time.
    """
    if not summary.steps:
        return None
    first_run = [step for step in summary.steps if step.run_index == summary.steps[0].run_index]
    warm = sorted(warm_steps(first_run, summary.paging), key=lambda step: (step.wall_ns, step.step_index))
    return warm[(len(warm) - 1) // 2] if warm else None


def step_causes(summary: Summary, step: StepRow) -> dict[Cause, CauseRow]:
    """A step's causes; empty where the device's record of it is missing."""
    return {
        row.cause: row for row in summary.causes if (row.run_index, row.step_index) == (step.run_index, step.step_index)
    }


def always_pages(summary: Summary) -> bool:
    """Whether no step of the run is warm, since each one pages."""
    return summary.paging is not None and summary.paging.paging is Paging.ALWAYS
