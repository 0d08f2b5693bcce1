"""What one arm's runs say: its times by window, and its row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import median

from tracekit.model.causes import Cause
from tracekit.model.experiment import Arm, ArmRow, ArmRun, Experiment, Outcome, Window
from tracekit.model.summary import Summary
from tracekit.model.tables import Phase


def window_ns(summary: Summary, window: Window) -> int | None:
    """How long a window of the process's first run took; None where there is no such step."""
    if window == Window.RUN:
        return sum(row.wall_ns for row in summary.phases if row.run_index == 0 and row.phase != Phase.SETUP) or None
    cold = summary.cold_warm
    if cold is None:
        return None
    return _of_steps(window, cold.first_step_ns, cold.warm_step_ns)


def inside_ns(summary: Summary, window: Window, causes: Collection[Cause]) -> int | None:
    """How much of a window of the process's first run these causes took; None where they were not recorded for it."""
    if not summary.causes or window == Window.RUN:
        return None
    first, warm = (_causes_of_run(summary, is_step) for is_step in (_is_first, _is_later))
    if not warm and window != Window.FIRST:
        return None
    return _of_steps(window, *(sum(found.get(cause, 0) for cause in causes) for found in (first, warm)))


def _of_steps(window: Window, first: int, warm: int | None) -> int | None:
    if window == Window.FIRST:
        return first
    if warm is None:
        return None
    return warm if window == Window.WARM else first - warm


def used_summaries(experiment: Experiment, arm: str) -> dict[int, Summary]:
    """The summaries of an arm's runs that may be used, by block. A void or failed run never is."""
    return {
        run.block: run.summary
        for run in experiment.runs
        if run.arm == arm and run.outcome == Outcome.DONE and run.summary is not None
    }


def arm_row(experiment: Experiment, arm: Arm) -> ArmRow:
    """One arm over its blocks."""
    runs = [run for run in experiment.runs if run.arm == arm.name]
    counts = Counter(run.outcome for run in runs)
    used = [summary for _, summary in sorted(used_summaries(experiment, arm.name).items())]
    return ArmRow(
        arm=arm.name,
        doc=arm.doc,
        used=len(used),
        void=counts[Outcome.VOID],
        failed=counts[Outcome.FAILED],
        planned=counts[Outcome.PLANNED],
        setup_ns=_median(summary.setup_ns for summary in used),
        first_ns=_median(window_ns(summary, Window.FIRST) for summary in used),
        first_ns_all=[ns for summary in used if (ns := window_ns(summary, Window.FIRST)) is not None],
        warm_ns=_median(window_ns(summary, Window.WARM) for summary in used),
        run_ns=_median(window_ns(summary, Window.RUN) for summary in used),
        wall_ns=_median(run.wall_ns for run in runs if run.outcome == Outcome.DONE),
        first_read_bytes=_median(summary.paging.first_read_bytes for summary in used if summary.paging),
        later_read_bytes=_median(summary.paging.later_read_bytes for summary in used if summary.paging),
        peak_allocated_bytes=_median(summary.peak_allocated_bytes for summary in used),
        state=used[-1].conditions if used else None,
        first_causes_ns=_causes(used, _is_first),
        warm_causes_ns=_causes(used, _is_later),
        reasons=reasons(runs),
        left_out=experiment.plan.left_out.get(arm.name, ""),
    )


def reasons(runs: Sequence[ArmRun]) -> list[str]:
    """Why runs are void or failed, each reason once."""
    return list(dict.fromkeys(run.reason for run in runs if run.outcome in (Outcome.VOID, Outcome.FAILED)))


def _is_first(step: int) -> bool:
    return step == 0


def _is_later(step: int) -> bool:
    return step > 0


def _causes(summaries: Sequence[Summary], is_step: Callable[[int], bool]) -> dict[Cause, int]:
    """Medians by cause: over the matching steps of a process's first run, then over processes."""
    by_run = [_causes_of_run(summary, is_step) for summary in summaries if summary.causes]
    return {
        cause: round(median(run.get(cause, 0) for run in by_run))
        for cause in Cause
        if any(cause in run for run in by_run)
    }


def _causes_of_run(summary: Summary, is_step: Callable[[int], bool]) -> Mapping[Cause, int]:
    durations: dict[Cause, list[int]] = {}
    for row in summary.causes:
        if row.run_index == 0 and is_step(row.step_index):
            durations.setdefault(row.cause, []).append(row.duration_ns)
    return {cause: round(median(values)) for cause, values in durations.items()}


def _median(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(median(known)) if known else None
