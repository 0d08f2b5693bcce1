"""Made-up experiments: arms with chosen times, as if they had run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracekit.experiment.paging import paging_plan
from tracekit.model import (
    Cause,
    CauseRow,
    ColdWarm,
    Conditions,
    Evidence,
    Paging,
    PagingEvidence,
    PhaseRow,
    StepRow,
    Summary,
)
from tracekit.model.experiment import ArmRun, Experiment, Outcome, Plan

S = 1_000_000_000


def make_summary(first_s: float, warm_s: float, later: int = 3, **changes: Any) -> Summary:
    """A run whose later steps all took the same; half of each step is link, a tenth unattributed."""
    walls = [round(first_s * S)] + [round(warm_s * S)] * later
    amounts = dict.fromkeys(
        ("copy_count", "h2d_bytes", "d2h_bytes", "h2d_ns", "copy_ns", "exposed_copy_ns", "compute_ns", "tracekit_ns"), 0
    )
    steps = [
        StepRow(run_index=0, step_index=index, wall_ns=wall, rest_ns=wall, **amounts)
        for index, wall in enumerate(walls)
    ]
    causes = [
        CauseRow(run_index=0, step_index=index, cause=cause, duration_ns=wall * share // 10, evidence=Evidence.MEASURED)
        for index, wall in enumerate(walls)
        for cause, share in ((Cause.LINK, 9), (Cause.UNATTRIBUTED, 1))
    ]
    phases = [
        PhaseRow(run_index=0, phase=phase, wall_ns=wall, rest_ns=wall, **amounts)
        for phase, wall in (("setup", 7 * S), ("denoise", sum(walls)))
    ]
    fields: dict[str, Any] = {
        "path": "block-0/arm", "workload": "w", "pipeline_class": "FluxPipeline", "mode": "sequential",
        "device_name": "NVIDIA H100", "emulated": False, "activity": "cupti", "complete": True,
        "incomplete_reason": "", "verdict": "", "denoisers": ["transformer"], "total_ns": sum(walls),
        "setup_ns": 7 * S, "h2d_bytes": 0, "d2h_bytes": 0, "h2d_bytes_by_memory": {}, "peak_allocated_bytes": None,
        "peak_reserved_bytes": None, "steps": steps, "phases": phases, "causes": causes, "modules": [],
        "cold_warm": ColdWarm(
            first_step_ns=walls[0], warm_step_ns=walls[1] if later else None, warm_min_ns=None, warm_max_ns=None,
            warm_samples=later, first_copy_ns=0, warm_copy_ns=None, first_h2d_bytes=0, warm_h2d_bytes=None,
        ),
        "paging": PagingEvidence(
            paging=Paging.COLD_ONLY, reason="", mapped_bytes=0, first_read_bytes=1000, later_read_bytes=0,
            resident_before=None, paged_steps=[],
        ),
        "unattributed_copies": 0, "device_only_copies": 0, "warnings": [],
        "conditions": Conditions(resident_share=0.0),
    }  # fmt: skip
    return Summary(**(fields | changes))


def make_experiment(
    times: Mapping[str, Sequence[tuple[float, float] | str | None]], plan: Plan | None = None
) -> Experiment:
    """An experiment in which each arm's blocks took (step 1, a later step) seconds.

    None: not run yet. A text: why it is void.
    """
    plan = plan or paging_plan("w", ["--steps", "4"], repeats=len(next(iter(times.values()))), arms=list(times))
    runs = []
    for turn in plan.turns:
        told = times[turn.arm][turn.block]
        run = ArmRun(block=turn.block, arm=turn.arm)
        if isinstance(told, str):
            # What it measured is there, and must not be used.
            run.outcome, run.reason, run.summary = Outcome.VOID, told, make_summary(1000, 1000)
        elif told is not None:
            run.outcome, run.wall_ns, run.summary = Outcome.DONE, 30 * S, make_summary(*told)
        runs.append(run)
    return Experiment(tracekit_version="0", created="2026-01-02T03:04:05+00:00", plan=plan, runs=runs)
